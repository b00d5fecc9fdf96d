"""DeepSpeed's ZeRO: its settings, its checkpoint files and its complete weights. DeepSpeed is imported on use."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from torch import nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from vanilla_recipes.errors import UserError
from vanilla_recipes.settings.experiment import Experiment

_TAG = "state"  # name of the subfolder in which DeepSpeed saves a checkpoint


def uses_zero(accelerator: Accelerator) -> bool:
    """Whether DeepSpeed trains the model."""
    return accelerator.distributed_type == DistributedType.DEEPSPEED


def zero_problems(experiment: Experiment, accelerator: Accelerator) -> Iterator[str]:
    """Yields the settings of the experiment that DeepSpeed does not support."""
    if experiment.precision == "fp16":
        yield "precision=fp16 under DeepSpeed, which skips steps without a warning: use bf16"
    if experiment.batch.micro_batches != 1:
        yield "batch.micro_batches under DeepSpeed, which steps after each micro-batch: set it to 1, or use FSDP2"
    if experiment.batch.groups != 1:
        yield "batch.groups under DeepSpeed, which steps after each group: set it to 1, or use FSDP2"
    if experiment.averaging.ema_decay is not None or experiment.averaging.checkpoints is not None:
        yield "averaging under DeepSpeed, which holds the fp32 weights outside the model: use FSDP2"
    if accelerator.state.deepspeed_plugin.zero3_init_flag:
        yield "zero3_init_flag in accelerate's configuration: set it to false, each process builds the complete model"


def configure_zero(experiment: Experiment, accelerator: Accelerator) -> None:
    """Sets gradient clipping, which DeepSpeed does itself, and a batch size, which DeepSpeed uses only in its reports.

    Also hides DeepSpeed's config from transformers: under ZeRO 3, transformers would shard every model that it loads,
    but models are scored unsharded.
    """
    unset_hf_deepspeed_config()
    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    settings["gradient_clipping"] = experiment.optimizer.max_grad_norm or 0.0
    settings["train_micro_batch_size_per_gpu"] = 1


def check_zero_model(model: nn.Module) -> None:
    """Refuses a model with frozen weights, because DeepSpeed does not return them.

    Raises:
        UserError: If some weights are frozen.
    """
    if not all(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("DeepSpeed does not give frozen weights back: train adapters with DDP or FSDP2")


def zero_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The complete weights in fp32, on every process. Every process must call this function."""
    from deepspeed.utils import safe_get_full_fp32_param

    parameters = dict(model.named_parameters(remove_duplicate=False))
    weights = model.state_dict()
    return weights | {name: safe_get_full_fp32_param(parameters[name]) for name in weights if name in parameters}


def zero_files(accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """The files of DeepSpeed's checkpoint, of all processes, as uint8 tensors. Every process must call the function."""
    with tempfile.TemporaryDirectory() as folder:
        _engine(accelerator).save_checkpoint(folder, tag=_TAG)
        mine = {path.name: path.read_bytes() for path in (Path(folder) / _TAG).iterdir()}
    files = {name: content for part in gather_object([mine]) for name, content in part.items()}
    return {name: torch.from_numpy(np.frombuffer(content, np.uint8).copy()) for name, content in files.items()}


def load_zero_files(accelerator: Accelerator, files: dict[str, torch.Tensor]) -> None:
    """Restores the weights and the optimizer from the files that `zero_files` returned."""
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(Path(folder) / _TAG)
        for name, content in files.items():
            content.numpy().tofile(Path(folder) / _TAG / name)
        _engine(accelerator).load_checkpoint(folder, tag=_TAG)


def _engine(accelerator: Accelerator) -> Any:
    return accelerator.deepspeed_engine_wrapped.engine
