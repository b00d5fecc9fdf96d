"""What a run can show of itself at its end: that its gradient does not depend on how a batch is cut."""

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
from vanilla_recipes.settings.durations import TrainState
from vanilla_recipes.settings.experiment import Experiment

_MOST_ROWS = 8


def certificates(model: PreTrainedModel, task: Task, state: TrainState, experiment: Experiment) -> dict[str, Any]:
    """Figures for `results.json`.

    Args:
        model: the trained model in fp32, without dropout; its gradients are used and thrown away.
        task: makes the batches.
        state: where the run ended.
        experiment: says how large a batch may be.
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
        if should_reduce_batch_size(error):  # out of memory, in fp32: what the run came to must not be lost to that
            return {"resume": resume}
        raise
    differences = [torch.linalg.vector_norm(each - whole, dtype=torch.float64) for each in cut]
    relative = float(torch.stack(differences).max() / torch.linalg.vector_norm(whole, dtype=torch.float64))
    if not math.isfinite(relative):  # no gradient, or none that can be compared
        return {"resume": resume}
    return {"gradient": {"rows": len(rows), "parts": parts, "relative_difference": relative}, "resume": resume}


def _some_rows(task: Task, state: TrainState, experiment: Experiment) -> Rows:
    """The first rows of the last epoch that fit into a micro-batch, but two at least."""
    lengths = task.lengths_in(state.epoch)[:_MOST_ROWS]
    longest = np.maximum.accumulate(lengths.reshape(len(lengths), -1).sum(axis=1))
    places = longest * np.arange(1, len(longest) + 1)
    budget = experiment.batch.tokens // experiment.batch.groups // (state.micro_batches or 1)
    return np.arange(min(len(lengths), max(2, int((places <= budget).sum()))))


def _gradient(model: PreTrainedModel, task: Task, rows: Rows, epoch: int, num_parts: int) -> torch.Tensor:
    """The gradient of a batch cut into parts, all parameters in one vector."""
    model.zero_grad(set_to_none=True)
    batches = [task.make_batch(share(rows, part, num_parts), epoch) for part in range(num_parts)]
    count = torch.tensor(max(1.0, float(sum(map(task.num_targets, batches)))), device=model.device)
    for batch in batches:
        training_loss(model, send_to_device(batch, model.device), count).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    vector = torch.cat([gradient.flatten().float() for gradient in gradients])
    model.zero_grad(set_to_none=True)
    return vector
