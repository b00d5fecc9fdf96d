"""Starts a recipe as a program, and builds its Accelerator from the environment that the launcher set."""

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
from vanilla_recipes.settings.precision import HALF_DTYPES


def program(main: Callable[[Sequence[str]], int], file: str) -> int:
    """Calls a recipe's `main` with the command line, and returns the exit status.

    A `UserError` becomes one line on stderr and the exit status 1.
    """
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
    """Builds the Accelerator of this process and waits until all processes are connected.

    Raises:
        UserError: If `precision=fp16` and there is no GPU; if the launched processes would each train a separate model;
            if Accelerate would ignore an option of the launch; if the launch sets an option that belongs to the
            experiment; if a process has no GPU; or if the processes do not find each other.
    """
    has_device = torch.accelerator.is_available()
    if experiment.precision == "fp16" and not has_device:
        raise UserError("precision=fp16 needs a GPU: use bf16 or fp32")
    _refuse(_contradictions(experiment, os.environ))
    _refuse(_missing_device(os.environ))
    # Every process builds the complete model. If this variable were "true", transformers would load the weights on rank
    # 0 only.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
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
    """Resets Accelerate's state, so that this process can train in another precision than an earlier run in it.

    If a version of Accelerate lacks `_reset_state`, this function does nothing, and Accelerate itself refuses another
    precision.
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
    """Yields the settings of `accelerate launch` that belong to the experiment, or that the loop does not support."""

    def asked(name: str) -> bool:
        return environment.get(name, "false").lower() == "true"

    precision = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", experiment.precision):
        yield (
            f"mixed_precision={precision} in accelerate's configuration, but precision={experiment.precision}: leave "
            f"mixed_precision out, and set precision"
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
    """Yields a problem if this process has no GPU: too few GPUs on the machine, or too few visible to the process."""
    local_rank, num_devices = int(environment.get("LOCAL_RANK", 0)), torch.accelerator.device_count()
    if environment.get("ACCELERATE_USE_CPU", "false").lower() != "true" and 0 < num_devices <= local_rank:
        yield (
            f"process {local_rank} of this machine needs a GPU of its own but sees {num_devices}: start no more "
            "processes than GPUs; under srun let every task see all GPUs of its node (--gpus-per-node, not "
            "--gpus-per-task)"
        )


def _ignored_requests(accelerator: Accelerator, environment: Mapping[str, str]) -> Iterator[str]:
    """Yields the options of the launch that Accelerate ignores without a warning."""
    launched = int(environment.get("WORLD_SIZE", 1))
    if accelerator.num_processes != launched:
        yield (
            f"the launcher started {launched} processes but Accelerate sees {accelerator.num_processes}: each process "
            f"would train a separate model; launch with torchrun, or with accelerate launch --multi_gpu"
        )
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in environment
    if by_accelerate and launched == accelerator.num_processes == 1 and "MASTER_PORT" in environment:
        yield (
            "accelerate launch was asked for several processes but starts one if it is set to use the CPU "
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
    """Makes FSDP gather parameters in the dtype of autocast (bf16 or fp16), but reduce gradients in fp32.

    Accelerate's default policy would also cast the inputs of the model to this dtype, and so round the number of
    targets, which is one of the inputs.
    """
    dtype = HALF_DTYPES.get(experiment.precision)
    accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
