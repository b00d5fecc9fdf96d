"""Several processes that act as one: how they find each other, and which of them speaks."""

import os
import re
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress

import torch.distributed as dist

from vanilla_recipes.errors import ContactError, UserError

_FIRST_PORT, _NUM_PORTS = 20_000, 10_000


def join_slurm(environment: MutableMapping[str, str] = os.environ) -> None:
    """Under `srun` with several tasks, sets the variables by which torch finds the other processes.

    Variables that torchrun or accelerate have set are left alone: `srun` may have started these.

    Raises:
        UserError: Slurm does not say on which machines the tasks run.
    """
    num_tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")  # unlike SLURM_NTASKS, a batch script does not have it
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
    """The first of the machines in Slurm's notation: of `gpu[03-05,9]-ib,head` it is `gpu03-ib`."""
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", re.split(r",(?![^\[]*\])", hosts)[0])


def speaks() -> bool:
    """Whether this process is the one that tells of the fault that ends the run: the first that asks.

    Before they have met, all of them find the same fault, and the first of each machine tells of it.
    """
    default_store = getattr(dist.distributed_c10d, "_get_default_store", None)
    if dist.is_initialized() and default_store is not None:
        with suppress(RuntimeError):  # the process that kept the store is gone
            return default_store().add("fault told", 1) == 1
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"


@contextmanager
def contact() -> Iterator[None]:
    """Turns what torch says when another process ends or hangs into one line.

    Raises:
        ContactError: another process ended or hung while the block ran.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise ContactError(
            "lost contact with another process, which ended or hung (a process that takes more memory than there is "
            "gets killed); resume=if_available goes on from the newest checkpoint"
        ) from error
