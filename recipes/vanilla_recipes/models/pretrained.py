"""Starts from a saved model instead of a new one."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig, PreTrainedModel

from vanilla_recipes.errors import UserError
from vanilla_recipes.models.model_folder import load_saved
from vanilla_recipes.models.stock import classes_of, set_field
from vanilla_transformers import VanillaConfig
from vanilla_transformers.text.languages import language_codes

logger = logging.getLogger(__name__)

# Only these fields of the config can change when training goes on from a saved model.
_CHANGEABLE = ("hidden_dropout_prob", "attention_probs_dropout_prob", "label_smoothing")
# These too where the head starts anew: they are what it is made of.
_OF_THE_HEAD = ("pooler", "classifier_pooling")
_LANGUAGE_MODELS = ("AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM")


def load_pretrained(
    model_class: type[PreTrainedModel], source: str, settings: Mapping[str, Any], head: Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
    """A saved model in fp32, and its tokenizer.

    A stock model is loaded as the class of transformers that does the same, and stays what it is.

    Args:
        model_class: what the saved model must be, if it is one of this package.
        source: a folder, or a name on the Hub.
        settings: fields of the config; dropout and label smoothing are taken over, for others that differ from the
            saved model a warning says that they are ignored.
        head: fields of the config that the head of the task calls for, such as its labels. With it the model may have
            been saved from any head of its family, or have another number of labels: the head then starts at random,
            and everything below it must be there.

    Raises:
        UserError: there is no such model, it is damaged or incomplete, or of another type.
    """

    is_new_head, loaded_class = False, model_class

    def check_config(config: PreTrainedConfig) -> type[PreTrainedModel]:
        nonlocal is_new_head, loaded_class
        loaded_class = _class_for(config, model_class, source, takes_any_head=head is not None)
        if head is not None:
            is_new_head = _has_other_head(config, loaded_class, head)
            for name, value in head.items():
                setattr(config, name, value)
        _apply(settings, config, _CHANGEABLE + _OF_THE_HEAD if is_new_head else _CHANGEABLE)
        _check_values(config, source)
        return loaded_class

    def may_lack(tensor: str) -> bool:
        base = f"{loaded_class.base_model_prefix}."
        return is_new_head and (not tensor.startswith(base) or tensor.startswith(f"{base}pooler."))

    try:
        model, tokenizer = load_saved(source, model_class, check_config, may_lack, dtype=torch.float32)
        if model.config.is_encoder_decoder:
            _check_special_ids(model.config, tokenizer, source)
        _check_tokenizer(model, tokenizer, source)
        return model, tokenizer
    except UserError as error:
        raise UserError(f"model.pretrained={error}") from error


def _has_other_head(config: PreTrainedConfig, model_class: type[PreTrainedModel], head: Mapping[str, Any]) -> bool:
    """Whether the model was saved from another head, or with another number of labels."""
    is_same_class = model_class.__name__ in (config.architectures or ())
    return not is_same_class or len(config.id2label or {}) != len(head["id2label"])


def _class_for(
    config: PreTrainedConfig, model_class: type[PreTrainedModel], source: str, takes_any_head: bool
) -> type[PreTrainedModel]:
    """The class that loads the model: the one of this package, or the stock one of the same Auto class."""
    expected = model_class.config_class.model_type
    if config.model_type == expected:
        return model_class
    names = model_class.config_class.family_auto_map.items()
    auto_name = next(name for name, path in names if path.rpartition(".")[2] == model_class.__name__)
    stock_class = _stock_class(auto_name, config)
    if isinstance(config, VanillaConfig) or stock_class is None:
        raise UserError(
            f"{source}: is a {config.model_type} model; give a {expected} model, or a stock one that {auto_name} loads"
        )
    saved = config.architectures or []
    others = {_stock_class(name, config) for name in _LANGUAGE_MODELS} - {stock_class, None}
    if not takes_any_head and any(other.__name__ in saved for other in others):
        raise UserError(
            f"{source}: is a {saved[0]}, which learns something else than the {stock_class.__name__} of this recipe; "
            f"give a {expected} model, or a stock one that {auto_name} loads"
        )
    return stock_class


def _stock_class(auto_name: str, config: PreTrainedConfig) -> Any:
    """The class of transformers behind an Auto class, or None."""
    return classes_of(auto_name).get(type(config), None)


def _apply(settings: Mapping[str, Any], config: PreTrainedConfig, changeable: tuple[str, ...]) -> None:
    for name, value in settings.items():
        if name in changeable and set_field(config, name, value):
            continue
        saved = getattr(config, name, None)
        if saved != value:
            logger.warning("model.%s=%s is ignored: the saved model has %s", name, value, saved)


def _check_tokenizer(model: PreTrainedModel, tokenizer: Any, source: str) -> None:
    """Refuses tokenizers that the recipes cannot set up for training."""
    codes = language_codes(tokenizer)
    if codes:
        raise UserError(
            f"{source}: the tokenizer marks the language of each text ({min(codes)} and {len(codes) - 1} others), "
            "which the recipes do not; give a model of one pair of languages, such as marian"
        )
    if not tokenizer.is_fast and not model.config.is_encoder_decoder:
        raise UserError(
            f"{source}: the tokenizer is a {type(tokenizer).__name__}, written in Python, but one of the tokenizers "
            "library is needed: save the model with such a one, in a folder with tokenizer.json"
        )


def _check_values(config: PreTrainedConfig, source: str) -> None:
    """Applies the rules of the config to what was changed in it."""
    try:
        config.validate()
    except StrictDataclassError as error:
        raise UserError(f"{source}: {error.__cause__ or error}") from error


def _check_special_ids(config: PreTrainedConfig, tokenizer: Any, source: str) -> None:
    """Decoder inputs and the generation config are made of the ids in the config, labels by the tokenizer."""
    for name in ("pad_token_id", "eos_token_id"):
        ours, its = getattr(config, name), getattr(tokenizer, name)
        if its not in (ours if isinstance(ours, list) else [ours]):
            raise UserError(
                f"{source}: {name} is {ours} in config.json, but {its} for the tokenizer; they do not belong together, "
                "or one was edited"
            )
    start = config.decoder_start_token_id
    if start is None or not 0 <= start < config.vocab_size:
        raise UserError(
            f"{source}: decoder_start_token_id is {start} in config.json, but must be an id below {config.vocab_size}: "
            "targets begin with it; set it to the one that the model was trained with"
        )
