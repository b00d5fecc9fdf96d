"""Collects loss, gradient norm and throughput between two reports, and reads them from the device only for a report."""

import math
from collections.abc import Iterable
from itertools import zip_longest

import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from vanilla_recipes.engine.step import over_processes
from vanilla_recipes.engine.task import Batch, Task
from vanilla_recipes.models.stock import is_stock
from vanilla_recipes.reports.flops import TrainingFlops, peak_tflops
from vanilla_recipes.settings.experiment import Experiment
from vanilla_recipes.settings.train_state import TrainState


class NotFiniteError(Exception):
    """A loss or a gradient norm is NaN or infinite.

    Attributes:
        step: the first step with such a value, counted from 1.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"step {step}: the loss or its gradient is not finite")
        self.step = step


class Window:
    """Keeps losses and gradient norms on the device until the next report, so that no step waits for the device."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.learning_rate = 0.0
        self._steps: list[int] = []
        self._num_targets: list[float] = []
        self._losses: list[torch.Tensor] = []
        self._norms: list[torch.Tensor] = []

    def add(self, loss: torch.Tensor, norm: torch.Tensor | None, num_targets: float, rate: float, step: int) -> None:
        """Adds a step.

        Args:
            loss: this process's share of the loss.
            norm: the gradient norm before clipping; None if gradients are not clipped.
            num_targets: the number of targets, summed over all processes.
            rate: the learning rate.
            step: the number of the step, counted from 1.
        """
        self._steps.append(step)
        self._num_targets.append(num_targets)
        self._losses.append(loss)
        if norm is not None:
            self._norms.append(norm)
        self.learning_rate = rate

    def read(self) -> dict[str, float] | None:
        """The mean loss per target, the last learning rate and the last gradient norm of the window.

        Every process must call this method. Start a new window afterwards: a window is not cleared.

        Returns:
            The figures; None if no step was added.

        Raises:
            NotFiniteError: If a loss or gradient norm was not finite.
        """
        if not self._steps:
            return None
        losses = torch.stack(self._losses).tolist()
        norms = torch.stack(self._norms).tolist() if self._norms else []
        self._check_finite(losses, norms)
        weighted = sum(loss * count for loss, count in zip(losses, self._num_targets, strict=True))
        total = over_processes(self.accelerator, [weighted])[0]
        figures = {"loss": total / max(1.0, sum(self._num_targets)), "learning_rate": self.learning_rate}
        return figures | ({"grad_norm": norms[-1]} if norms else {})

    def _check_finite(self, losses: list[float], norms: list[float]) -> None:
        if self.accelerator.scaler is not None:  # in fp16 the gradient scaler detects overflows and skips the step
            norms = []
        figures = zip_longest(self._steps, losses, norms, fillvalue=0.0)
        bad = next((step for step, *values in figures if not all(map(math.isfinite, values))), math.inf)
        if self.accelerator.num_processes > 1:
            bad = self.accelerator.gather(torch.tensor([bad], device=self.accelerator.device)).min().item()
        if bad < math.inf:
            raise NotFiniteError(int(bad))


class Throughput:
    """Measures throughput: tokens per second, padding and MFU between two calls of `read`.

    Args:
        task: the task, whose model is trained.
        experiment: gives the precision and `tracking.peak_tflops`.
        accelerator: the processes and their devices.
        state: the counters at the start of the measurement.
    """

    def __init__(self, task: Task, experiment: Experiment, accelerator: Accelerator, state: TrainState) -> None:
        self._accelerator = accelerator
        self._has_decoder_input = task.model.config.is_encoder_decoder
        self._flops_of = TrainingFlops(task.model)
        # Model FLOPs utilization is computed for models of this package only: FLOPs are counted by layer names, and the
        # layers of the models of transformers have other names.
        peak = None if is_stock(task.model) else peak_tflops(experiment, accelerator.device)
        self._peak_flops = None if peak is None else peak * 1e12 * accelerator.num_processes
        self._begin(state)

    def add(self, batches: Iterable[Batch], lengths: NDArray, num_targets: float) -> None:
        """Adds a step.

        Args:
            batches: the micro-batches of this process.
            lengths: number of tokens of each row of the step without padding, over all processes, shape (rows, sides).
            num_targets: number of targets of the step, summed over all processes.
        """
        self._num_padded += sum(self._num_places(batch) for batch in batches)
        self._num_targets += num_targets
        if self._peak_flops is not None:
            self._flops += self._flops_of(lengths, num_targets)

    def read(self, state: TrainState) -> dict[str, float]:
        """The throughput of all processes since the last call, and the peak memory of this process's GPU in GB.

        `padded_tokens_per_second` includes padding tokens; `padding` is their fraction, from 0 to 1. The memory
        (`device_memory_gb`) is the peak since the start of the process. Every process must call this method.
        """
        seconds = max(state.elapsed_seconds - self._since.elapsed_seconds, 1e-9)
        num_tokens = state.tokens - self._since.tokens
        num_padded = over_processes(self._accelerator, [float(self._num_padded)])[0]
        figures = {
            "tokens_per_second": num_tokens / seconds,
            "padded_tokens_per_second": num_padded / seconds,
            "target_tokens_per_second": self._num_targets / seconds,
            "padding": 1 - num_tokens / num_padded,
        }
        if self._peak_flops is not None:
            figures["mfu"] = self._flops / seconds / self._peak_flops
        if self._accelerator.device.type == "cuda":
            figures["device_memory_gb"] = torch.cuda.max_memory_allocated(self._accelerator.device) / 1e9
        self._begin(state)
        return figures

    def _begin(self, state: TrainState) -> None:
        self._since = state
        self._num_padded, self._num_targets, self._flops = 0, 0.0, 0.0

    def _num_places(self, batch: Batch) -> int:
        """The tokens of a batch, padding included. An encoder-decoder's labels count: they become decoder inputs."""
        return batch["input_ids"].numel() + (batch["labels"].numel() if self._has_decoder_input else 0)
