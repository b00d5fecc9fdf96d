"""The training loop of every recipe.

The loss of a step is the sum over its targets divided by their number, which is counted over all micro-batches and
processes before the first of them is computed: how the batch is cut does not change the gradient.
"""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from vanilla_transformers.recipes.engine.checkpoints import RunFolder
from vanilla_transformers.recipes.engine.durations import TrainState
from vanilla_transformers.recipes.engine.evaluation import evaluate
from vanilla_transformers.recipes.engine.experiment import Experiment
from vanilla_transformers.recipes.engine.folders import complete_folder
from vanilla_transformers.recipes.engine.optimization import build_optimizer, build_schedule
from vanilla_transformers.recipes.engine.plan import Plan, Rows, share
from vanilla_transformers.recipes.engine.signals import StopRequest
from vanilla_transformers.recipes.engine.task import Batch, FitResult, Task
from vanilla_transformers.recipes.engine.tracking import MetricsLog, ProgressLine, Stopwatch
from vanilla_transformers.recipes.engine.window import Window


def fit(task: Task, experiment: Experiment, run_folder: RunFolder, accelerator: Accelerator) -> FitResult:
    """Trains until `max_duration`, or until SIGINT or SIGTERM asks to save and stop.

    Leaves `best/` and `final/` in the run folder; a run that was stopped leaves a checkpoint.

    Raises:
        UserError: the loss is no longer finite, the disk is full, a row does not fit into a batch, or the run in the
            folder cannot be continued.
    """
    with StopRequest() as stop:
        loop = _Loop(task, experiment, run_folder, accelerator, stop)
        try:
            return loop.run()
        finally:
            loop.progress.close()


class _Loss(nn.Module):
    """Returns the loss alone, so that Accelerate, which turns outputs into fp32, leaves the logits as they are."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        return self.model(**batch, num_items_in_batch=num_items_in_batch).loss


class _Loop:
    """One run: its parts and its state."""

    def __init__(
        self, task: Task, experiment: Experiment, folder: RunFolder, accelerator: Accelerator, stop: StopRequest
    ) -> None:
        self.task, self.experiment, self.folder = task, experiment, folder
        self.accelerator, self.stop = accelerator, stop
        self.plan = Plan(task.lengths, experiment.batch.tokens, experiment.seed)
        self.schedule = build_schedule(
            experiment.optimizer, experiment.schedule, experiment.max_duration, task.model.config.hidden_size
        )
        optimizer = build_optimizer(task.model, experiment.optimizer)
        self.loss, self.optimizer = accelerator.prepare(_Loss(task.model), optimizer)
        self.parameters = list(self.loss.parameters())  # gathering them costs a millisecond
        self.metrics = MetricsLog(folder.metrics_file)
        self.state = self._resume()
        self.progress = ProgressLine(accelerator.is_main_process, experiment.max_duration.progress(self.state))
        self.watch = Stopwatch(self.state.elapsed_seconds)
        self.window = Window(self.state, accelerator)

    def run(self) -> FitResult:
        """Steps until the end, then scores and saves."""
        self._introduce()
        self.loss.train()
        stopped = False
        while not stopped and not self.experiment.max_duration.reached(self.state):
            before = self.state
            stopped = self._step()
            self._after_step(before)
        if stopped:
            return self._save_and_stop()
        return self._finish()

    def _introduce(self) -> None:
        """Tells the size of the model, of the data and of an epoch."""
        num_parameters = sum(parameter.numel() for parameter in self.parameters)
        num_steps, padding = len(self.plan.epoch(self.state.epoch)), self.plan.padding_share(self.state.epoch)
        self.progress.note(
            f"{num_parameters:,} parameters, {len(self.task.lengths):,} rows, {num_steps:,} steps an epoch, "
            f"{padding:.1%} padding"
        )

    # One step

    def _step(self) -> bool:
        """Takes an optimizer step; whether somebody asked to stop."""
        self.watch.start()
        rows = self.plan.epoch(self.state.epoch)[self.state.step_in_epoch]
        batches = self._micro_batches(rows)
        num_targets = self._sum_over_processes(sum(self.task.num_targets(batch) for batch, weight in batches if weight))
        self._seed_step()
        learning_rate = self._set_learning_rate()
        loss = self._backward(batches, num_targets)
        norm = self._clip()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.window.add(loss, norm, int(num_targets), learning_rate, self.state.global_step + 1)
        stopped, seconds = self._agree()
        self.state = self._advanced(self.plan.num_tokens(rows), seconds)
        return stopped

    def _micro_batches(self, rows: Rows) -> list[tuple[Batch, float]]:
        """This process's micro-batches with their weights: 0 for one that only keeps step with the others."""
        num_micro, rank = self.experiment.batch.micro_batches, self.accelerator.process_index
        num_parts = num_micro * self.accelerator.num_processes
        batches: list[tuple[Batch, float]] = []
        for micro in range(num_micro):
            part = share(rows, micro * self.accelerator.num_processes + rank, num_parts)
            if len(part) or not batches:
                weight = 1.0 if len(part) else 0.0
                part = part if len(part) else rows[:1]
                batches.append((self.task.make_batch(part, self.state.epoch), weight))
        return batches

    def _backward(self, batches: list[tuple[Batch, float]], num_targets: float) -> torch.Tensor:
        """Adds up the gradients of the step; returns this process's share of the loss."""
        total = torch.zeros((), device=self.accelerator.device)
        count = torch.tensor(num_targets, dtype=torch.float32, device=self.accelerator.device)
        for index, (batch, weight) in enumerate(batches):
            is_last = index == len(batches) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.loss):
                loss = self.loss(self._on_device(batch), count) * weight
                # Data-parallel training averages the gradients over the processes; the loss is a sum over them.
                self.accelerator.backward(loss * self.accelerator.num_processes)
            total += loss.detach()
        return total

    def _on_device(self, batch: Batch) -> Batch:
        return {name: tensor.to(self.accelerator.device, non_blocking=True) for name, tensor in batch.items()}

    def _clip(self) -> torch.Tensor | None:
        """Scales the gradients down to the allowed norm; returns the norm that they had."""
        limit = self.experiment.optimizer.max_grad_norm
        if limit is None:
            return None
        return self.accelerator.clip_grad_norm_(self.parameters, limit)

    def _set_learning_rate(self) -> float:
        learning_rate = self.schedule.learning_rate(self.state)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        return learning_rate

    def _seed_step(self) -> None:
        """Makes dropout a function of seed, step and process, so that a resumed run repeats it."""
        entropy = [self.experiment.seed, self.state.global_step, self.accelerator.process_index]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
        if self.accelerator.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # torch.manual_seed asks every kind of device: 0.5 ms
        else:
            torch.manual_seed(seed)

    def _advanced(self, num_tokens: int, seconds: float) -> TrainState:
        state = replace(
            self.state,
            global_step=self.state.global_step + 1,
            step_in_epoch=self.state.step_in_epoch + 1,
            steps_in_epoch=len(self.plan.epoch(self.state.epoch)),
            tokens=self.state.tokens + num_tokens,
            elapsed_seconds=seconds,
        )
        if state.step_in_epoch < state.steps_in_epoch:
            return state
        return replace(state, epoch=state.epoch + 1, step_in_epoch=0)

    # What the processes must agree on

    def _sum_over_processes(self, count: int) -> float:
        if self.accelerator.num_processes == 1:
            return count
        return self._reduce([count])[0]

    def _agree(self) -> tuple[bool, float]:
        """Whether any process was asked to stop, and the main process's clock: the same on all of them."""
        if self.accelerator.num_processes == 1:
            return bool(self.stop), self.watch.seconds
        seconds = self.watch.seconds if self.accelerator.is_main_process else 0.0
        stops, seconds = self._reduce([float(bool(self.stop)), seconds])
        return stops > 0, seconds

    def _reduce(self, figures: list[float]) -> list[float]:
        tensor = torch.tensor(figures, dtype=torch.float64, device=self.accelerator.device)
        return self.accelerator.reduce(tensor, "sum").tolist()

    # Between steps

    def _after_step(self, before: TrainState) -> None:
        scoring, checkpoint = self.experiment.evaluation.every, self.experiment.checkpoint.every
        score_now = scoring is not None and scoring.fell_due(before, self.state)
        save_now = checkpoint is not None and checkpoint.fell_due(before, self.state)
        # A checkpoint ends the window of the loss, so that a run resumed from it reports the same figures.
        if score_now or save_now or self.experiment.log_every.fell_due(before, self.state):
            self._report()
        if score_now:
            self._score()
        if save_now:
            self._save()

    def _report(self) -> None:
        """Reads the losses since the last report from the device, and refuses to go on if one is not finite."""
        figures = self.window.read(self.state)
        self.window = Window(self.state, self.accelerator)
        if figures is None:
            return
        if self.accelerator.is_main_process:
            self.metrics.write(self.state, figures)
        self.progress.update(self.experiment.max_duration.progress(self.state), self.state, figures)

    def _score(self) -> None:
        """Scores the model and keeps it as `best/` if it is."""
        self.watch.stop()
        self.state = replace(self.state, scored_step=self.state.global_step)
        self.loss.eval()
        batch_tokens = self.experiment.evaluation.batch_tokens
        scores = evaluate(self.task.model, self.task.validation, batch_tokens, self.accelerator)
        self.loss.train()
        if self.accelerator.is_main_process:
            self.metrics.write(self.state, {f"validation_{name}": value for name, value in scores.items()})
        shown = " ".join(f"{name} {value:.4g}" for name, value in scores.items() if not isinstance(value, str))
        self.progress.note(f"validation at step {self.state.global_step}: {shown}")
        score, best = scores[self.task.metric], self.state.best_score
        if best is None or (score > best if self.task.greater_is_better else score < best):
            self.state = replace(self.state, best_score=score, best_step=self.state.global_step)
            self._save_model("best")

    def _save_model(self, name: str) -> None:
        if self.accelerator.is_main_process:
            with complete_folder(self.folder.path / name) as folder:
                self.task.save_model(self.task.model, folder)
        self.accelerator.wait_for_everyone()

    def _save(self) -> None:
        self.watch.stop()
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            tensors = {
                "model": self.task.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else {},
            }
            self.folder.save(self.state, self.task.fingerprint, tensors)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> TrainState:
        """Continues from the newest checkpoint, or starts."""
        checkpoint = None if self.experiment.resume == "never" else self.folder.newest(self.task.fingerprint)
        self.accelerator.wait_for_everyone()
        state = TrainState() if checkpoint is None else checkpoint.state
        if self.accelerator.is_main_process:
            self.folder.begin()
            self.metrics.rewind(state.global_step if checkpoint else -1)
        if checkpoint is not None:
            tensors = checkpoint.load_tensors()
            self.task.model.load_state_dict(tensors["model"])
            self.optimizer.load_state_dict(tensors["optimizer"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(tensors["scaler"])
        self.accelerator.wait_for_everyone()
        return state

    def _save_and_stop(self) -> FitResult:
        self._report()
        self._save()
        self.progress.note(
            f"{self.stop.signal_name or 'another process'} stopped the run at step {self.state.global_step}; "
            f"resume=if_available continues it"
        )
        return FitResult(self.state, self.stop.signal_name or "SIGTERM")

    def _finish(self) -> FitResult:
        self._report()
        if self.state.scored_step != self.state.global_step:
            self._score()
        if self.experiment.checkpoint.every is not None:
            self._save()
        self._save_model("final")
        return FitResult(self.state)
