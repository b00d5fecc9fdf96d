"""Starts from a new model: the fields of its config that `model:` takes, and the config made of them."""

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
    """The fields of a config with their types, for `Experiment.model_keys`; what the tokenizer decides is left out.

    Args:
        config_class: that of the recipe's model.
        unused: other fields that the recipe has no use for.
    """
    kinds = {**VanillaConfig.__annotations__, **config_class.__annotations__}
    taken = {field.name for field in dataclasses.fields(config_class)} - {"vocab_size", *_TOKENS, *unused}
    return {name: kind for name, kind in kinds.items() if name in taken}


def new_config(config_class: type[ConfigT], tokenizer: PreTrainedTokenizerFast, **settings: Any) -> ConfigT:
    """The config of a model with the vocabulary of a tokenizer.

    Raises:
        UserError: the settings contradict each other, or one has a value that no model can have.
    """
    ids = {name: getattr(tokenizer, name) for name in _TOKENS}
    try:
        return config_class(vocab_size=len(tokenizer), **ids, **settings)
    except StrictDataclassError as error:
        raise UserError(f"model: {error.__cause__ or error}") from error
