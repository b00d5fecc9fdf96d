"""The state of a run: how far the run has progressed, and its best score."""

import math
from dataclasses import dataclass, replace
from typing import Literal

Unit = Literal["steps", "epochs", "tokens", "seconds"]


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
        checkpoint_step: the step of the last checkpoint written because of `checkpoint.every`. A checkpoint written
            because the run was stopped does not count. None before the first scheduled checkpoint.
        averaged_step: the step after which checkpoints were averaged and their mean was scored; None before that.
        micro_batches: number of micro-batches into which each process cuts its share of a group of rows; None before
            training starts.
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
