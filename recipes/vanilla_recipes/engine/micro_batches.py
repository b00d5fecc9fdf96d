"""Finds the number of micro-batches with which a batch fits into memory, before the first step.

On a CPU this works only if the system refuses to allocate too much memory. Linux usually grants the memory and kills
the process later.
"""

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from accelerate.utils.other import extract_model_from_parallel
from torch import nn

from vanilla_recipes.engine.plan import Plan, Rows
from vanilla_recipes.engine.step import Gradients, over_processes
from vanilla_recipes.errors import UserError
from vanilla_recipes.processes.whole_tensors import is_sharded

_ADAMW_STATES = 2  # number of AdamW's moment estimates, each of which is as large as the parameters


def find_micro_batches(gradients: Gradients, plan: Plan, epoch: int) -> int:
    """The smallest number of micro-batches with which the largest batches of an epoch fit into memory.

    The number is a power of two, and equal on all processes. Each batch is tried with a forward and a backward pass.
    Gradients are cleared afterwards; weights and random number generators do not change.

    Raises:
        UserError: If a single row does not fit into memory, or if the launch shards the model.
    """
    if is_sharded(gradients.accelerator):
        raise UserError(
            "batch.micro_batches=auto: cannot be found under FSDP or DeepSpeed, where all processes would wait for the "
            "process that ran out of memory: give a number"
        )
    num_micro = 1
    for groups in _largest(plan, epoch):
        while not _fits_everywhere(gradients, groups, epoch, num_micro):
            if gradients.num_parts(len(groups), num_micro) >= max(map(len, groups)):
                raise _too_large(np.concatenate(groups), plan, epoch, gradients.accelerator.device)
            num_micro *= 2
    return num_micro


def _largest(plan: Plan, epoch: int) -> list[list[Rows]]:
    """The batch with the costliest group, and the batch with the longest row, whose attention needs most memory."""
    batches = [plan.batch(epoch, step) for step in range(plan.num_steps(epoch))]
    return [
        max(batches, key=lambda groups: max(plan.cost(rows, epoch) for rows in groups)),
        max(batches, key=lambda groups: max(plan.lengths(epoch)[rows].max() for rows in groups)),
    ]


def _fits_everywhere(gradients: Gradients, groups: list[Rows], epoch: int, num_micro: int) -> bool:
    fits = _fits(gradients, groups, epoch, num_micro)
    if not fits:
        clear_device_cache(garbage_collection=True)  # the error's traceback may keep tensors of the failed pass alive
    return over_processes(gradients.accelerator, [float(not fits)]) == [0.0]


def _fits(gradients: Gradients, groups: list[Rows], epoch: int, num_micro: int) -> bool:
    """Whether the step fits into the memory of this process.

    The step is computed without exchanging gradients. Otherwise, if one process ran out of memory, the other processes
    would wait for it forever.
    """
    model = extract_model_from_parallel(gradients.loss)
    device = gradients.accelerator.device
    # `fork_rng` does not work with an mps device: it passes the device to functions of torch.mps that take none. The
    # generator of mps is seeded in every step anyway.
    seeded_apart = device.type not in (
        "cpu",
        "mps",
    )
    with torch.random.fork_rng([device] if seeded_apart else [], device_type=device.type):
        try:
            reserved = _reserve(model, gradients.accelerator.num_processes)
            batches = [gradients.on_device(each.batch) for each in gradients.cut(groups, epoch, num_micro)]
            count = torch.ones((), device=device)
            if gradients.side_by_side is not None and len(batches) > 1:
                gradients.side_by_side.add_up(batches, count, range(len(batches)))
            else:
                for batch in batches:
                    model(batch, count).backward()
            del reserved
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            return False
        finally:
            model.zero_grad(set_to_none=True)
    return True


def _reserve(model: nn.Module, num_processes: int) -> list[torch.Tensor]:
    """Allocates as much memory as the optimizer and the exchange of gradients need from the first step on.

    With several processes, the buckets in which gradients are exchanged are as large as the parameters.
    """
    copies = _ADAMW_STATES + (num_processes > 1)
    return [torch.empty_like(p) for p in model.parameters() if p.requires_grad for _ in range(copies)]


def _too_large(rows: Rows, plan: Plan, epoch: int, device: torch.device) -> UserError:
    longest = max(rows, key=lambda row: plan.num_tokens(row, epoch))
    return UserError(
        f"batch.micro_batches=auto: row {longest} alone, with {plan.num_tokens(longest, epoch)} tokens, does not fit "
        f"into the memory of {device}: set gradient_checkpointing=true or precision=bf16, shorten the rows, or take a "
        f"smaller model"
    )
