"""Low-rank adapters (LoRA, Hu et al. 2021) with PEFT: small matrices are trained, a saved model's weights are frozen.

Checkpoints also hold the frozen weights, 4 bytes per parameter. So a run can be resumed even if the saved model it
started from has moved or changed. Checkpoints stay small, because optimizer state exists for the adapters only.
"""

import copy
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from vanilla_recipes.engine.compilation import as_written
from vanilla_recipes.engine.forward import logits_of
from vanilla_recipes.engine.task import Batch, Task
from vanilla_recipes.errors import UserError
from vanilla_recipes.settings.experiment import Experiment
from vanilla_transformers.releases import install_command

FOLDER = "adapter"
"""Subfolder of a saved model that holds the adapters."""

TOLERANCE = 1e-4
"""Maximum difference in fp32 between logits with merged and with separate adapters.

The difference is divided by the largest absolute logit with separate adapters, or by 1 if that logit is smaller.
"""

_LINEAR = (nn.Linear, Conv1D)  # GPT-2 in transformers uses Conv1D instead of nn.Linear
_ADAPTER = "default"  # PEFT's name for the only adapter of a model
_PROBE_ROWS = 4  # maximum number of training rows on which merging is checked
_IN_BLOCK = re.compile(r"\.\d+\.")  # a block is an entry of a module list, so its name is a number


def check_adapters(experiment: Experiment) -> None:
    """Checks that PEFT is installed if the experiment uses adapters, before any data is read.

    Raises:
        UserError: If PEFT is not installed.
    """
    if experiment.peft.r is not None and find_spec("peft") is None:
        raise UserError(
            f"peft.r={experiment.peft.r}: PEFT is not installed: {install_command('peft')}, or train "
            f"all weights with peft.r=null"
        )


def with_adapters(task: Task, experiment: Experiment) -> Task:
    """The task with adapters injected into its model, if the experiment uses adapters, else the same task.

    All weights but the adapters and the head of the task are frozen. The model is saved complete, with the adapters
    merged into its weights. The separate adapters are saved in `adapter/`; `PeftModel.from_pretrained` adds them to the
    saved model that the run started from.

    Raises:
        UserError: If the model has no layer with a name in `peft.target_modules`, if the weights of a target layer are
            tied to another layer, or if `peft.r` exceeds a dimension of the weights of a target layer.
    """
    settings = experiment.peft
    if settings.r is None:
        return task
    from peft import LoraConfig, inject_adapter_in_model

    targets = settings.target_modules or block_layers(task.model)
    _check_targets(targets, settings.r, task.model)
    names = _last_names(name for name, _ in task.model.named_modules())
    torch.manual_seed(experiment.seed)
    config: Any = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(targets),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in task.model.modules()),
        modules_to_save=[name for name in task.head if name in names] or None,
    )
    # PEFT is called directly, because `add_adapter` of transformers 5.24 requires an unreleased version of PEFT.
    inject_adapter_in_model(config, task.model, _ADAPTER)
    task.model.peft_config = {_ADAPTER: config}
    probe = task.make_batch(np.arange(min(_PROBE_ROWS, len(task.lengths_in(0)))), 0)

    def save_model(model: PreTrainedModel, folder: Path) -> None:
        _save_adapters(model, folder / FOLDER)
        with as_written(experiment):
            task.save_model(merged(model, probe), folder)

    return replace(task, save_model=save_model)


def block_layers(model: nn.Module) -> list[str]:
    """The names of the linear layers in the repeated blocks of a model, which are attention and feed-forward layers."""
    blocks = (name for name, module in model.named_modules() if isinstance(module, _LINEAR) and _IN_BLOCK.search(name))
    return _last_names(blocks)


@torch.inference_mode()
def merged(model: PreTrainedModel, probe: Batch) -> PreTrainedModel:
    """A copy of a model in which the adapters are merged into the weights and no PEFT module is left.

    Args:
        model: the model with adapters; it is not changed, and may be in training mode.
        probe: a batch; its logits before and after merging are compared.

    Raises:
        UserError: If the logits differ by more than `TOLERANCE`.
    """
    model = copy.deepcopy(model).eval()
    before = _logits(model, probe)
    _merge(model)
    after = _logits(model, probe)
    difference = float((after - before).abs().max() / before.abs().max().clamp(min=1.0))
    if not difference <= TOLERANCE:
        raise UserError(
            f"the model with its adapters merged gives other logits than before, by {difference:.2g} of the largest, "
            f"where {TOLERANCE:g} is allowed, so it is not saved: the adapters have grown too large for fp32; lower "
            f"peft.alpha or optimizer.learning_rate"
        )
    return model


def _merge(model: PreTrainedModel) -> None:
    """Merges the adapters into the weights of a model, in place.

    PEFT's own `merge_and_unload` needs a `PeftModel`; this model keeps its own class, with adapters injected.
    """
    from peft.tuners.lora import LoraLayer
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=True)
            model.set_submodule(name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            model.set_submodule(name, module.modules_to_save[_ADAPTER])
    del model.peft_config


def _logits(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    return logits_of(model, send_to_device(batch, model.device))


def _save_adapters(model: PreTrainedModel, folder: Path) -> None:
    """Writes the files that `PeftModel.from_pretrained` reads, without the other files that transformers would add."""
    from peft.utils import SAFETENSORS_WEIGHTS_NAME, get_peft_model_state_dict

    folder.mkdir()
    adapters = get_peft_model_state_dict(model, adapter_name=_ADAPTER)
    tensors = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in adapters.items()}
    save_file(tensors, folder / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    model.peft_config[_ADAPTER].save_pretrained(str(folder))


def _check_targets(targets: Sequence[str], rank: int, model: PreTrainedModel) -> None:
    """Refuses names of missing layers, layers with tied weights, and ranks greater than a layer allows.

    PEFT would ignore a name of a missing layer silently. Merging an adapter into tied weights would also change the
    layer that shares the weights.

    Raises:
        UserError: If the model has no layer of a name, if a layer has tied weights, or if the rank is too large.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, (*_LINEAR, nn.Embedding))}
    shared = _shared_weights(model)
    for target in targets:
        found = [layer for name, layer in layers.items() if name == target or name.endswith(f".{target}")]
        if not found:
            known = ", ".join(_last_names(layers))
            raise UserError(f"peft.target_modules: {target}: the model has no such layer; there are {known}")
        if any(id(layer.weight) in shared for layer in found):
            raise UserError(
                f"peft.target_modules: {target}: its weights are tied to those of another layer, and merging an "
                f"adapter would change or untie that layer: leave {target} out"
            )
        full_rank = min(size for layer in found for size in layer.weight.shape)
        if rank > full_rank:
            raise UserError(f"peft.r={rank}: the rank of {target} is {full_rank} at most: lower peft.r")


def _shared_weights(model: nn.Module) -> set[int]:
    """The `id()` of each parameter that the model holds under several names."""
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    return {parameter for parameter, count in uses.items() if count > 1}


def _last_names(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))
