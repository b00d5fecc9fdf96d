"""Starts from a saved model instead of a new one."""

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from vanilla_transformers.recipes.engine.model_folder import load_saved
from vanilla_transformers.recipes.errors import UserError

logger = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=PreTrainedModel)

# Only these fields of the config can change when training goes on from a saved model.
_CHANGEABLE = ("hidden_dropout_prob", "attention_probs_dropout_prob", "label_smoothing")


def load_pretrained(model_class: type[ModelT], source: str, settings: Mapping[str, Any]) -> tuple[ModelT, Any]:
    """A saved model in fp32, and its tokenizer.

    Args:
        model_class: what the saved model must be.
        source: a folder, or a name on the Hub.
        settings: fields of the config; dropout and label smoothing are taken over, for others that differ from the
            saved model a warning says that they are ignored.

    Raises:
        UserError: there is no such model, it is damaged or incomplete, or of another type.
    """

    def check_config(config: PreTrainedConfig) -> None:
        _check_type(config, model_class, source)
        _apply(settings, config)

    try:
        return load_saved(source, model_class, check_config, dtype=torch.float32)
    except UserError as error:
        raise UserError(f"model.pretrained={error}") from error


def _check_type(config: PreTrainedConfig, model_class: type[PreTrainedModel], source: str) -> None:
    expected = model_class.config_class.model_type  # type: ignore[union-attr]
    if config.model_type != expected:
        raise UserError(f"{source}: is a {config.model_type} model; give a {expected} model")


def _apply(settings: Mapping[str, Any], config: PreTrainedConfig) -> None:
    for name, value in settings.items():
        if name in _CHANGEABLE:
            setattr(config, name, value)
        elif getattr(config, name) != value:
            logger.warning("model.%s=%s is ignored: the saved model has %s", name, value, getattr(config, name))
