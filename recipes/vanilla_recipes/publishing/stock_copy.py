"""Converts a model to a stock transformers class, and checks that the result is the same model."""

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
    """Writes a model as a stock transformers class, and loads it again.

    Args:
        model: a model of this package; it is converted to fp32.
        tokenizer: its tokenizer, or `None`.
        folder: the folder to write to.
        model_type: model type of transformers, such as `"marian"`.
        note: called with one line for every property that the class cannot represent.

    Returns:
        The loaded stock model, and the checks that compare it with `model`.

    Raises:
        InteropError: the class cannot represent the model.
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
    """Returns the check that the tokenizer loaded from the folder equals `tokenizer`; an empty list without one."""
    return [] if tokenizer is None else [tokenizer_check(tokenizer, load_tokenizer(str(folder)))]
