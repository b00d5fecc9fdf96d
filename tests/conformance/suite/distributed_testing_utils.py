"""Stand-in for the module of this name which the source distribution of transformers lacks.

The tensor-parallel and FSDP mixins start their ranks through it. Ranks run on the CPU over gloo. They are forked from a
server that has imported the mixins once, because importing them takes longer than most of the tests.
"""

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _get_distributed_device_type() -> str:
    return "cpu"


def _get_distributed_backend() -> str:
    return "gloo"


def _get_rank_device(rank: int) -> torch.device:
    return torch.device("cpu")


def _set_rank_device(rank: int) -> None:
    torch.set_num_threads(1)


def _start_rank_processes(function: Callable[..., None], args: tuple[Any, ...], nprocs: int) -> None:
    """Run ``function(rank, *args)`` in ``nprocs`` processes and raise what the first failing one raised."""
    mp.get_context("forkserver").set_forkserver_preload(["tests.families"])
    mp.start_processes(function, args=args, nprocs=nprocs, start_method="forkserver")


def _run_rank(rank: int, function: Callable[..., None], world_size: int, store: str, args: tuple[Any, ...]) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    _set_rank_device(rank)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    try:
        function(rank, *args)
    finally:
        dist.destroy_process_group()


def run_distributed(world_size: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator: the call ``decorated(*args)`` runs ``function(rank, *args)`` in ``world_size`` ranks."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def start(*args: Any) -> None:
            with tempfile.TemporaryDirectory() as folder:
                store = str(Path(folder, "rendezvous"))
                _start_rank_processes(_run_rank, (function, world_size, store, args), world_size)

        return start

    return decorate
