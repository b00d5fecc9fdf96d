"""How the layers of a model are computed while it trains: recomputed in the backward pass, compiled."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from vanilla_recipes.errors import UserError
from vanilla_recipes.settings.experiment import Experiment


def prepare_layers(model: PreTrainedModel, experiment: Experiment) -> None:
    """Applies `gradient_checkpointing` and `compile`; names of modules and parameters stay as they are.

    Layers are compiled one by one, not the whole model: they are alike, so that one is compiled for all, and the code
    fits batches of every size.

    Raises:
        UserError: the model cannot do it.
    """
    layers: list[nn.Module] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if experiment.gradient_checkpointing:
        if not layers:
            raise UserError(f"gradient_checkpointing=true: {type(model).__name__} has no layers that can be recomputed")
        model.activation_checkpointing_enable({"use_reentrant": False})
    if experiment.compile:
        for module in layers or [model]:
            module.compile(dynamic=True)


def as_written(experiment: Experiment) -> AbstractContextManager:
    """While active, compiled layers are not used: generating would compile them again as its cache grows."""
    return torch.compiler.set_stance("force_eager") if experiment.compile else nullcontext()
