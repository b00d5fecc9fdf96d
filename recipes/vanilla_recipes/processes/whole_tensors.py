"""The tensors of a run as whole ones on the CPU, however the launch has spread them over the processes.

A checkpoint therefore has the same content for one process, for replicas (DDP) and for shards (FSDP2), and a run begun
under one launch goes on under any other; only DeepSpeed's optimizer state is for as many processes under DeepSpeed
again. The main process pays for it with memory for the whole state while it saves: 12 bytes a parameter.
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
    """Whether a process may hold a part of a parameter, or of its optimizer state, only."""
    return accelerator.distributed_type == DistributedType.FSDP or uses_zero(accelerator)


def training_state(model: PreTrainedModel, optimizer: Any, accelerator: Accelerator) -> Tensors:
    """What a resumed run needs, whole on the main process; sharded runs must call it on every process.

    Args:
        model: the model within the one that Accelerate prepared.
        optimizer: as Accelerate prepared it.
        accelerator: that of the run.
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
    """Puts a state back; every process gives the whole of it.

    Raises:
        UserError: the state is DeepSpeed's, and this is another launch, or the other way round.
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
    """Loads whole tensors into a model whose own may be shards."""
    own = model.state_dict()
    model.load_state_dict({name: laid_out_like(own[name], tensor) for name, tensor in weights.items()})


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, or all of one of which this process holds a shard; then every process must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def laid_out_like(model: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """A whole tensor, cut as `model` is: each process keeps its shard, and none asks another."""
    if not isinstance(model, DTensor):
        return tensor
    return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements, src_data_rank=None)


class WholeModel:
    """The model in one piece, to score and to export it.

    Text is generated token by token, for which shards would have to be gathered each time. A sharded run therefore
    keeps a copy of the model in the CPU's memory, 4 bytes a parameter, and moves it to the device while it is used.

    Args:
        model: not prepared by Accelerate yet.
        accelerator: that of the run.

    Raises:
        UserError: DeepSpeed would train the model, and some of its weights are frozen.
    """

    def __init__(self, model: PreTrainedModel, accelerator: Accelerator) -> None:
        if uses_zero(accelerator):
            check_zero_model(model)
        self._model, self._accelerator = model, accelerator
        self._copy = copy.deepcopy(model).eval() if is_sharded(accelerator) else None

    @contextmanager
    def __call__(self) -> Iterator[PreTrainedModel]:
        """The model as it is now; in a sharded run every process must ask for it."""
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
    """The same nest of dictionaries and lists with whole tensors on the CPU; nothing of value unless `keep`."""
    if isinstance(state, dict):
        return {key: _gathered(value, keep) for key, value in state.items()}
    if isinstance(state, list):
        return [_gathered(value, keep) for value in state]
    if isinstance(state, DTensor):
        tensor = state.full_tensor()
        return tensor.cpu() if keep else None
    return state


def _laid_out(state: Tensors, optimizer: Any) -> Tensors:
    """The state of an optimizer, whose tensors lie as the parameters do that they belong to."""
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
    """Whether a value of the optimizer has an entry for each of the parameter; the count of steps has not."""
    return torch.is_tensor(value) and value.shape == parameter.shape
