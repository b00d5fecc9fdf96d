"""Averaged weights: a moving average over the steps, or the mean of the last checkpoints.

They stand beside the trained weights and change places with them while the model is scored and saved.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from vanilla_recipes.processes.whole_tensors import laid_out_like, whole

Weights = Mapping[str, torch.Tensor]

_lerp_all = getattr(torch, "_foreach_lerp_", None)
"""One kernel for all tensors on a GPU, if this torch has it."""


class AveragedWeights:
    """An average of a model's trained parameters, in fp32, which begins as a copy of them.

    Args:
        model: frozen parameters do not change and are left alone; under FSDP each process averages its own shards.
    """

    def __init__(self, model: nn.Module) -> None:
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._names = list(trained)
        self._parameters: list[torch.Tensor] = list(trained.values())
        self._average = [parameter.detach().float().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, step: int, decay: float) -> None:
        """Takes in the weights after step `step`, counted from 1: average += (1 - d) x (weights - average).

        d is min(decay, (1 + step) / (10 + step)): the average of a short run is not that of its first steps.
        """
        weight = 1.0 - min(decay, (1 + step) / (10 + step))
        if _lerp_all is not None:
            _lerp_all(self._average, self._parameters, weight)
            return
        for average, parameter in zip(self._average, self._parameters, strict=True):
            average.lerp_(parameter, weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While active, the model has the averaged weights; afterwards it has its own again, bit for bit."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The averages by name, whole ones also under FSDP, where all processes must ask for them."""
        return {name: whole(average) for name, average in zip(self._names, self._average, strict=True)}

    @torch.no_grad()
    def load_state_dict(self, weights: Weights) -> None:
        """Takes the averages from `weights`, which may hold others too."""
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(laid_out_like(average, weights[name]))

    @torch.no_grad()
    def _exchange(self) -> None:
        for parameter, average in zip(self._parameters, self._average, strict=True):
            own = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(own)


def mean_weights(first: Weights, others: Iterable[Weights]) -> dict[str, torch.Tensor]:
    """The mean of each tensor of `first` and of those of its name in the others, which are held one at a time.

    Adds up in float64.
    """
    total = {name: tensor.double() for name, tensor in first.items()}
    num_models = 1
    for weights in others:
        num_models += 1
        for name in total:
            total[name] += weights[name].to(total[name].device)
    return {name: (tensor / num_models).float() for name, tensor in total.items()}


def average_with(model: nn.Module, files: Sequence[Path]) -> AveragedWeights:
    """The mean of a model's weights and of those in checkpoints, whose files hold state dictionaries of the model."""
    average = AveragedWeights(model)
    own = average.state_dict()
    others = (torch.load(file, map_location="cpu", weights_only=True) for file in files)
    average.load_state_dict(mean_weights(own, others))
    return average
