"""The optimizer and the learning-rate schedules, which are pure functions of where the run stands."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from vanilla_recipes.settings.durations import Duration, TrainState
from vanilla_recipes.settings.experiment import OptimizerConfig, ScheduleConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Fused AdamW that decays matrices only.

    Biases and the gains of norms are vectors whose size has a meaning of its own, and an embedding row would decay on
    every step although it learns only when its token occurs: none of them is decayed.
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
    """The optimizer itself, where Accelerate's wrapper has nothing to add to it.

    As of Accelerate 1.15 the wrapper looks for an installed package twice a step and inspects a signature, which takes
    a tenth of a millisecond.
    """
    adds_nothing = type(optimizer) is AcceleratedOptimizer and optimizer.scaler is None
    return optimizer.optimizer if adds_nothing else optimizer


@dataclass(frozen=True)
class Schedule:
    """The learning rate at every moment of a run.

    Args:
        config: the rule and its warm-up.
        peak: the learning rate at the end of the warm-up.
        max_duration: what the decay is spread over.
    """

    config: ScheduleConfig
    peak: float
    max_duration: Duration

    def learning_rate(self, state: TrainState) -> float:
        """The learning rate of the step that follows `state`."""
        if self.config.name == "inverse_sqrt":
            return self.peak * inverse_sqrt_factor(self._warmup_ratio(state))
        return self.peak * min(1.0, self._warmup_ratio(state)) * self._decay(state)

    def _warmup_ratio(self, state: TrainState) -> float:
        """How much of the warm-up is over, counting the coming step as the paper does; above 1 after it."""
        warmup = self.config.warmup
        return math.inf if warmup is None else warmup.ratio(state.during_next_step())

    def _decay(self, state: TrainState) -> float:
        floor = self.config.min_factor
        return floor + (1.0 - floor) * DECAYS[self.config.name](self._decay_progress(state))

    def _decay_progress(self, state: TrainState) -> float:
        """How much of the decay is over."""
        start = self._decay_start()
        return max(0.0, self.max_duration.progress(state) - start) / (1.0 - start) if start < 1.0 else 0.0

    def _decay_start(self) -> float:
        """The part of `max_duration` after which the decay begins: the end of the warm-up, but for a stable phase.

        Where the two are counted in different units, the end of the warm-up is not known beforehand on the scale of
        `max_duration`; the decay then begins with the run, under the warm-up.
        """
        warmup, decay = self.config.warmup, self.config.decay
        if self.config.name == "warmup_stable_decay":
            return 1.0 - (decay.amount / self.max_duration.amount if isinstance(decay, Duration) else decay)
        if warmup is None or warmup.unit != self.max_duration.unit:
            return 0.0
        return min(1.0, warmup.amount / self.max_duration.amount)


def inverse_sqrt_factor(warmup_ratio: float) -> float:
    """min(r, r ** -0.5): linear up to 1 at the end of the warm-up (r = 1), then the inverse square root."""
    if math.isinf(warmup_ratio):
        raise ValueError("the inverse square root schedule needs a warm-up")
    return min(warmup_ratio, warmup_ratio**-0.5) if warmup_ratio > 0 else 0.0


def paper_peak(hidden_size: int, warmup_steps: float, scale: float = 1.0) -> float:
    """The greatest learning rate of the 2017 paper's section 5.3: scale x (hidden_size x warmup_steps) ** -0.5."""
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
    """The schedule of an experiment; without a learning rate its peak is the paper's."""
    peak = optimizer.learning_rate
    if peak is None:
        assert schedule.warmup is not None, "checked with the experiment"
        peak = paper_peak(hidden_size, schedule.warmup.amount, schedule.scale)
    return Schedule(schedule, peak, max_duration)
