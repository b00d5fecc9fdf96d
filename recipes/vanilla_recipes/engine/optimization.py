"""The optimizer, and the learning-rate schedules, which are pure functions of the state of the run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.settings.experiment import OptimizerConfig, ScheduleConfig
from vanilla_recipes.settings.train_state import TrainState


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Fused AdamW with weight decay on weight matrices only.

    Biases and norm gains do not decay, because their magnitude matters. Embeddings do not decay, because the row of a
    token would decay at every step but learns only from batches that contain the token.
    """
    embeddings = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [p for p in trained if p.ndim > 1 and id(p) not in embeddings]
    kept = [p for p in trained if p.ndim <= 1 or id(p) in embeddings]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=0.0, betas=config.betas, eps=config.eps, fused=True
    )


def without_wrapper(optimizer: AcceleratedOptimizer) -> AcceleratedOptimizer | torch.optim.Optimizer:
    """The optimizer inside Accelerate's wrapper, if the wrapper adds nothing to it (no gradient scaler).

    In Accelerate 1.15 the wrapper looks for an installed package twice per step and inspects a signature. This takes
    0.1 ms per step.
    """
    adds_nothing = type(optimizer) is AcceleratedOptimizer and optimizer.scaler is None
    return optimizer.optimizer if adds_nothing else optimizer


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a function of the state of the run.

    Args:
        config: the shape of the schedule and its warm-up.
        peak: the learning rate at the end of the warm-up.
        max_duration: the duration of the run, over which the learning rate decays.
    """

    config: ScheduleConfig
    peak: float
    max_duration: Duration

    def learning_rate(self, state: TrainState) -> float:
        """The learning rate of the step after `state`."""
        if self.config.name == "inverse_sqrt":
            return self.peak * inverse_sqrt_factor(self._warmup_ratio(state))
        return self.peak * min(1.0, self._warmup_ratio(state)) * self._decay(state)

    def _warmup_ratio(self, state: TrainState) -> float:
        """The completed fraction of the warm-up, above 1 after its end. The next step counts, as in the 2017 paper."""
        warmup = self.config.warmup
        return math.inf if warmup is None else warmup.ratio(state.during_next_step())

    def _decay(self, state: TrainState) -> float:
        floor = self.config.min_factor
        return floor + (1.0 - floor) * DECAYS[self.config.name](self._decay_progress(state))

    def _decay_progress(self, state: TrainState) -> float:
        """The completed fraction of the decay, from 0 to 1."""
        start = self._decay_start()
        return max(0.0, self.max_duration.progress(state) - start) / (1.0 - start) if start < 1.0 else 0.0

    def _decay_start(self) -> float:
        """The fraction of `max_duration` after which the decay starts.

        `warmup_stable_decay` decays at the end. Other schedules decay from the end of the warm-up. If warm-up and
        `max_duration` have different units, the end of the warm-up is not known in advance, so the decay starts with
        the run and overlaps the warm-up.
        """
        warmup, decay = self.config.warmup, self.config.decay
        if self.config.name == "warmup_stable_decay":
            return 1.0 - (decay.amount / self.max_duration.amount if isinstance(decay, Duration) else decay)
        if warmup is None or warmup.unit != self.max_duration.unit:
            return 0.0
        return min(1.0, warmup.amount / self.max_duration.amount)


def inverse_sqrt_factor(warmup_ratio: float) -> float:
    """min(r, r ** -0.5) for the completed fraction r of the warm-up: linear up to 1 at r = 1, then inverse square root.

    The factor is 0 if r is 0 or less.

    Raises:
        ValueError: If r is infinite, which means that the schedule has no warm-up.
    """
    if math.isinf(warmup_ratio):
        raise ValueError("the inverse square root schedule needs a warm-up")
    return min(warmup_ratio, warmup_ratio**-0.5) if warmup_ratio > 0 else 0.0


def paper_peak(hidden_size: int, warmup_steps: float, scale: float = 1.0) -> float:
    """The peak learning rate of Vaswani et al. (2017), section 5.3: scale x (hidden_size x warmup_steps) ** -0.5."""
    return scale * (hidden_size * warmup_steps) ** -0.5


DECAYS: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "warmup_stable_decay": lambda progress: 1.0 - progress,
}


def build_schedule(
    optimizer: OptimizerConfig, schedule: ScheduleConfig, max_duration: Duration, hidden_size: int
) -> Schedule:
    """Builds the schedule of an experiment. If `optimizer.learning_rate` is None, the peak is the 2017 paper's."""
    peak = optimizer.learning_rate
    if peak is None:
        assert schedule.warmup is not None, "`Experiment.problems` requires a warm-up if learning_rate is null"
        peak = paper_peak(hidden_size, schedule.warmup.amount, schedule.scale)
    return Schedule(schedule, peak, max_duration)
