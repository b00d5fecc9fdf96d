"""Fits the head of a saved classifier to the labels of the data: kept, put into another order, or new."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from vanilla_recipes.errors import UserError

logger = logging.getLogger(__name__)

_NUM_SHOWN = 5  # labels that a message names


def has_other_head(config: PreTrainedConfig, model_class: type[PreTrainedModel], head: Mapping[str, Any]) -> bool:
    """Whether the model was saved with another head, or with the same head for other labels, which is logged.

    Labels without names (`LABEL_0`, ..., the default of transformers) count as the labels of the data, in their order.

    Args:
        config: the saved config.
        model_class: the class of the model that is trained.
        head: the fields of the config that the head needs; `id2label` has the labels of the data.
    """
    if model_class.__name__ not in (config.architectures or ()):
        return True
    saved, wanted = _labels(config.id2label), _labels(head["id2label"])
    if sorted(saved) == sorted(wanted):
        return False
    if saved == [f"LABEL_{number}" for number in range(len(wanted))]:
        logger.warning(
            "the labels of the saved model have no names: they are taken for %s, in this order", _shown(wanted)
        )
        return False
    logger.warning(
        "the classification head is new: the labels of the saved model are %s, those of the data are %s",
        _shown(saved),
        _shown(wanted),
    )
    return True


def order_of_outputs(config: PreTrainedConfig, head: Mapping[str, Any]) -> list[int] | None:
    """For each label of the data the index of the saved model's output; `None` if no output has to move."""
    saved, wanted = _labels(config.id2label), _labels(head["id2label"])
    is_moved = saved != wanted and sorted(saved) == sorted(wanted)
    return [saved.index(label) for label in wanted] if is_moved else None


def reorder_outputs(model: PreTrainedModel, order: list[int], source: str) -> None:
    """Puts the outputs of a classifier into another order: output n becomes what output `order[n]` was.

    Args:
        source: the folder or name of the model, for the message.

    Raises:
        UserError: If the model does not have exactly one linear layer on top with one output for each label.
    """
    layers = _output_layers(model)
    if len(layers) != 1:
        raise UserError(
            f"{source}: its labels have another order than those of the data, and {len(layers)} layers of its head "
            f"have {len(order)} outputs, so that it is unclear which to reorder: give data.label_names= in its order"
        )
    with torch.no_grad():
        for parameter in layers[0].parameters():
            parameter.copy_(parameter[order].clone())


def renew_outputs(model: PreTrainedModel) -> None:
    """Initializes the outputs of a classifier at random, as BERT's are, with zeros for biases."""
    for layer in _output_layers(model):
        nn.init.normal_(layer.weight, std=getattr(model.config, "initializer_range", 0.02))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _output_layers(model: PreTrainedModel) -> list[nn.Linear]:
    """The linear layers on top of the base model with one output for each label."""
    base = f"{model.base_model_prefix}."
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(base) and module.out_features == model.num_labels
    ]


def _labels(id2label: Mapping[int, str] | None) -> list[str]:
    """The names of the labels, in the order of the outputs of the head."""
    return [name for _, name in sorted((id2label or {}).items())]


def _shown(labels: list[str]) -> str:
    rest = len(labels) - _NUM_SHOWN
    return ", ".join(labels[:_NUM_SHOWN]) + (f" and {rest} others" if rest > 0 else "")
