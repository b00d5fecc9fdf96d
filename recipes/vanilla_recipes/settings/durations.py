"""Durations and intervals of training (`60 steps`, `5 epochs`, `2B tokens`, `10 minutes`), and the state of a run."""

import math
import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from vanilla_recipes.errors import UserError

Unit = Literal["steps", "epochs", "tokens", "seconds"]

_SECONDS = {"hours": 3600, "minutes": 60, "seconds": 1}
_MULTIPLIERS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKmMbB]?)\s*(step|epoch|token|second|minute|hour)s?\s*")
_DECIMALS = 6
_EXAMPLES = "write a positive number and a unit, such as `60 steps`, `10k steps`, `5 epochs`, `2B tokens`, `10 minutes`"


@dataclass(frozen=True)
class TrainState:
    """The counters of a run between two optimizer steps.

    Attributes:
        global_step: optimizer steps taken.
        epoch: epochs completed.
        step_in_epoch: steps taken in the current epoch.
        steps_in_epoch: number of steps in the current epoch.
        tokens: tokens seen, without padding.
        elapsed_seconds: training time in seconds, without evaluation and saving.
        best_score: best validation score so far; None before the first evaluation.
        best_step: the step of the best score; None before the first evaluation.
        scored_step: the step of the last evaluation; None before the first evaluation.
        evaluations_without_gain: number of evaluations since the last one that improved the score by more than
            `evaluation.min_delta`.
        checkpoint_step: the step of the last checkpoint that `checkpoint.every` asked for. A checkpoint written because
            the run was stopped does not count. None before the first scheduled checkpoint.
        averaged_step: the step after which checkpoints were averaged and their mean was scored; None before.
        micro_batches: number of micro-batches into which each process cuts its share of a group of rows; None before
            it is known.
        resumes: how many times the run was resumed from a checkpoint.
    """

    global_step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    steps_in_epoch: int = 1
    tokens: int = 0
    elapsed_seconds: float = 0.0
    best_score: float | None = None
    best_step: int | None = None
    scored_step: int | None = None
    evaluations_without_gain: int = 0
    checkpoint_step: int | None = None
    averaged_step: int | None = None
    micro_batches: int | None = None
    resumes: int = 0

    def position(self, unit: Unit) -> float:
        """The progress of the run, counted in `unit`. A part of an epoch counts as a fraction."""
        if unit == "steps":
            return self.global_step
        if unit == "epochs":
            return self.epoch + self.step_in_epoch / self.steps_in_epoch
        return self.tokens if unit == "tokens" else self.elapsed_seconds

    def during_next_step(self) -> "TrainState":
        """The state with the next step already counted, for formulas that number steps from one."""
        return replace(self, global_step=self.global_step + 1, step_in_epoch=self.step_in_epoch + 1)

    def after_step(self, num_tokens: int, elapsed_seconds: float, steps_in_epoch: int) -> "TrainState":
        """The state after an optimizer step on `num_tokens` real tokens, in an epoch of `steps_in_epoch` steps."""
        is_last = self.step_in_epoch + 1 >= steps_in_epoch
        return replace(
            self,
            global_step=self.global_step + 1,
            epoch=self.epoch + is_last,
            step_in_epoch=0 if is_last else self.step_in_epoch + 1,
            steps_in_epoch=steps_in_epoch,
            tokens=self.tokens + num_tokens,
            elapsed_seconds=elapsed_seconds,
        )

    def with_score(self, score: float, greater_is_better: bool, min_delta: float) -> "TrainState":
        """The state after an evaluation. Any improvement updates the best score.

        Args:
            score: the score of the validation rows.
            greater_is_better: whether a greater score is better.
            min_delta: an improvement of more than this resets `evaluations_without_gain`.
        """
        best = math.nan if self.best_score is None else self.best_score
        gain = math.inf if math.isnan(best) else (score - best) * (1 if greater_is_better else -1)
        state = replace(
            self,
            scored_step=self.global_step,
            evaluations_without_gain=0 if gain > min_delta else self.evaluations_without_gain + 1,
        )
        return replace(state, best_score=score, best_step=self.global_step) if gain > 0 else state


@dataclass(frozen=True)
class Duration:
    """A positive amount of training in steps, epochs, tokens or seconds.

    Raises:
        UserError: the amount is not positive and finite, or the unit is unknown.
    """

    amount: float
    unit: Unit

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit) or not 0 < self.amount < math.inf:
            raise UserError(f"{self.amount} {self.unit} is not a duration: {_EXAMPLES}")

    @classmethod
    def parse(cls, text: object) -> "Duration":
        """Reads `60steps`, `10k steps`, `1.5 hours` and the like.

        Raises:
            UserError: the text is not a positive number followed by a unit, or gives a fraction of a step or token.
        """
        match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise UserError(f"{text!r} is not a duration: {_EXAMPLES}")
        unit = f"{match[3]}s"
        amount = round(float(match[1]) * _MULTIPLIERS[match[2].lower()] * _SECONDS.get(unit, 1), _DECIMALS)
        if unit in ("steps", "tokens") and not amount.is_integer():
            raise UserError(f"{text!r} is not a duration: {unit} are whole numbers, such as `10 {unit}`")
        if not amount:
            raise UserError(f"{text!r} is not a duration: {_EXAMPLES}")
        return cls(amount, "seconds" if unit in _SECONDS else unit)  # type: ignore[arg-type]

    def __str__(self) -> str:
        if self.unit != "seconds":
            return f"{_plain(self.amount)} {self.unit}"
        name = next(name for name, seconds in _SECONDS.items() if self.amount % seconds == 0 or seconds == 1)
        return f"{_plain(self.amount / _SECONDS[name])} {name}"

    def ratio(self, state: TrainState) -> float:
        """Progress of the run divided by this duration: 0 at the start of the run, above 1 after the duration."""
        return state.position(self.unit) / self.amount

    def progress(self, state: TrainState) -> float:
        """The fraction of this duration that has passed, from 0 to 1."""
        return min(1.0, self.ratio(state))

    def reached(self, state: TrainState) -> bool:
        """Whether this duration has passed."""
        return self.ratio(state) >= 1.0

    def fell_due(self, before: TrainState, after: TrainState) -> bool:
        """Whether the run passed a multiple of this duration between `before` (exclusive) and `after` (inclusive)."""
        return math.floor(self.ratio(after)) > math.floor(self.ratio(before))


def _plain(number: float) -> str:
    """Formats a number without an exponent, because `Duration.parse` does not read exponents."""
    return f"{number:.{_DECIMALS}f}".rstrip("0").removesuffix(".")
