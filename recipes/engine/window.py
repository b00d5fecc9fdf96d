"""What the steps since the last report add up to, kept on the device until somebody asks."""

import torch
from accelerate import Accelerator

from vanilla_transformers.recipes.engine.durations import TrainState
from vanilla_transformers.recipes.errors import UserError

_NEVER = 2**62


class Window:
    """Sums up the steps since the last report on the device, so that no step waits for it."""

    def __init__(self, state: TrainState, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.since = state
        self.weighted_loss = torch.zeros((), dtype=torch.float64, device=accelerator.device)
        self.first_bad_step = torch.tensor(_NEVER, device=accelerator.device)
        self.num_targets = 0
        self.learning_rate = 0.0
        self.norm: torch.Tensor | None = None

    def add(self, loss: torch.Tensor, norm: torch.Tensor | None, num_targets: int, rate: float, step: int) -> None:
        """Notes a step: its share of the loss, the gradient norm, and whether both are finite."""
        self.weighted_loss += loss.double() * num_targets
        self.num_targets += num_targets
        self.learning_rate = rate
        self.norm = norm
        finite = torch.isfinite(loss)
        if norm is not None and self.accelerator.scaler is None:  # fp16 finds overflows itself and skips the step
            finite = finite & torch.isfinite(norm)
        self.first_bad_step = torch.where(finite, self.first_bad_step, self.first_bad_step.clamp(max=step))

    def read(self, state: TrainState) -> dict[str, float] | None:
        """The figures of the window, which is over then; None if no step was taken.

        Raises:
            UserError: a loss or gradient was not finite.
        """
        if not self.num_targets:
            return None
        weighted_loss, first_bad_step = self._over_processes()
        if first_bad_step < _NEVER:
            raise UserError(
                f"step {first_bad_step}: the loss or its gradient is not finite; nothing was saved after it; "
                f"lower optimizer.learning_rate, lengthen schedule.warmup or use precision=fp32"
            )
        figures = {"loss": weighted_loss / self.num_targets, "learning_rate": self.learning_rate}
        if self.norm is not None:
            figures["grad_norm"] = float(self.norm)
        seconds = max(state.elapsed_seconds - self.since.elapsed_seconds, 1e-9)
        figures["tokens_per_second"] = (state.tokens - self.since.tokens) / seconds
        return figures

    def _over_processes(self) -> tuple[float, int]:
        weighted_loss, first_bad_step = self.weighted_loss, self.first_bad_step
        if self.accelerator.num_processes > 1:
            weighted_loss = self.accelerator.reduce(weighted_loss, "sum")
            first_bad_step = self.accelerator.gather(first_bad_step.reshape(1)).min()
        return float(weighted_loss), int(first_bad_step)
