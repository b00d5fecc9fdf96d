"""Loads models for `vanilla translate`, `classify`, `generate`, `attention` and `demo` on the requested device."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

import vanilla_transformers
from vanilla_recipes.errors import UserError
from vanilla_recipes.models.model_folder import load_saved
from vanilla_recipes.processes.cpu_memory import keep_memory_and_kernels
from vanilla_recipes.processes.devices import fastest_device
from vanilla_transformers.text.cache_check import with_right_cache


class Use(NamedTuple):
    """What a command does with a model, and which models it can load.

    Attributes:
        deed: verb for the message that a model cannot do this.
        needed: text about the type of model that is needed, for the same message.
        classes: pairs of a mapping from configuration classes to model classes, and the Auto class that loads them.
    """

    deed: str
    needed: str
    classes: tuple[tuple[Mapping[type[PreTrainedConfig], Any], Any], ...]


_SEQ2SEQ = (MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, AutoModelForSeq2SeqLM)
_CAUSAL = (MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM)
_CLASSIFIER = (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoModelForSequenceClassification)
_MASKED = (MODEL_FOR_MASKED_LM_MAPPING, AutoModelForMaskedLM)
_TOKENS = (MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, AutoModelForTokenClassification)
_SPANS = (MODEL_FOR_QUESTION_ANSWERING_MAPPING, AutoModelForQuestionAnswering)
_BASE = (MODEL_MAPPING, AutoModel)

USES = {
    "translate": Use(
        "translate", "an encoder-decoder is needed, such as vanilla_seq2seq or marian", (_SEQ2SEQ,)
    ),
    "classify": Use(
        "classify texts",
        "a sequence classifier is needed; `vanilla train classification/toy` trains one, and starts from this model "
        "with model.pretrained=",
        (_CLASSIFIER,),
    ),
    "generate": Use(
        "generate text",
        "a decoder or an encoder-decoder with a language-model head is needed, such as vanilla_decoder, gpt2 or t5",
        (_CAUSAL, _SEQ2SEQ),
    ),
    "attention": Use(
        "show its attention",
        "a language model, a classifier or a bare model of texts is needed",
        (_BASE, _SEQ2SEQ, _CAUSAL, _MASKED, _CLASSIFIER, _TOKENS, _SPANS),
    ),
    "demo": Use(
        "be shown",
        "an encoder-decoder, a decoder, a masked language model or a sequence classifier is needed",
        (_SEQ2SEQ, _CAUSAL, _MASKED, _CLASSIFIER),
    ),
}  # fmt: skip
_ANSWERING = ("translate", "classify", "generate")


def load_for(command: str, name: str, device: str | None, dtype: str | None = None) -> tuple[PreTrainedModel, Any]:
    """Loads a model in evaluation mode on a device, and its tokenizer.

    Args:
        command: the command that uses the model, one of `USES`.
        name: a folder written by save_pretrained(), or the name of a model on the Hub.
        device: name of a torch device; None for an accelerator if one is available, otherwise the CPU.
        dtype: name of a torch dtype for the weights; None for the saved type.

    Raises:
        UserError: If the model does not exist, is damaged, or does not support the command, or if this machine does
            not have the device.
    """
    keep_memory_and_kernels()
    where = checked_device(device)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model, tokenizer = load_saved(name, None, lambda config: _checked_loader(command, name, config))
    model.to(where, None if dtype is None else getattr(torch, dtype))
    return with_right_cache(model.eval()), tokenizer


def _checked_loader(command: str, name: str, config: PreTrainedConfig) -> Any:
    use = USES[command]
    loader = _loader(use, config)
    if loader is None:
        is_known_type = any(type(config) in mapping for mapping, _ in use.classes)
        what = (config.architectures or [""])[0] if is_known_type else f"{config.model_type!r} model"
        fitting = [other for other in _ANSWERING if _loader(USES[other], config) is not None]
        way_out = " or ".join(f"`vanilla {other}`" for other in fitting) + " takes it" if fitting else use.needed
        raise UserError(f"{name}: it is a {what}, which cannot {use.deed}; {way_out}")
    return loader


def _loader(use: Use, config: PreTrainedConfig) -> Any:
    """Returns the Auto class that loads the model for this use; None if its type or its saved head does not fit."""
    architecture = (config.architectures or [""])[0]
    classes = [(_names(mapping, config), auto_class) for mapping, auto_class in use.classes if type(config) in mapping]
    exact = [auto_class for names, auto_class in classes if architecture in names]
    if exact or not classes:
        return exact[0] if exact else None
    has_other_head = hasattr(transformers, architecture) or architecture in vanilla_transformers.__all__
    if has_other_head and architecture not in _names(MODEL_MAPPING, config):
        return None
    is_seq2seq = [auto_class for _, auto_class in classes if auto_class is AutoModelForSeq2SeqLM]
    return is_seq2seq[0] if config.is_encoder_decoder and is_seq2seq else classes[0][1]


def _names(mapping: Mapping[type[PreTrainedConfig], Any], config: PreTrainedConfig) -> list[str]:
    found = mapping.get(type(config), ())
    return [model_class.__name__ for model_class in (found if isinstance(found, (list, tuple)) else (found,))]


def checked_device(device: str | None) -> torch.device:
    """Returns the requested device; for None, the fastest device.

    Raises:
        UserError: If this machine does not have the device.
    """
    if device is None:
        return fastest_device()
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    kind, _, number = device.partition(":")
    counts = {"cpu": 1} | ({accelerator.type: torch.accelerator.device_count()} if accelerator else {})
    if kind not in counts or (number and (not number.isdigit() or int(number) >= counts[kind])):
        here = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.items())
        raise UserError(f"--device {device}: there is no such device; this machine has: {here}")
    return torch.device(device)
