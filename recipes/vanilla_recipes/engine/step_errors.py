"""Error messages for training steps that fail, or whose loss is not finite."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from accelerate.utils.memory import should_reduce_batch_size

from vanilla_recipes.engine.plan import Plan
from vanilla_recipes.errors import UserError, one_line
from vanilla_recipes.settings.train_state import TrainState

TRAINING_REMEDY = "raise batch.micro_batches (auto finds the number) or set gradient_checkpointing=true"
EVALUATION_REMEDY = "lower evaluation.batch_tokens"
_SHOWN_ROWS = 8  # maximum number of rows that a message lists
_LONGEST_CAUSE = 240  # maximum number of characters of torch's message that are shown


def not_finite(step: int, state: TrainState, plan: Plan) -> UserError:
    """The error for a step whose loss or gradient is not finite. It names the step and the rows of its batch.

    Args:
        step: the number of the step, counted from 1.
        state: the counters of the run after this step or a later step.
        plan: the batches of the run.
    """
    epoch, index = state.epoch, state.step_in_epoch - (state.global_step - step) - 1
    while index < 0:
        epoch -= 1
        index += plan.num_steps(epoch)
    rows = np.concatenate(plan.batch(epoch, index))
    shown = ", ".join(str(row) for row in rows[:_SHOWN_ROWS]) + (", ..." if len(rows) > _SHOWN_ROWS else "")
    return UserError(
        f"step {step}: the loss or its gradient is not finite; nothing was saved after it; lower "
        f"optimizer.learning_rate, lengthen schedule.warmup or use precision=fp32; its batch was number {index} of "
        f"epoch {epoch}, with the training rows {shown} ({len(rows)} rows, counted from 0)"
    )


@contextmanager
def as_user_errors(activity: str, remedy: str) -> Iterator[None]:
    """Turns torch's out-of-memory and compiler errors into a `UserError` with a way out.

    Args:
        activity: the step or evaluation that runs, for the message.
        remedy: the settings that save memory in this activity, for the message.

    Raises:
        UserError: If the block ran out of memory, or torch could not compile the layers.
    """
    try:
        yield
    except RuntimeError as error:
        reason = textwrap.shorten(one_line(str(error)), _LONGEST_CAUSE)
        if should_reduce_batch_size(error):
            raise UserError(f"{activity}: out of memory: {remedy}; {reason}") from error
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise UserError(f"{activity}: compile=true: torch cannot compile the layers here: {reason}") from error
        raise
