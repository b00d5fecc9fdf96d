"""DeepSpeed's ZeRO: what it must be told, and the whole of what it cuts up. Imports DeepSpeed only where ZeRO runs."""

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

_TAG = "state"  # DeepSpeed's name for one checkpoint among others


def uses_zero(accelerator: Accelerator) -> bool:
    """Whether DeepSpeed trains."""
    return accelerator.distributed_type == DistributedType.DEEPSPEED


def zero_problems(experiment: Experiment, accelerator: Accelerator) -> Iterator[str]:
    """What DeepSpeed and this experiment cannot do together."""
    if experiment.precision == "fp16":
        yield "precision=fp16 under DeepSpeed, which skips steps in silence: use bf16"
    if experiment.batch.micro_batches != 1:
        yield "batch.micro_batches under DeepSpeed, which steps after each: set it to 1, or use FSDP2"
    if experiment.batch.groups != 1:
        yield "batch.groups under DeepSpeed, which steps after each: set it to 1, or use FSDP2"
    if experiment.averaging.ema_decay is not None or experiment.averaging.checkpoints is not None:
        yield "averaging under DeepSpeed, which keeps the weights to itself: use FSDP2"
    if accelerator.state.deepspeed_plugin.zero3_init_flag:
        yield "zero3_init_flag in accelerate's configuration: set it to false, each process builds the whole model"


def configure_zero(experiment: Experiment, accelerator: Accelerator) -> None:
    """Hands DeepSpeed, which clips by itself, the limit; the size of a batch it wants for its own reports.

    Keeps it from transformers, which under ZeRO 3 would cut up every model it loads: what is scored is whole.
    """
    unset_hf_deepspeed_config()
    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    settings["gradient_clipping"] = experiment.optimizer.max_grad_norm or 0.0
    settings["train_micro_batch_size_per_gpu"] = 1


def check_zero_model(model: nn.Module) -> None:
    """Refuses a model of which DeepSpeed would not give all weights back.

    Raises:
        UserError: some are frozen.
    """
    if not all(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("DeepSpeed does not give frozen weights back: train adapters with DDP or FSDP2")


def zero_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights in fp32, whole, on every process; all of them must ask."""
    from deepspeed.utils import safe_get_full_fp32_param

    parameters = dict(model.named_parameters(remove_duplicate=False))
    weights = model.state_dict()
    return weights | {name: safe_get_full_fp32_param(parameters[name]) for name in weights if name in parameters}


def zero_files(accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """The files of DeepSpeed's own checkpoint, those of all processes, as bytes; all of them must ask."""
    with tempfile.TemporaryDirectory() as folder:
        _engine(accelerator).save_checkpoint(folder, tag=_TAG)
        mine = {path.name: path.read_bytes() for path in (Path(folder) / _TAG).iterdir()}
    files = {name: content for part in gather_object([mine]) for name, content in part.items()}
    return {name: torch.from_numpy(np.frombuffer(content, np.uint8).copy()) for name, content in files.items()}


def load_zero_files(accelerator: Accelerator, files: dict[str, torch.Tensor]) -> None:
    """Puts weights and optimizer back as they were."""
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(Path(folder) / _TAG)
        for name, content in files.items():
            content.numpy().tofile(Path(folder) / _TAG / name)
        _engine(accelerator).load_checkpoint(folder, tag=_TAG)


def _engine(accelerator: Accelerator) -> Any:
    return accelerator.deepspeed_engine_wrapped.engine
