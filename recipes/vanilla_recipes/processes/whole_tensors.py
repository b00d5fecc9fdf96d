"""Gathers the complete tensors of a run from sharded processes, and shards them again.

A checkpoint therefore has the same content for one process, replicas (DDP) and shards (FSDP2). So a run can be resumed
with another number of processes, or with FSDP2 instead of DDP. DeepSpeed is the exception: its optimizer state can only
be loaded by DeepSpeed with the same number of processes. The price is memory: while saving, the main process holds the
complete state, 12 bytes per parameter.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from vanilla_recipes.errors import UserError
from vanilla_recipes.processes.zero import (
    check_zero_model,
    load_zero_files,
    uses_zero,
    zero_files,
    zero_weights,
)

Tensors = dict[str, Any]


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether a process may hold only a shard of a parameter or of its optimizer state."""
    return accelerator.distributed_type == DistributedType.FSDP or uses_zero(accelerator)


def training_state(model: PreTrainedModel, optimizer: Any, accelerator: Accelerator) -> Tensors:
    """The complete state of the model, the optimizer and the gradient scaler, on the main process.

    In a sharded run every process must call this function.

    Args:
        model: the model inside the module that Accelerate prepared.
        optimizer: the optimizer that Accelerate prepared.
        accelerator: the Accelerator of the run.
    """
    if uses_zero(accelerator):
        return {
            "model": zero_weights(model),
            "zero": zero_files(accelerator),
            "num_processes": accelerator.num_processes,
        }
    scaler = accelerator.scaler
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else {},
    }
    return _gathered(state, accelerator.is_main_process) if is_sharded(accelerator) else state


def load_training_state(model: PreTrainedModel, optimizer: Any, accelerator: Accelerator, state: Tensors) -> None:
    """Restores the state that `training_state` returned; every process passes the complete state.

    Raises:
        UserError: If only one of the two launches (when the state was saved, and now) uses DeepSpeed, or if both use
            DeepSpeed with different numbers of processes.
    """
    if state.get("num_processes") != (accelerator.num_processes if uses_zero(accelerator) else None):
        begun = f"under DeepSpeed with {state['num_processes']} processes" if "zero" in state else "without DeepSpeed"
        raise UserError(f"resume: the run was begun {begun}: go on with the same launch")
    if uses_zero(accelerator):
        load_zero_files(accelerator, state["zero"])
        return
    load_weights(model, state["model"])
    optimizer.load_state_dict(_laid_out(state["optimizer"], optimizer))
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state["scaler"])


def load_weights(model: PreTrainedModel, weights: Tensors) -> None:
    """Loads complete tensors into a model whose parameters may be sharded."""
    own = model.state_dict()
    model.load_state_dict({name: laid_out_like(own[name], tensor) for name, tensor in weights.items()})


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The complete tensor. Gathers a sharded tensor; every process must then call this function."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def laid_out_like(model: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Shards a tensor like the tensor `model`. Needs no communication: `tensor` is complete on every process."""
    if not isinstance(model, DTensor):
        return tensor
    return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements, src_data_rank=None)


class WholeModel:
    """The unsharded model, to score and export it.

    Generating from a sharded model would gather all shards for every token. So each process of a sharded run keeps a
    copy of the model in CPU memory, 4 bytes per parameter, and moves the copy to the device while it is used.

    Args:
        model: the model before Accelerate prepares it.
        accelerator: the Accelerator of the run.

    Raises:
        UserError: If DeepSpeed trains the model, and some of the weights are frozen.
    """

    def __init__(self, model: PreTrainedModel, accelerator: Accelerator) -> None:
        if uses_zero(accelerator):
            check_zero_model(model)
        self._model, self._accelerator = model, accelerator
        self._copy = copy.deepcopy(model).eval() if is_sharded(accelerator) else None

    @contextmanager
    def __call__(self) -> Iterator[PreTrainedModel]:
        """Yields the model with its current weights. In a sharded run every process must call this method."""
        if self._copy is None:
            yield self._model
            return
        self._copy.load_state_dict(_whole_weights(self._model, self._accelerator))
        try:
            yield self._copy.to(self._accelerator.device)
        finally:
            self._copy.to("cpu")


def _whole_weights(model: PreTrainedModel, accelerator: Accelerator) -> Tensors:
    if uses_zero(accelerator):
        return zero_weights(model)
    return {name: whole(tensor) for name, tensor in model.state_dict().items()}


def _gathered(state: Any, keep: bool) -> Any:
    """Replaces sharded tensors in nested dicts and lists by complete tensors on the CPU, or by None unless `keep`."""
    if isinstance(state, dict):
        return {key: _gathered(value, keep) for key, value in state.items()}
    if isinstance(state, list):
        return [_gathered(value, keep) for value in state]
    if isinstance(state, DTensor):
        tensor = state.full_tensor()
        return tensor.cpu() if keep else None
    return state


def _laid_out(state: Tensors, optimizer: Any) -> Tensors:
    """Shards each tensor of a complete optimizer state like the parameter it belongs to."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    tensors = {
        index: {
            name: laid_out_like(parameters[index], value) if _matches(value, parameters[index]) else value
            for name, value in values.items()
        }
        for index, values in state["state"].items()
    }
    return state | {"state": tensors}


def _matches(value: Any, parameter: torch.Tensor) -> bool:
    """Whether a value of the optimizer state has the shape of its parameter. The step counter is a scalar."""
    return torch.is_tensor(value) and value.shape == parameter.shape
