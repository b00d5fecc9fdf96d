"""Distributed processes: connects them under Slurm, and reports an error once, not once per process."""

import os
import re
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress

import torch.distributed as dist

from vanilla_recipes.errors import ContactError, UserError

_FIRST_PORT, _NUM_PORTS = 20_000, 10_000


def join_slurm(environment: MutableMapping[str, str] = os.environ) -> None:
    """Under `srun` with several tasks, sets the environment variables with which torch connects processes.

    Does nothing if `WORLD_SIZE` is set: `srun` may have started torchrun or accelerate, which set these variables.

    Raises:
        UserError: If Slurm's variables for the rank or the hosts of the tasks are not set.
    """
    num_tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")  # set by srun only, unlike SLURM_NTASKS
    if num_tasks == "1" or "WORLD_SIZE" in environment:
        return
    missing = {"SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NODELIST"} - environment.keys()
    if missing:
        raise UserError(f"srun started {num_tasks} tasks, but {', '.join(sorted(missing))} is not set: use torchrun")
    seed = int(environment.get("SLURM_JOB_ID", 0)) + int(environment.get("SLURM_STEP_ID", 0))
    environment.update(
        WORLD_SIZE=num_tasks,
        RANK=environment["SLURM_PROCID"],
        LOCAL_RANK=environment["SLURM_LOCALID"],
        MASTER_ADDR=environment.get("MASTER_ADDR") or first_host(environment["SLURM_STEP_NODELIST"]),
        MASTER_PORT=environment.get("MASTER_PORT") or str(_FIRST_PORT + seed % _NUM_PORTS),
    )


def first_host(hosts: str) -> str:
    """The first host of a list in Slurm's notation: `gpu03-ib` for `gpu[03-05,9]-ib,head`."""
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", re.split(r",(?![^\[]*\])", hosts)[0])


def speaks() -> bool:
    """Whether this process reports the error that ends the run.

    If the processes are connected, only the first process that calls this function reports the error. Otherwise all
    processes have the same error, and local rank 0 of each machine reports it.
    """
    default_store = getattr(dist.distributed_c10d, "_get_default_store", None)
    if dist.is_initialized() and default_store is not None:
        with suppress(RuntimeError):  # raised if the process that hosts the store has ended
            return default_store().add("fault told", 1) == 1
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"


@contextmanager
def contact() -> Iterator[None]:
    """Turns the errors that torch raises when another process ends or hangs into a one-line error.

    Raises:
        ContactError: If another process ended or hung while the block ran.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise ContactError(
            "lost contact with another process, which ended or hung (a process that runs out of memory gets killed); "
            "resume=if_available continues from the newest checkpoint"
        ) from error
