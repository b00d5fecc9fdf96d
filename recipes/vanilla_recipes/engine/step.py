"""The gradients of one optimizer step.

The loss of a step is the sum over its targets divided by their number, which is counted over all micro-batches and
processes before the first of them is computed: how the batch is cut does not change the gradient.
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
    """A part of a step's batch that is computed by itself.

    Attributes:
        batch: some of the rows.
        number: tells it from the other parts of the step, of all processes.
        weight: of its loss; 0 for one that only keeps step with the other processes.
    """

    batch: Batch
    number: int
    weight: float = 1.0


class Loss(nn.Module):
    """Returns the loss alone, so that Accelerate, which turns outputs into fp32, leaves the logits as they are."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._no_split_modules = model._no_split_modules  # what FSDP gathers one at a time

    def forward(self, batch: Batch, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        return training_loss(self.model, batch, num_items_in_batch)


class Gradients:
    """Computes the gradients of a batch, cut into processes and micro-batches.

    Args:
        task: makes the batches and counts their targets.
        loss: a `Loss`, as Accelerate prepared it.
        accelerator: the processes that share the batch out among themselves.
        seed: of the run.
        side_by_side: computes micro-batches at the same time; None computes one after the other.
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
        """This process's micro-batches, as many as every other's: shards of a model wait for each other in each.

        Args:
            groups: the rows of the step, of all processes; rows of one micro-batch are of one group.
            epoch: to which the rows belong.
            num_micro: the parts into which each process cuts what it has of a group.
        """
        num_processes, place = self.accelerator.num_processes, self.accelerator.process_index
        num_parts = self.num_parts(len(groups), num_micro)
        parts = [share(rows, part, num_parts) for rows in groups for part in range(num_parts)]
        numbers = [[n for n in range(i, len(parts), num_processes) if len(parts[n])] for i in range(num_processes)]
        found = [MicroBatch(self.task.make_batch(parts[n], epoch), n) for n in numbers[place]]
        while len(found) < max(map(len, numbers)):
            found.append(MicroBatch(self.task.make_batch(groups[0][:1], epoch), place, weight=0.0))
        return found

    def num_parts(self, num_groups: int, num_micro: int) -> int:
        """The parts into which each of so many groups is cut, so that every process gets `num_micro` or more of all."""
        return num_micro * math.lcm(num_groups, self.accelerator.num_processes) // num_groups

    def num_targets(self, micro_batches: list[MicroBatch]) -> float:
        """The targets of the step, all processes together."""
        count = sum(self.task.num_targets(each.batch) for each in micro_batches if each.weight)
        return over_processes(self.accelerator, [count])[0]

    def add_up(self, micro_batches: list[MicroBatch], num_targets: float, step: int) -> torch.Tensor:
        """Adds the gradients of the step to those of the parameters; returns this process's share of the loss.

        Args:
            micro_batches: those of this process.
            num_targets: all of the step's.
            step: its number, which decides what dropout sets to zero.
        """
        # Without any target the loss is 0, not 0 / 0.
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
            with self.accelerator.autocast():  # which `prepare` adds to other models, but not to those under FSDP2
                loss = self.loss(self.on_device(micro_batch.batch), count)
            loss = loss if weight == 1.0 else loss * weight
            # Data-parallel training averages the gradients over the processes; the loss is a sum over them.
            self.accelerator.backward(loss if num_processes == 1 else loss * num_processes)
        return loss.detach()

    def on_device(self, batch: Batch) -> Batch:
        """The batch where the model is."""
        return send_to_device(batch, self.accelerator.device, non_blocking=True)


def over_processes(accelerator: Accelerator, figures: list[float]) -> list[float]:
    """The sums of some figures over all processes, the same on each of them."""
    if accelerator.num_processes == 1:
        return figures
    tensor = torch.tensor(figures, dtype=torch.float64, device=accelerator.device)
    return accelerator.reduce(tensor, "sum").tolist()


def dropout_seed(seed: int, step: int, number: int) -> int:
    """What dropout begins with in a micro-batch: a function of the run's seed, the step and the micro-batch's number,
    so that a resumed run repeats it."""
    return int(np.random.SeedSequence([seed, step, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_dropout(seed: int, device: torch.device) -> None:
    """Seeds the generator that dropout draws from."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)  # torch.manual_seed asks every kind of device: 0.5 ms
    else:
        torch.manual_seed(seed)
