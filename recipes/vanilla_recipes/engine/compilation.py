"""Sets up gradient checkpointing and torch.compile for the layers of a model."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from vanilla_recipes.errors import UserError
from vanilla_recipes.settings.experiment import Experiment


def prepare_layers(model: PreTrainedModel, experiment: Experiment) -> None:
    """Applies the settings `gradient_checkpointing` and `compile`. Names of modules and parameters do not change.

    Each layer is compiled separately, not the model as a single graph. The layers are alike, so torch compiles the
    code once and uses it for all layers. The code is compiled for dynamic shapes.

    Raises:
        UserError: If the model has no layers that support gradient checkpointing.
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
    """While active, layers run uncompiled: in generation the growing cache would cause repeated compilation."""
    return torch.compiler.set_stance("force_eager") if experiment.compile else nullcontext()
