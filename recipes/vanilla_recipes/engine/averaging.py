"""Averaged weights: an exponential moving average over the steps, or the mean of the last checkpoints.

The averaged weights are kept in addition to the trained weights. The two are swapped while the model is scored and
saved.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from vanilla_recipes.processes.whole_tensors import laid_out_like, whole

Weights = Mapping[str, torch.Tensor]

_lerp_all = getattr(torch, "_foreach_lerp_", None)
"""torch's private function that updates all tensors in one kernel on a GPU, or None if this torch does not have it."""


class AveragedWeights:
    """An average of a model's trained parameters in fp32. It starts as a copy of the parameters.

    Args:
        model: the model. Its frozen parameters are ignored. Under FSDP each process averages its own shards.
    """

    def __init__(self, model: nn.Module) -> None:
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._names = list(trained)
        self._parameters: list[torch.Tensor] = list(trained.values())
        self._average = [parameter.detach().float().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, step: int, decay: float) -> None:
        """Updates the moving average: average += (1 - d) x (weights - average); d = min(decay, (1 + t) / (10 + t)).

        The bound (1 + t) / (10 + t) makes the average forget the first steps quickly, even in a short run.

        Args:
            step: t, the number of the optimizer step, counted from 1.
            decay: the upper bound of d.
        """
        weight = 1.0 - min(decay, (1 + step) / (10 + step))
        if _lerp_all is not None:
            _lerp_all(self._average, self._parameters, weight)
            return
        for average, parameter in zip(self._average, self._parameters, strict=True):
            average.lerp_(parameter, weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While active, the model has the averaged weights. Afterwards it has exactly the trained weights again."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The complete averaged parameters by name. Under FSDP every process must call this method."""
        return {name: whole(average) for name, average in zip(self._names, self._average, strict=True)}

    @torch.no_grad()
    def load_state_dict(self, weights: Weights) -> None:
        """Copies the averages from `weights` (name -> complete tensor). Other entries of `weights` are ignored."""
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(laid_out_like(average, weights[name]))

    @torch.no_grad()
    def _exchange(self) -> None:
        for parameter, average in zip(self._parameters, self._average, strict=True):
            own = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(own)


def mean_weights(first: Weights, others: Iterable[Weights]) -> dict[str, torch.Tensor]:
    """The mean of the weights of several models in fp32, for each tensor name in `first`.

    The sums are computed in float64. Only one entry of `others` is held in memory at a time.
    """
    total = {name: tensor.double() for name, tensor in first.items()}
    num_models = 1
    for weights in others:
        num_models += 1
        for name in total:
            total[name] += weights[name].to(total[name].device)
    return {name: (tensor / num_models).float() for name, tensor in total.items()}


def average_with(model: nn.Module, files: Sequence[Path]) -> AveragedWeights:
    """The mean of a model's weights and of the weights in checkpoint files, which hold state dicts of the model."""
    average = AveragedWeights(model)
    own = average.state_dict()
    others = (torch.load(file, map_location="cpu", weights_only=True) for file in files)
    average.load_state_dict(mean_weights(own, others))
    return average
