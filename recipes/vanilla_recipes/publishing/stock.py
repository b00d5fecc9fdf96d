"""Writes the stock class of a model, proved to be the same model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from vanilla_recipes.models.model_folder import load_tokenizer
from vanilla_transformers.interop.checks import Check
from vanilla_transformers.interop.conversion import architecture_of, load_stock, our_head, to_stock
from vanilla_transformers.interop.proof import compare, there_and_back, tokenizer_check


def write_stock(
    model: PreTrainedModel, tokenizer: Any, folder: Path, model_type: str, note: Callable[[str], None] = print
) -> tuple[PreTrainedModel, list[Check]]:
    """A folder of a class of transformers' own; what is read from it, and what was compared.

    Args:
        model: one of ours.
        tokenizer: its tokenizer, or `None`.
        folder: where to write.
        model_type: what it is to be, such as `"marian"`.
        note: is told what the class cannot express, in a line each.

    Raises:
        InteropError: the class cannot express the model.
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
    """Write a model and its tokenizer."""
    model.save_pretrained(folder)
    if tokenizer is None:
        note("note   there is no tokenizer beside the model, so none is written and no sentences are compared")
    else:
        tokenizer.save_pretrained(folder)


def tokenizer_checks(tokenizer: Any, folder: Path) -> list[Check]:
    """That the tokenizer which is found in the folder is the one that was written."""
    return [] if tokenizer is None else [tokenizer_check(tokenizer, load_tokenizer(str(folder)))]
