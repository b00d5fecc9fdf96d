"""Starts a recipe: as a program, and on the devices and processes that the launcher gave it."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import PreTrainedModel

from vanilla_transformers.recipes.engine.experiment import Experiment
from vanilla_transformers.recipes.errors import UserError


def program(main: Callable[[Sequence[str]], int], file: str) -> int:
    """Calls a recipe's `main` with the command line; a user's mistake becomes one line on stderr and the status 1."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: python -m vanilla_transformers.recipes.{Path(file).stem} CONFIG [key=value ...]")
        return 0 if arguments else 2
    try:
        return main(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def build_accelerator(experiment: Experiment) -> Accelerator:
    """The Accelerator of this process.

    Raises:
        UserError: fp16 without a GPU, or a launch whose processes would each train a model of their own.
    """
    has_device = torch.accelerator.is_available()
    if experiment.precision == "fp16" and not has_device:
        raise UserError("precision=fp16 needs a GPU: use bf16 or fp32")
    precision = "no" if experiment.precision == "fp32" else experiment.precision
    AcceleratorState._reset_state()  # an earlier run in this process may have had another precision
    accelerator = Accelerator(cpu=not has_device, mixed_precision=precision)
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if accelerator.num_processes != launched:
        raise UserError(
            f"the launcher started {launched} processes but Accelerate sees {accelerator.num_processes}: each would "
            f"train a model of its own; launch with torchrun, or with accelerate launch --multi_gpu"
        )
    return accelerator


def set_attention(model: PreTrainedModel, experiment: Experiment, device: torch.device) -> None:
    """Chooses the attention kernel of the run.

    Raises:
        UserError: transformers does not know the kernel, or it cannot train here.
    """
    kernel = experiment.attention
    if kernel == "auto":
        kernel = "eager" if device.type == "cpu" else "sdpa"
    if kernel == "flex_attention" and device.type == "cpu":
        raise UserError("attention=flex_attention: torch has no backward pass of it on a CPU: use auto, eager or sdpa")
    try:
        model.set_attn_implementation(kernel)
    except (ValueError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"attention={experiment.attention}: {reason}") from error
