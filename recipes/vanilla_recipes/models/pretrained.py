"""Loads a saved model to continue training: a model of this package, or one of transformers' own models."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig, PreTrainedModel

from vanilla_recipes.errors import UserError
from vanilla_recipes.models.classification_head import (
    has_other_head,
    order_of_outputs,
    renew_outputs,
    reorder_outputs,
)
from vanilla_recipes.models.model_folder import load_saved
from vanilla_recipes.models.stock import classes_of, set_field
from vanilla_transformers import VanillaConfig
from vanilla_transformers.text.languages import language_codes

logger = logging.getLogger(__name__)

# Only these fields of the config can change when training starts from a saved model.
_CHANGEABLE = ("hidden_dropout_prob", "attention_probs_dropout_prob", "label_smoothing")
# These fields define the head of a classifier, so they can change too if the head is newly initialized.
_OF_THE_HEAD = ("pooler", "classifier_pooling")
_LANGUAGE_MODELS = ("AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM")


def load_pretrained(
    model_class: type[PreTrainedModel], source: str, settings: Mapping[str, Any], head: Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
    """Loads a saved model in fp32, and its tokenizer.

    A model of transformers itself is loaded with the transformers class for the same task and is not converted.

    Args:
        model_class: the class of this package for the task. A saved model of this package must have its model type.
        source: a folder, or a name on the Hub.
        settings: fields of the config. Dropout and label smoothing are applied. Any other field that differs from the
            saved model is ignored with a warning.
        head: fields of the config that the head of the task needs, such as its labels. If given, the model may have
            been saved with another head of its family, or with other labels. The head is then initialized at random;
            all other weights must be in the saved model. If the labels are the same in another order, the outputs of
            the head are put into this order.

    Returns:
        The model and its tokenizer.

    Raises:
        UserError: If the model does not exist, is damaged or incomplete, or has another type.
    """

    is_new_head, has_old_outputs, loaded_class, order = False, False, model_class, None

    def check_config(config: PreTrainedConfig) -> type[PreTrainedModel]:
        nonlocal is_new_head, has_old_outputs, loaded_class, order
        loaded_class = _class_for(config, model_class, source, takes_any_head=head is not None)
        if head is not None:
            is_new_head = has_other_head(config, loaded_class, head)
            order = None if is_new_head else order_of_outputs(config, head)
            # The same head with as many outputs is loaded, although they stand for other labels.
            is_same_size = len(config.id2label or {}) == len(head["id2label"])
            has_old_outputs = is_new_head and is_same_size and loaded_class.__name__ in (config.architectures or ())
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
        if has_old_outputs:
            renew_outputs(model)
        if order is not None:
            reorder_outputs(model, order, source)
        return model, tokenizer
    except UserError as error:
        raise UserError(f"model.pretrained={error}") from error


def _class_for(
    config: PreTrainedConfig, model_class: type[PreTrainedModel], source: str, takes_any_head: bool
) -> type[PreTrainedModel]:
    """The class that loads the model: `model_class`, or the class of transformers behind the same Auto class.

    Raises:
        UserError: If the model has another type, or was trained for another task.
    """
    expected = model_class.config_class.model_type
    if config.model_type == expected:
        return model_class
    names = model_class.config_class.family_auto_map.items()
    auto_name = next(name for name, path in names if path.rpartition(".")[2] == model_class.__name__)
    stock_class = _stock_class(auto_name, config)
    if isinstance(config, VanillaConfig) or stock_class is None:
        raise UserError(
            f"{source}: is a {config.model_type} model; give a {expected} model, or a stock model that {auto_name} "
            "loads"
        )
    saved = config.architectures or []
    others = {_stock_class(name, config) for name in _LANGUAGE_MODELS} - {stock_class, None}
    if not takes_any_head and any(other.__name__ in saved for other in others):
        raise UserError(
            f"{source}: is a {saved[0]}, which is trained for another task than the {stock_class.__name__} of this "
            f"recipe; give a {expected} model, or a stock model that {auto_name} loads"
        )
    return stock_class


def _stock_class(auto_name: str, config: PreTrainedConfig) -> Any:
    """The transformers class that an Auto class makes for a config, or None."""
    return classes_of(auto_name).get(type(config), None)


def _apply(settings: Mapping[str, Any], config: PreTrainedConfig, changeable: tuple[str, ...]) -> None:
    for name, value in settings.items():
        if name in changeable and set_field(config, name, value):
            continue
        saved = getattr(config, name, None)
        if saved != value:
            logger.warning("model.%s=%s is ignored: the saved model has %s", name, value, saved)


def _check_tokenizer(model: PreTrainedModel, tokenizer: Any, source: str) -> None:
    """Refuses a tokenizer that the recipes cannot train with.

    Raises:
        UserError: If the tokenizer marks languages, or if it is a Python tokenizer and the model is not an
            encoder-decoder.
    """
    codes = language_codes(tokenizer)
    if codes:
        raise UserError(
            f"{source}: the tokenizer marks the language of each text ({min(codes)} and {len(codes) - 1} others), "
            "which the recipes cannot train; give a model of one pair of languages, such as marian"
        )
    if not tokenizer.is_fast and not model.config.is_encoder_decoder:
        raise UserError(
            f"{source}: the tokenizer is a {type(tokenizer).__name__}, written in Python, but the recipe needs a fast "
            "tokenizer of the tokenizers library: save the model with one, in a folder with tokenizer.json"
        )


def _check_values(config: PreTrainedConfig, source: str) -> None:
    """Validates the config after its fields were changed.

    Raises:
        UserError: If a changed field breaks a rule of the config.
    """
    try:
        config.validate()
    except StrictDataclassError as error:
        raise UserError(f"{source}: {error.__cause__ or error}") from error


def _check_special_ids(config: PreTrainedConfig, tokenizer: Any, source: str) -> None:
    """Refuses a config whose special token ids differ from the tokenizer's.

    Decoder inputs and generation use the ids in the config; labels use the ids of the tokenizer.

    Raises:
        UserError: If the padding or end token differs, or if the config has no valid start token for the decoder.
    """
    for name in ("pad_token_id", "eos_token_id"):
        ours, its = getattr(config, name), getattr(tokenizer, name)
        if its not in (ours if isinstance(ours, list) else [ours]):
            raise UserError(
                f"{source}: {name} is {ours} in config.json, but {its} for the tokenizer; they do not belong together, "
                "or one was edited: save both from the same model"
            )
    start = config.decoder_start_token_id
    if start is None or not 0 <= start < config.vocab_size:
        raise UserError(
            f"{source}: decoder_start_token_id is {start} in config.json, but must be an id below {config.vocab_size}: "
            "decoder inputs begin with it; set it to the id that the model was trained with"
        )
