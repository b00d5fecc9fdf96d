"""Computes the groups of a batch in parallel threads of one process on a CPU.

For two large groups of an encoder-decoder, two threads that compute one group each are faster than two threads that
share every operation: the threads wait for each other once per step instead of thousands of times.
"""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from vanilla_recipes.engine.forward import training_loss
from vanilla_recipes.engine.task import Batch
from vanilla_recipes.models.stock import is_stock
from vanilla_recipes.settings.experiment import Experiment
from vanilla_transformers.fast.dropout import apply_dropout, drawing_from
from vanilla_transformers.model.attention import attention_implementation
from vanilla_transformers.model.operations import OPERATIONS


class SideBySide:
    """Computes gradients in parallel threads, with one copy of the model per thread.

    The copies share their weights but have separate gradients. The gradients are summed in the order of the copies, so
    that the sum is deterministic. torch's threads (`torch.get_num_threads()`) are divided among the copies.

    Args:
        model: the model. The first call of `add_up` makes the copies.
        num_copies: number of copies, the model itself included.
        autocast: returns the context manager for forward passes.
    """

    def __init__(self, model: PreTrainedModel, num_copies: int, autocast: Callable[[], AbstractContextManager]) -> None:
        self.num_copies, self.autocast = num_copies, autocast
        self._models = [model]
        self._pool = ThreadPoolExecutor(num_copies - 1, thread_name_prefix="gradients")

    def add_up(self, batches: Sequence[Batch], count: torch.Tensor, seeds: Sequence[int]) -> list[torch.Tensor]:
        """Adds the gradients of several batches to the gradients of the model; returns the losses of the batches.

        Args:
            batches: the batches. Copy number i computes the batches i, i + `num_copies`, and so on.
            count: number of targets by which the losses are divided.
            seeds: the seed of dropout for each batch.
        """
        if len(self._models) == 1:
            self._models += [shallow_copy(self._models[0]) for _ in range(self.num_copies - 1)]
        losses: list[torch.Tensor] = [count] * len(batches)
        num_threads = torch.get_num_threads()

        def compute(copy_number: int) -> None:
            torch.set_num_threads(max(1, num_threads // self.num_copies))  # sets the number for the current thread only
            for index in range(copy_number, len(batches), self.num_copies):
                losses[index] = self._add(self._models[copy_number], batches[index], count, seeds[index])

        others = [self._pool.submit(compute, number) for number in range(1, min(self.num_copies, len(batches)))]
        try:
            try:
                compute(0)
            finally:
                wait(others)
                torch.set_num_threads(num_threads)
            for other in others:
                other.result()  # raises the exception of the thread, if any
        except BaseException:
            for model in self._models[1:]:
                model.zero_grad()
            raise
        self._collect()
        return losses

    def _add(self, model: PreTrainedModel, batch: Batch, count: torch.Tensor, seed: int) -> torch.Tensor:
        with drawing_from(torch.Generator().manual_seed(seed)), self.autocast():
            loss = training_loss(model, batch, count)
        loss.backward()
        return loss.detach()

    def _collect(self) -> None:
        """Adds the gradients of the copies to the gradients of the model, and clears them in the copies."""
        own = list(self._models[0].parameters())
        for model in self._models[1:]:
            for mine, its in zip(own, model.parameters(), strict=True):
                if mine.grad is None:
                    mine.grad = its.grad
                elif its.grad is not None:
                    mine.grad.add_(its.grad)
                its.grad = None


def shallow_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of the modules that shares the data of parameters and buffers with `model`, but has separate gradients."""
    tensors: dict[int, torch.Tensor] = {id(buffer): buffer for buffer in model.buffers()}
    for parameter in model.parameters():
        tensors[id(parameter)] = torch.nn.Parameter(parameter.data, parameter.requires_grad)
    return copy.deepcopy(model, tensors)


def side_by_side(model: PreTrainedModel, experiment: Experiment, accelerator: Accelerator) -> SideBySide | None:
    """A `SideBySide` if the groups of a batch can be computed in parallel threads, else None.

    This requires several groups and threads, one process on a CPU, a model of this package, and no random numbers
    except those of this package's dropout. `compile`, `gradient_checkpointing` and adapters must be off.
    """
    num_copies = min(experiment.batch.groups, torch.get_num_threads())
    is_alone = accelerator.device.type == "cpu" and accelerator.num_processes == 1
    is_changed = experiment.compile or experiment.gradient_checkpointing or experiment.peft.r is not None
    if num_copies == 1 or not is_alone or is_changed or is_stock(model) or not draws_our_dropout(model):
        return None
    return SideBySide(model, num_copies, accelerator.autocast)


def draws_our_dropout(model: PreTrainedModel) -> bool:
    """Whether all random numbers of a model of this package are drawn by this package's dropout.

    This is false if attention weights are dropped and the attention kernel is not eager: other kernels draw their own
    random numbers.
    """
    if OPERATIONS.dropout is not apply_dropout:
        return False
    config = model.config
    return config.attention_probs_dropout_prob == 0 or attention_implementation(config) == "eager"
