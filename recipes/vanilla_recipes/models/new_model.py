"""Builds the config of a new model from the settings of the section `model`."""

import dataclasses
from collections.abc import Collection
from typing import Any, TypeVar

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedTokenizerFast

from vanilla_recipes.errors import UserError
from vanilla_transformers import VanillaConfig

ConfigT = TypeVar("ConfigT", bound=VanillaConfig)

_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id")


def model_fields(config_class: type[VanillaConfig], unused: Collection[str]) -> dict[str, Any]:
    """The config fields that a user may set, with their types, for `Experiment.model_keys`.

    Fields that the tokenizer decides (vocabulary size and special token ids) are left out.

    Args:
        config_class: the config class of the recipe's model.
        unused: further fields to leave out, because the recipe does not use them.
    """
    kinds = {**VanillaConfig.__annotations__, **config_class.__annotations__}
    taken = {field.name for field in dataclasses.fields(config_class)} - {"vocab_size", *_TOKENS, *unused}
    return {name: kind for name, kind in kinds.items() if name in taken}


def new_config(config_class: type[ConfigT], tokenizer: PreTrainedTokenizerFast, **settings: Any) -> ConfigT:
    """Builds the config of a new model whose vocabulary size and special token ids come from a tokenizer.

    Raises:
        UserError: If the settings contradict each other, or a setting has a value that no model can have.
    """
    ids = {name: getattr(tokenizer, name) for name in _TOKENS}
    try:
        return config_class(vocab_size=len(tokenizer), **ids, **settings)
    except StrictDataclassError as error:
        raise UserError(f"model: {error.__cause__ or error}") from error
