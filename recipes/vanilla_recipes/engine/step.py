"""Computes the gradients of one optimizer step.

The loss of a step is the sum over its targets divided by the number of targets. The targets of all micro-batches and
processes are counted before the first forward pass. So the division into micro-batches does not change the gradient.
"""

import math
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from transformers import PreTrainedModel

from vanilla_recipes.engine.forward import training_loss
from vanilla_recipes.engine.plan import Rows, share
from vanilla_recipes.engine.side_by_side import SideBySide
from vanilla_recipes.engine.task import Batch, Task


class MicroBatch(NamedTuple):
    """A micro-batch: a part of a step's batch with its own forward and backward pass.

    Attributes:
        batch: the rows of the micro-batch.
        number: index of the micro-batch in the step, unique over all processes.
        weight: factor of the loss; 0 for a dummy micro-batch, with which a process only takes part in the forward and
            backward passes of the other processes.
    """

    batch: Batch
    number: int
    weight: float = 1.0


class Loss(nn.Module):
    """Wraps a model and returns only its loss, so that Accelerate does not convert the logits to fp32."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._no_split_modules = model._no_split_modules  # FSDP gathers one module of these classes at a time

    def forward(self, batch: Batch, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        return training_loss(self.model, batch, num_items_in_batch)


class Gradients:
    """Computes the gradients of a batch that is divided among processes and micro-batches.

    Args:
        task: makes the batches and counts their targets.
        loss: a `Loss`, as Accelerate prepared it.
        accelerator: the processes among which the batch is divided.
        seed: the seed of the run.
        side_by_side: computes micro-batches in parallel threads; None computes them one after the other.
    """

    def __init__(
        self,
        task: Task,
        loss: nn.Module,
        accelerator: Accelerator,
        seed: int = 0,
        side_by_side: SideBySide | None = None,
    ) -> None:
        self.task, self.loss, self.accelerator = task, loss, accelerator
        self.seed, self.side_by_side = seed, side_by_side

    def cut(self, groups: list[Rows], epoch: int, num_micro: int) -> list[MicroBatch]:
        """The micro-batches of this process.

        Every process gets the same number of micro-batches, because in a sharded run all processes take part in every
        forward pass. A process with too few parts gets dummy micro-batches of weight 0.

        Args:
            groups: the rows of the step, of all processes. A micro-batch contains rows of one group only.
            epoch: the epoch of the rows.
            num_micro: number of micro-batches into which each process cuts its share of a group.
        """
        num_processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        num_parts = self.num_parts(len(groups), num_micro)
        parts = [share(rows, part, num_parts) for rows in groups for part in range(num_parts)]
        numbers = [[n for n in range(i, len(parts), num_processes) if len(parts[n])] for i in range(num_processes)]
        found = [MicroBatch(self.task.make_batch(parts[n], epoch), n) for n in numbers[rank]]
        while len(found) < max(map(len, numbers)):
            found.append(MicroBatch(self.task.make_batch(groups[0][:1], epoch), rank, weight=0.0))
        return found

    def num_parts(self, num_groups: int, num_micro: int) -> int:
        """The number of parts into which each group is cut.

        The total number of parts is a multiple of the number of processes, and at least `num_micro` per process.
        """
        return num_micro * math.lcm(num_groups, self.accelerator.num_processes) // num_groups

    def num_targets(self, micro_batches: list[MicroBatch]) -> float:
        """The number of targets of the step, summed over all processes. Every process must call this method."""
        count = sum(self.task.num_targets(each.batch) for each in micro_batches if each.weight)
        return over_processes(self.accelerator, [count])[0]

    def add_up(self, micro_batches: list[MicroBatch], num_targets: float, step: int) -> torch.Tensor:
        """Adds the gradients of the step to the gradients of the parameters; returns this process's share of the loss.

        Args:
            micro_batches: the micro-batches of this process.
            num_targets: number of targets of the step, summed over all processes.
            step: number of optimizer steps taken so far; a part of the seed of dropout.
        """
        # The count is at least 1, so that the loss of a step without targets is 0 instead of 0 / 0.
        count = torch.tensor(max(1.0, num_targets), device=self.accelerator.device)
        seeds = [dropout_seed(self.seed, step, each.number) for each in micro_batches]
        if self.side_by_side is not None and len(micro_batches) > 1:
            losses = self.side_by_side.add_up([each.batch for each in micro_batches], count, seeds)
        else:
            losses = []
            for number, (each, seed) in enumerate(zip(micro_batches, seeds, strict=True), start=1):
                seed_dropout(seed, self.accelerator.device)
                losses.append(self._add(each, count, is_last=number == len(micro_batches)))
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _add(self, micro_batch: MicroBatch, count: torch.Tensor, is_last: bool) -> torch.Tensor:
        num_processes, weight = self.accelerator.num_processes, micro_batch.weight
        with nullcontext() if is_last else self.accelerator.no_sync(self.loss):
            with self.accelerator.autocast():  # `prepare` adds autocast to the forward pass, but not under FSDP2
                loss = self.loss(self.on_device(micro_batch.batch), count)
            loss = loss if weight == 1.0 else loss * weight
            # Data-parallel training averages gradients over processes. The factor turns the average into the sum.
            self.accelerator.backward(loss if num_processes == 1 else loss * num_processes)
        return loss.detach()

    def on_device(self, batch: Batch) -> Batch:
        """Moves a batch to the device of the model."""
        return send_to_device(batch, self.accelerator.device, non_blocking=True)


def over_processes(accelerator: Accelerator, figures: list[float]) -> list[float]:
    """Sums each figure over all processes. Every process must call this function, and gets the same sums."""
    if accelerator.num_processes == 1:
        return figures
    tensor = torch.tensor(figures, dtype=torch.float64, device=accelerator.device)
    return accelerator.reduce(tensor, "sum").tolist()


def dropout_seed(seed: int, step: int, number: int) -> int:
    """The seed of dropout in a micro-batch, from the seed of the run, the step and the micro-batch's number.

    A resumed run therefore repeats the same dropout.
    """
    return int(np.random.SeedSequence([seed, step, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_dropout(seed: int, device: torch.device) -> None:
    """Seeds torch's default generator, from which dropout draws."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would take 0.5 ms for checking all devices
    else:
        torch.manual_seed(seed)
