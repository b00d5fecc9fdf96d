"""Evidence that a finished run is correct: its gradient does not depend on the number of micro-batches."""

import math
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from accelerate.utils.memory import should_reduce_batch_size
from transformers import PreTrainedModel

from vanilla_recipes.engine.forward import training_loss
from vanilla_recipes.engine.plan import Rows, share
from vanilla_recipes.engine.task import Task
from vanilla_recipes.settings.experiment import Experiment
from vanilla_recipes.settings.train_state import TrainState

_MOST_ROWS = 8  # maximum number of rows in the compared batch


def certificates(model: PreTrainedModel, task: Task, state: TrainState, experiment: Experiment) -> dict[str, Any]:
    """Compares the gradient of a batch with the gradient of the same batch cut into micro-batches.

    Args:
        model: the trained model in fp32 and evaluation mode. Its gradients are overwritten and then cleared.
        task: makes the batches.
        state: the counters at the end of the run.
        experiment: gives the maximum size of a micro-batch.

    Returns:
        For `results.json`: "resume" (number of resumes and the fingerprint of the task), and "gradient" (number of
        rows, numbers of micro-batches, greatest relative difference of the gradient). "gradient" is absent if there
        are fewer than two rows, if the memory does not suffice, or if the difference is not finite.
    """
    rows = _some_rows(task, state, experiment)
    resume = {"times": state.resumes, "fingerprint": task.fingerprint}
    if len(rows) < 2:
        return {"resume": resume}
    parts = sorted({2, len(rows)})
    try:
        whole = _gradient(model, task, rows, state.epoch, 1)
        cut = [_gradient(model, task, rows, state.epoch, count) for count in parts]
    except Exception as error:
        if should_reduce_batch_size(error):  # fp32 ran out of memory; the run must still end with results
            return {"resume": resume}
        raise
    differences = [torch.linalg.vector_norm(each - whole, dtype=torch.float64) for each in cut]
    relative = float(torch.stack(differences).max() / torch.linalg.vector_norm(whole, dtype=torch.float64))
    if not math.isfinite(relative):  # the gradient is zero or not finite
        return {"resume": resume}
    return {"gradient": {"rows": len(rows), "parts": parts, "relative_difference": relative}, "resume": resume}


def _some_rows(task: Task, state: TrainState, experiment: Experiment) -> Rows:
    """The first rows of the current epoch that fit into a micro-batch, at least two and at most `_MOST_ROWS`."""
    lengths = task.lengths_in(state.epoch)[:_MOST_ROWS]
    longest = np.maximum.accumulate(lengths.reshape(len(lengths), -1).sum(axis=1))
    padded_tokens = longest * np.arange(1, len(longest) + 1)
    budget = experiment.batch.tokens // experiment.batch.groups // (state.micro_batches or 1)
    return np.arange(min(len(lengths), max(2, int((padded_tokens <= budget).sum()))))


def _gradient(model: PreTrainedModel, task: Task, rows: Rows, epoch: int, num_parts: int) -> torch.Tensor:
    """The gradient of a batch, computed in `num_parts` micro-batches, as one fp32 vector of all parameters."""
    model.zero_grad(set_to_none=True)
    batches = [task.make_batch(share(rows, part, num_parts), epoch) for part in range(num_parts)]
    count = torch.tensor(max(1.0, float(sum(map(task.num_targets, batches)))), device=model.device)
    for batch in batches:
        training_loss(model, send_to_device(batch, model.device), count).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    vector = torch.cat([gradient.flatten().float() for gradient in gradients])
    model.zero_grad(set_to_none=True)
    return vector
