"""Converts a model to one of transformers' own classes, and checks that the result is the same model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from vanilla_recipes.models.model_folder import load_tokenizer
from vanilla_transformers.interop.checks import Check
from vanilla_transformers.interop.comparison import compare, there_and_back, tokenizer_check
from vanilla_transformers.interop.conversion import architecture_of, load_stock, our_head, to_stock


def write_stock(
    model: PreTrainedModel, tokenizer: Any, folder: Path, model_type: str, note: Callable[[str], None] = print
) -> tuple[PreTrainedModel, list[Check]]:
    """Writes a model in one of transformers' own classes, and loads the written model.

    Args:
        model: a model of this package; it is converted to fp32 in place.
        tokenizer: the tokenizer of the model, or `None`.
        folder: the folder to write to.
        model_type: model type of transformers, such as `"marian"`.
        note: called with one line for every property that the class cannot represent.

    Returns:
        The loaded transformers model, and the checks that compare it with `model`.

    Raises:
        InteropError: If the class cannot represent the model.
    """
    architecture = architecture_of(model_type)
    head = our_head(architecture, model)
    stock = to_stock(model, model_type)
    for line in architecture.notes_out(model.config, stock):
        note(f"note   {line}")
    save(folder, stock, tokenizer, note)
    written = load_stock(type(stock), str(folder), dtype=torch.float32)[0].eval()
    return written, [
        there_and_back(architecture, model, written, head),
        *tokenizer_checks(tokenizer, folder),
        *compare(model.float(), written, tokenizer),
    ]


def save(folder: Path, model: PreTrainedModel, tokenizer: Any, note: Callable[[str], None] = print) -> None:
    """Writes a model and its tokenizer, or notes that the model has no tokenizer."""
    model.save_pretrained(folder)
    if tokenizer is None:
        note("note   the model has no tokenizer, so no tokenizer is written and no sentences are compared")
    else:
        tokenizer.save_pretrained(folder)


def tokenizer_checks(tokenizer: Any, folder: Path) -> list[Check]:
    """Returns the check that the tokenizer in the folder equals `tokenizer`; an empty list if `tokenizer` is `None`."""
    return [] if tokenizer is None else [tokenizer_check(tokenizer, load_tokenizer(str(folder)))]
