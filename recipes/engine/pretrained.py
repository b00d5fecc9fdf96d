"""Starts from a saved model instead of a new one."""

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel

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
    try:
        config = AutoConfig.from_pretrained(source)
        _check_type(config, model_class, source)
        _apply(settings, config)
        tokenizer = AutoTokenizer.from_pretrained(source)
        loaded: Any = model_class.from_pretrained(source, config=config, dtype=torch.float32, output_loading_info=True)
    except UserError:
        raise
    except Exception as error:  # a damaged folder raises a dozen kinds, some of them of other libraries
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"model.pretrained={source}: cannot be loaded: {reason}; give a whole saved model") from error
    model, report = loaded
    if report["missing_keys"]:
        missing = min(report["missing_keys"])
        raise UserError(f"model.pretrained={source}: the weights lack {missing}; give a whole saved model")
    return model, tokenizer


def _check_type(config: PreTrainedConfig, model_class: type[PreTrainedModel], source: str) -> None:
    expected = model_class.config_class.model_type  # type: ignore[union-attr]
    if config.model_type != expected:
        raise UserError(f"model.pretrained={source}: is a {config.model_type} model; give a {expected} model")


def _apply(settings: Mapping[str, Any], config: PreTrainedConfig) -> None:
    for name, value in settings.items():
        if name in _CHANGEABLE:
            setattr(config, name, value)
        elif getattr(config, name) != value:
            logger.warning("model.%s=%s is ignored: the saved model has %s", name, value, getattr(config, name))
