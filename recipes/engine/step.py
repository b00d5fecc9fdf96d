"""The gradients of one optimizer step.

The loss of a step is the sum over its targets divided by their number, which is counted over all micro-batches and
processes before the first of them is computed: how the batch is cut does not change the gradient.
"""

from contextlib import nullcontext

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from transformers import PreTrainedModel

from vanilla_transformers.recipes.engine.plan import Rows, share
from vanilla_transformers.recipes.engine.stock import training_loss
from vanilla_transformers.recipes.engine.task import Batch, Task

MicroBatches = list[tuple[Batch, float]]


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
    """

    def __init__(self, task: Task, loss: nn.Module, accelerator: Accelerator) -> None:
        self.task, self.loss, self.accelerator = task, loss, accelerator

    def cut(self, rows: Rows, epoch: int, num_micro: int) -> MicroBatches:
        """This process's micro-batches with their weights: 0 for one that only keeps step with the others."""
        num_parts = num_micro * self.accelerator.num_processes
        batches: MicroBatches = []
        for micro in range(num_micro):
            part = share(rows, micro * self.accelerator.num_processes + self.accelerator.process_index, num_parts)
            if len(part) or not batches:
                weight = 1.0 if len(part) else 0.0
                part = part if len(part) else rows[:1]
                batches.append((self.task.make_batch(part, epoch), weight))
        return batches

    def num_targets(self, batches: MicroBatches) -> float:
        """The targets of the step, all processes together."""
        count = sum(self.task.num_targets(batch) for batch, weight in batches if weight)
        return over_processes(self.accelerator, [count])[0]

    def add_up(self, batches: MicroBatches, num_targets: float) -> torch.Tensor:
        """Adds the gradients of the step to those of the parameters; returns this process's share of the loss."""
        # Without any target the loss is 0, not 0 / 0.
        num_processes = self.accelerator.num_processes
        count = torch.tensor(max(1.0, num_targets), device=self.accelerator.device)
        losses = []
        for index, (batch, weight) in enumerate(batches):
            is_last = index == len(batches) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.loss):
                with self.accelerator.autocast():  # which `prepare` adds to other models, but not to those under FSDP2
                    loss = self.loss(self.on_device(batch), count)
                loss = loss if weight == 1.0 else loss * weight
                losses.append(loss.detach())
                # Data-parallel training averages the gradients over the processes; the loss is a sum over them.
                self.accelerator.backward(loss if num_processes == 1 else loss * num_processes)
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def on_device(self, batch: Batch) -> Batch:
        """The batch where the model is."""
        return send_to_device(batch, self.accelerator.device, non_blocking=True)


def over_processes(accelerator: Accelerator, figures: list[float]) -> list[float]:
    """The sums of some figures over all processes, the same on each of them."""
    if accelerator.num_processes == 1:
        return figures
    tensor = torch.tensor(figures, dtype=torch.float64, device=accelerator.device)
    return accelerator.reduce(tensor, "sum").tolist()


def seed_dropout(seed: int, step: int, accelerator: Accelerator) -> None:
    """Makes dropout a function of seed, step and process, so that a resumed run repeats it."""
    entropy = [seed, step, accelerator.process_index]
    state = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
    if accelerator.device.type == "cpu":
        torch.default_generator.manual_seed(state)  # torch.manual_seed asks every kind of device: 0.5 ms
    else:
        torch.manual_seed(state)
