"""The model that `vanilla translate` uses, on the device that it was asked for."""

from typing import Any

import torch
from transformers import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from vanilla_transformers.recipes.engine.model_folder import load_saved
from vanilla_transformers.recipes.errors import UserError


def load_translator(name: str, device: str | None) -> tuple[PreTrainedModel, Any]:
    """The model, in evaluation mode on its device, and its tokenizer.

    Args:
        name: a folder written by save_pretrained(), or the name of a model on the Hub.
        device: where it runs, in torch's words; None takes an accelerator if there is one.

    Raises:
        UserError: there is no such model, it is damaged, or it is no encoder-decoder; or there is no such device.
    """
    where = checked_device(device)
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    def check_config(config: PreTrainedConfig) -> None:
        if type(config) not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
            raise UserError(
                f"{name}: it is a {config.model_type!r} model, which cannot translate; "
                "an encoder-decoder is needed, such as vanilla_seq2seq or marian"
            )

    model, tokenizer = load_saved(name, AutoModelForSeq2SeqLM, check_config)
    model.to(where)
    return model.eval(), tokenizer


def checked_device(device: str | None) -> torch.device:
    """The device asked for, if this machine has it."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is None:
        return accelerator or torch.device("cpu")
    kind, _, number = device.partition(":")
    counts = {"cpu": 1} | ({accelerator.type: torch.accelerator.device_count()} if accelerator else {})
    if kind not in counts or (number and (not number.isdigit() or int(number) >= counts[kind])):
        here = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.items())
        raise UserError(f"--device {device}: there is no such device; there are: {here}")
    return torch.device(device)
