"""The training loop of every recipe."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator

from vanilla_recipes.engine.averaging import AveragedWeights, average_with
from vanilla_recipes.engine.compilation import as_written, prepare_layers
from vanilla_recipes.engine.evaluation import evaluate
from vanilla_recipes.engine.figures import NotFiniteError, Throughput, Window
from vanilla_recipes.engine.micro_batches import find_micro_batches
from vanilla_recipes.engine.optimization import build_optimizer, build_schedule, without_wrapper
from vanilla_recipes.engine.plan import Plan
from vanilla_recipes.engine.side_by_side import side_by_side
from vanilla_recipes.engine.step import Gradients, Loss, over_processes
from vanilla_recipes.engine.step_errors import EVALUATION_REMEDY, TRAINING_REMEDY, as_user_errors, not_finite
from vanilla_recipes.engine.task import FitResult, Task
from vanilla_recipes.folders import complete_folder
from vanilla_recipes.processes.signals import StopRequest
from vanilla_recipes.processes.whole_tensors import (
    Tensors,
    WholeModel,
    load_training_state,
    training_state,
    whole,
)
from vanilla_recipes.reports.metrics import MetricsLog
from vanilla_recipes.reports.progress import ProgressLine, Stopwatch
from vanilla_recipes.reports.trackers import start_trackers
from vanilla_recipes.run_folder.checkpoints import RunFolder
from vanilla_recipes.settings.experiment import Experiment
from vanilla_recipes.settings.train_state import TrainState


def fit(task: Task, experiment: Experiment, run_folder: RunFolder, accelerator: Accelerator) -> FitResult:
    """Trains until `max_duration`, or until SIGINT, SIGTERM or `max_wall_time` stops the run.

    A run that ends by itself, at `max_duration` or by early stopping, writes the models `best/` and `final/` to the run
    folder. A run that is stopped writes a checkpoint.

    Raises:
        UserError: If the loss or the gradient is not finite, if there is not enough disk space or memory, if a row does
            not fit into a batch, or if the run in the folder cannot be continued.
    """
    with StopRequest(experiment.max_wall_time) as stop:
        loop = Loop(task, experiment, run_folder, accelerator, stop)
        try:
            return loop.run()
        finally:
            loop.progress.close()
            loop.metrics.draw()


class Loop:
    """A training run: its model, optimizer, data plan and logs, and its current state."""

    def __init__(
        self, task: Task, experiment: Experiment, folder: RunFolder, accelerator: Accelerator, stop: StopRequest
    ) -> None:
        self.task, self.experiment, self.folder = task, experiment, folder
        self.accelerator, self.stop = accelerator, stop
        batch = experiment.batch
        self.plan = Plan(task.lengths, batch.tokens, experiment.seed, batch.packing, batch.pack_length, batch.groups)
        self.schedule = build_schedule(
            experiment.optimizer, experiment.schedule, experiment.max_duration, task.model.config.hidden_size
        )
        prepare_layers(task.model, experiment)
        optimizer = build_optimizer(task.model, experiment.optimizer)
        self.whole_model = WholeModel(task.model, accelerator)
        self.loss, prepared = accelerator.prepare(Loss(task.model), optimizer)
        self.optimizer = without_wrapper(prepared)
        self.parameters = list(self.loss.parameters())  # listed only once, because it takes a millisecond
        threads = side_by_side(task.model, experiment, accelerator)
        self.gradients = Gradients(task, self.loss, accelerator, experiment.seed, threads)
        self.average = None if experiment.averaging.ema_decay is None else AveragedWeights(task.model)
        self.saved: TrainState | None = None
        self.metrics = MetricsLog(folder.metrics_file, accelerator)
        self.state = self._resume()
        start_trackers(experiment, self.state, accelerator)
        self.progress = ProgressLine(accelerator.is_main_process, experiment.max_duration.progress(self.state))
        self.watch = Stopwatch(self.state.elapsed_seconds)
        self.window = Window(accelerator)
        self.throughput = Throughput(task, experiment, accelerator, self.state)

    def run(self) -> FitResult:
        """Trains until the end of the run or a request to stop, then scores and saves the model."""
        self._introduce()
        self.loss.train()
        self.state = replace(self.state, micro_batches=self._num_micro_batches())
        stopped = False
        while not stopped and not self._is_over():
            before = self.state
            with as_user_errors(f"step {self.state.global_step + 1}", TRAINING_REMEDY):
                stopped = self._step()
            self._after_step(before)
        if stopped:
            return self._save_and_stop()
        return self._finish()

    def _is_over(self) -> bool:
        if self.experiment.max_duration.reached(self.state):
            return True
        patience, without_gain = self.experiment.evaluation.patience, self.state.evaluations_without_gain
        if patience is None or without_gain < patience:
            return False
        self.progress.note(f"ends early: no better score in {without_gain} evaluations (evaluation.patience)")
        return True

    def _num_micro_batches(self) -> int:
        """The number of micro-batches: as configured, or with `auto` as determined once at the start of the run.

        A resumed run keeps the number, because another number would change the rounding of the gradients.
        """
        wanted = self.experiment.batch.micro_batches
        if wanted != "auto":
            return wanted
        if self.state.micro_batches is None:
            found = find_micro_batches(self.gradients, self.plan, self.state.epoch)
            self.progress.note(f"batch.micro_batches=auto: {found}")
            return found
        return self.state.micro_batches

    def _introduce(self) -> None:
        """Reports the size of the model, of the data and of an epoch."""
        num_parameters = sum(parameter.numel() for parameter in self.parameters)
        num_trained = sum(parameter.numel() for parameter in self.parameters if parameter.requires_grad)
        trained = "" if num_trained == num_parameters else f" ({num_trained:,} trained)"
        epoch = self.state.epoch
        num_rows, num_steps = len(self.plan.lengths(epoch)), self.plan.num_steps(epoch)
        self.progress.note(
            f"{num_parameters:,} parameters{trained}, {num_rows:,} rows, {num_steps:,} steps an epoch, "
            f"{self.plan.padding_share(epoch):.1%} padding"
        )

    # One step

    def _step(self) -> bool:
        """Takes one optimizer step; returns whether the run must stop."""
        self.watch.start()
        epoch = self.state.epoch
        groups = self.plan.batch(epoch, self.state.step_in_epoch)
        micro_batches = self.gradients.cut(groups, epoch, self.state.micro_batches or 1)
        num_targets = self.gradients.num_targets(micro_batches)
        learning_rate = self._set_learning_rate()
        loss = self.gradients.add_up(micro_batches, num_targets, self.state.global_step)
        norm = self._clip()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = self.experiment.averaging.ema_decay
        if self.average is not None and decay is not None:
            self.average.update(self.state.global_step + 1, decay)
        self.window.add(loss, norm, num_targets, learning_rate, self.state.global_step + 1)
        rows = np.concatenate(groups)
        self.throughput.add((each.batch for each in micro_batches), self.plan.lengths(epoch)[rows], num_targets)
        stopped, seconds = self._agree()
        num_tokens, num_steps = self.plan.num_tokens(rows, epoch), self.plan.num_steps(epoch)
        self.state = self.state.after_step(num_tokens, seconds, num_steps)
        return stopped

    def _clip(self) -> torch.Tensor | None:
        """Clips the gradients to `max_grad_norm`; returns their norm before clipping, or None without clipping."""
        limit = self.experiment.optimizer.max_grad_norm
        if limit is None:
            return None
        return whole(torch.as_tensor(self.accelerator.clip_grad_norm_(self.parameters, limit)))

    def _set_learning_rate(self) -> float:
        learning_rate = self.schedule.learning_rate(self.state)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        return learning_rate

    def _agree(self) -> tuple[bool, float]:
        """Whether any process was asked to stop, and the main process's training seconds; equal on all processes."""
        if self.accelerator.num_processes == 1:
            return bool(self.stop), self.watch.seconds
        seconds = self.watch.seconds if self.accelerator.is_main_process else 0.0
        stops, seconds = over_processes(self.accelerator, [float(bool(self.stop)), seconds])
        return stops > 0, seconds

    # Between steps

    def _after_step(self, before: TrainState) -> None:
        scoring, checkpoint = self.experiment.evaluation.every, self.experiment.checkpoint.every
        score_now = scoring is not None and scoring.fell_due(before, self.state)
        save_now = checkpoint is not None and checkpoint.fell_due(before, self.state)
        # A checkpoint ends the window of the reported loss, so that a resumed run reports the same figures.
        if score_now or save_now or self.experiment.log_every.fell_due(before, self.state):
            self._report()
        if score_now:
            self._score()
        if save_now:
            self.state = replace(self.state, checkpoint_step=self.state.global_step)
            self._save()

    def _report(self) -> None:
        """Reads the losses since the last report from the device, and writes and shows the figures.

        Raises:
            UserError: If a loss or gradient norm is not finite.
        """
        try:
            figures = self.window.read()
        except NotFiniteError as error:
            raise not_finite(error.step, self.state, self.plan) from error
        self.window = Window(self.accelerator)
        if figures is None:
            return
        figures |= self.throughput.read(self.state)
        self.metrics.write(self.state, figures)
        self.progress.update(self.experiment.max_duration.progress(self.state), self.state, figures)

    def _score(self) -> None:
        """Scores the model on the validation rows, and saves it as `best/` if its score is the best so far."""
        self.watch.stop()
        self.loss.eval()
        limits, step = self.experiment.evaluation, self.state.global_step
        with (
            self._kept_weights(),
            self.whole_model() as model,
            as_written(self.experiment),
            as_user_errors(f"evaluation at step {step}", EVALUATION_REMEDY),
        ):
            scores = evaluate(model, self.task.validation, limits.batch_tokens, self.accelerator)
        self.loss.train()
        self.metrics.write(self.state, {f"validation_{name}": value for name, value in scores.items()})
        self.metrics.draw()
        shown = " ".join(f"{name} {value:.4g}" for name, value in scores.items() if not isinstance(value, str))
        self.progress.note(f"validation at step {step}: {shown}")
        best = self.state.best_score
        self.state = self.state.with_score(scores[self.task.metric], self.task.greater_is_better, limits.min_delta)
        if self.state.best_score != best:
            self._save_model("best")

    def _kept_weights(self) -> AbstractContextManager:
        """While active, the model has the weights that are scored and saved: the averaged weights, if there are any."""
        return nullcontext() if self.average is None else self.average.applied()

    def _save_model(self, name: str, raw: bool = False) -> None:
        """Writes a `from_pretrained` folder. With `raw`, it holds the weights of the last step, not the average."""
        with nullcontext() if raw else self._kept_weights(), self.whole_model() as model:
            if self.accelerator.is_main_process:
                with complete_folder(self.folder.path / name) as folder:
                    self.task.save_model(model, folder)
        self.accelerator.wait_for_everyone()

    def _save(self) -> None:
        """Writes a checkpoint, unless the current state is already saved."""
        if self.saved == self.state:
            return
        self.watch.stop()
        tensors = self._state_tensors()
        if self.accelerator.is_main_process:
            self.folder.save(self.state, self.task.fingerprint, tensors)
        self.saved = self.state
        self.accelerator.wait_for_everyone()

    def _state_tensors(self) -> Tensors:
        """The tensors that a resumed run needs: model, optimizer, gradient scaler and averaged weights."""
        tensors = training_state(self.task.model, self.optimizer, self.accelerator)
        return tensors | ({} if self.average is None else {"average": self.average.state_dict()})

    def _resume(self) -> TrainState:
        """Restores the newest checkpoint, or starts a new run; returns the state of the run."""
        checkpoint = None if self.experiment.resume == "never" else self.folder.newest(self.task.fingerprint)
        self.accelerator.wait_for_everyone()
        state = TrainState() if checkpoint is None else replace(checkpoint.state, resumes=checkpoint.state.resumes + 1)
        if self.accelerator.is_main_process:
            self.folder.begin()
            self.metrics.rewind(checkpoint.state if checkpoint else None)
        if checkpoint is not None:
            tensors = checkpoint.load_tensors()
            load_training_state(self.task.model, self.optimizer, self.accelerator, tensors)
            if self.average is not None:
                self.average.load_state_dict(tensors["average"])
            self.saved = state
            if self.accelerator.is_main_process:
                self.folder.prune(state)  # a run killed right after saving has not pruned
        self.accelerator.wait_for_everyone()
        return state

    def _save_and_stop(self) -> FitResult:
        self._report()
        self._save()
        self.progress.note(
            f"{self.stop.reason or 'another process'} stopped the run at step {self.state.global_step}; "
            f"resume=if_available continues it"
        )
        return FitResult(self.state, self.stop.reason or "SIGTERM")

    def _finish(self) -> FitResult:
        self._report()
        if self.experiment.averaging.checkpoints is not None:
            self._average_checkpoints(self.experiment.averaging.checkpoints)
        elif self.state.scored_step != self.state.global_step:
            self._score()
        if self.experiment.checkpoint.every is not None:
            self._save()
        self._save_model("final")
        if self.average is not None:
            self._save_model("final_raw", raw=True)
        return FitResult(self.state)

    def _average_checkpoints(self, count: int) -> None:
        """Averages the last weights with the checkpoints before them, and scores the average."""
        files = self.folder.weights_before(self.state.global_step, count - 1)
        self.average = average_with(self.task.model, files)
        self.progress.note(f"final/ is the average of the last weights and of {len(files)} checkpoints before them")
        if self.state.averaged_step != self.state.global_step:
            self._score()
            self.state = replace(self.state, averaged_step=self.state.global_step)
