"""Runs a function in several processes that are connected by gloo.

The processes start fast: they are forked from a server process that has already imported the recipes.
"""

import functools
import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

SERVER = multiprocessing.get_context("forkserver")
RECIPES = ["translation", "classification", "generation", "masked_lm"]
SCORES = ["translations", "classification", "perplexity"]
SERVER.set_forkserver_preload(
    [f"vanilla_recipes.{name}" for name in (*RECIPES, *(f"scoring.{score}" for score in SCORES))]
)


def in_processes(num_processes: int, function: Callable, *arguments: Any, shards: str | None = None) -> list[Any]:
    """Runs a function in each process; returns the results in the order of the ranks.

    The environment of a process is as torchrun sets it (RANK, WORLD_SIZE and so on).

    Args:
        num_processes: number of processes.
        function: a module-level function; its arguments and its result are pickled.
        arguments: arguments of the function.
        shards: how Accelerate shards the model: "fsdp", "zero2", "zero3", or None for no shards.

    Raises:
        AssertionError: If the function fails in a process; the message is the traceback.
        TimeoutError: If a process does not answer within 240 seconds.
    """
    port = free_port()
    pipes, processes = [], []
    for rank in range(num_processes):
        pipe, end = SERVER.Pipe(duplex=False)
        environment = {
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1,
        }  # fmt: skip
        process = SERVER.Process(target=_work, args=(end, environment, shards, function, arguments))
        process.start()
        end.close()
        pipes.append(pipe)
        processes.append(process)
    try:
        return [_answer(pipe) for pipe in pipes]
    finally:
        for process in processes:
            process.join(timeout=5)
            process.kill()


def _work(end: Any, environment: dict[str, Any], shards: str | None, function: Callable, arguments: tuple) -> None:
    os.environ.update({name: str(value) for name, value in environment.items()})
    torch.set_num_threads(1)
    if shards is not None:
        shard_on_cpu(shards)
    try:
        end.send((True, function(*arguments)))
    except BaseException:
        end.send((False, traceback.format_exc()))
        sys.exit(1)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _answer(pipe: Any) -> Any:
    if not wait([pipe], timeout=240):
        raise TimeoutError("a process did not answer within 240 seconds")
    good, answer = pipe.recv()
    if not good:
        raise AssertionError(answer)
    return answer


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def shard_on_cpu(shards: str) -> None:
    """Makes Accelerate use FSDP2 or DeepSpeed on a CPU with gloo.

    Accelerate offers them on GPUs only. Only its choice between them is patched; the code that it then calls is real.
    """
    zero = shards.startswith("zero")
    os.environ |= zero_environment(shards[-1]) if zero else FSDP_ENVIRONMENT
    original = AcceleratorState.__init__

    @functools.wraps(original)
    def patched(self, *arguments, fsdp_plugin=None, deepspeed_plugin=None, **settings):
        plugins = {"fsdp_plugin": fsdp_plugin, "deepspeed_plugin": deepspeed_plugin}
        original(self, *arguments, **plugins, **settings)
        plugin = deepspeed_plugin if zero else fsdp_plugin
        kind = DistributedType.DEEPSPEED if zero else DistributedType.FSDP
        if self.distributed_type not in (DistributedType.MULTI_CPU, kind) or plugin is None:
            return
        self.distributed_type = PartialState._shared_state["distributed_type"] = kind
        if zero:
            plugin.set_mixed_precision(self._mixed_precision)
            self._mixed_precision = "no"
            plugin.select(_from_accelerator_state=True)
            self.deepspeed_plugins = plugin
        else:
            if self._mixed_precision != "no":
                plugin.set_mixed_precision(self._mixed_precision)
            self.fsdp_plugin = plugin

    AcceleratorState.__init__ = patched


FSDP_ENVIRONMENT = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
}  # fmt: skip


def zero_environment(stage: str) -> dict[str, str]:
    return {
        "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": stage, "DS_ACCELERATOR": "cpu",
        "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
    }  # fmt: skip
