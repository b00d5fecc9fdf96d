"""Starts a recipe: as a program, and on the devices and processes that the launcher gave it."""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers.utils import logging as transformers_logging

from vanilla_recipes.errors import UserError, one_line
from vanilla_recipes.processes.cpu_memory import keep_memory_and_kernels
from vanilla_recipes.processes.devices import tell_idle_gpu
from vanilla_recipes.processes.processes import speaks
from vanilla_recipes.processes.zero import configure_zero, uses_zero, zero_problems
from vanilla_recipes.settings.experiment import Experiment

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def program(main: Callable[[Sequence[str]], int], file: str) -> int:
    """Calls a recipe's `main` with the command line; a user's mistake becomes one line on stderr and the status 1."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: python -m vanilla_recipes.{Path(file).stem} CONFIG [key=value ...]")
        return 0 if arguments else 2
    try:
        return main(arguments)
    except UserError as error:
        if speaks():
            print(f"error: {error}", file=sys.stderr)
        return 1


def build_accelerator(experiment: Experiment) -> Accelerator:
    """The Accelerator of this process, once all processes have found each other.

    Raises:
        UserError: fp16 without a GPU; a launch whose processes would each train a model of their own, that would not
            do what it was asked for, or that sets what belongs to the experiment.
    """
    has_device = torch.accelerator.is_available()
    if experiment.precision == "fp16" and not has_device:
        raise UserError("precision=fp16 needs a GPU: use bf16 or fp32")
    _refuse(_contradictions(experiment, os.environ))
    _refuse(_missing_device(os.environ))
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # every process builds the model; transformers reads it too
    forget_precision()
    if not has_device:
        keep_memory_and_kernels()
    accelerator = _meet(experiment, cpu=not has_device)
    if accelerator.is_main_process:
        tell_idle_gpu()
    _refuse(_ignored_requests(accelerator, os.environ))
    if accelerator.distributed_type == DistributedType.FSDP:
        _set_fsdp_precision(accelerator, experiment)
    if uses_zero(accelerator):
        _refuse(zero_problems(experiment, accelerator))
        configure_zero(experiment, accelerator)
    if not accelerator.is_main_process:
        transformers_logging.set_verbosity_error()
        for package in ("vanilla_transformers", "vanilla_recipes"):
            logging.getLogger(package).setLevel(logging.ERROR)
    return accelerator


def forget_precision() -> None:
    """Lets this process train in another precision than an earlier run in it, if accelerate has a way to.

    Without one, accelerate refuses another precision itself.
    """
    getattr(AcceleratorState, "_reset_state", lambda: None)()


def _meet(experiment: Experiment, cpu: bool) -> Accelerator:
    precision = "no" if experiment.precision == "fp32" else experiment.precision
    timeout = InitProcessGroupKwargs(timeout=timedelta(seconds=experiment.process_timeout.amount))
    try:
        return Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[timeout])
    except ImportError as error:
        raise UserError(f"the launch needs a library that is not installed: {one_line(str(error))}") from error
    except (RuntimeError, ValueError) as error:
        number = int(os.environ.get("WORLD_SIZE", 1))
        where = ", ".join(f"{name}={os.environ.get(name)}" for name in ("MASTER_ADDR", "MASTER_PORT"))
        what = f"the {number} processes did not find each other at {where}" if number > 1 else "Accelerate cannot start"
        raise UserError(f"{what}: {one_line(str(error))}") from error


def _refuse(problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        raise UserError("; ".join(found))


def _contradictions(experiment: Experiment, environment: Mapping[str, str]) -> Iterator[str]:
    """Settings of `accelerate launch` that the experiment decides, or that the loop does not know."""

    def asked(name: str) -> bool:
        return environment.get(name, "false").lower() == "true"

    precision = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", experiment.precision):
        yield (
            f"mixed_precision={precision} in accelerate's configuration, but precision={experiment.precision}: leave "
            f"the former out, and set precision"
        )
    if environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1") != "1":
        yield "gradient_accumulation_steps in accelerate's configuration: set it to 1, and use batch.micro_batches"
    if environment.get("ACCELERATE_DYNAMO_BACKEND", "NO").upper() != "NO":
        yield "dynamo_backend in accelerate's configuration: leave it out, and use compile=true"
    if asked("FSDP_ACTIVATION_CHECKPOINTING"):
        yield "fsdp_activation_checkpointing in accelerate's configuration: set gradient_checkpointing=true instead"
    if asked("ACCELERATE_USE_FSDP") and environment.get("FSDP_VERSION", "1") != "2":
        yield "accelerate's configuration asks for the first version of FSDP: set fsdp_version: 2"
    for name, what in (("MEGATRON_LM", "Megatron-LM"), ("PARALLELISM_CONFIG", "a parallelism_config")):
        if asked(f"ACCELERATE_USE_{name}"):
            yield f"accelerate's configuration asks for {what}, which these recipes do not train with: use DDP or FSDP2"


def _missing_device(environment: Mapping[str, str]) -> Iterator[str]:
    """More processes on this machine than it has GPUs, or than a process can see of them."""
    place, num_devices = int(environment.get("LOCAL_RANK", 0)), torch.accelerator.device_count()
    if environment.get("ACCELERATE_USE_CPU", "false").lower() != "true" and 0 < num_devices <= place:
        yield (
            f"process {place} of this machine needs a GPU of its own but sees {num_devices}: start no more processes "
            f"than GPUs; under srun let every task see all of them (--gpus-per-node, not --gpus-per-task)"
        )


def _ignored_requests(accelerator: Accelerator, environment: Mapping[str, str]) -> Iterator[str]:
    """What the launcher was asked for and Accelerate, without a word, does not do."""
    launched = int(environment.get("WORLD_SIZE", 1))
    if accelerator.num_processes != launched:
        yield (
            f"the launcher started {launched} processes but Accelerate sees {accelerator.num_processes}: each would "
            f"train a model of its own; launch with torchrun, or with accelerate launch --multi_gpu"
        )
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in environment
    if by_accelerate and launched == accelerator.num_processes == 1 and "MASTER_PORT" in environment:
        yield (
            "accelerate launch was asked for several processes but starts one where it is told to use the CPU "
            "(--cpu, MULTI_CPU): use `vanilla train CONFIG --num_processes N`, or accelerate launch --multi_gpu"
        )
    for name in ("FSDP", "DEEPSPEED"):
        asked = environment.get(f"ACCELERATE_USE_{name}", "false").lower() == "true"
        if asked and accelerator.distributed_type != name:
            yield (
                f"{name} was asked for, but Accelerate would train without it: it needs a GPU for each process, and "
                f"`accelerate launch --num_processes N` with N of 2 or more"
            )


def _set_fsdp_precision(accelerator: Accelerator, experiment: Experiment) -> None:
    """Gathers parameters in the half precision of autocast, but adds gradients up in fp32.

    Accelerate's own policy would also round the inputs of the model, and with them the number of targets.
    """
    dtype = _DTYPES.get(experiment.precision)
    accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
