"""Classifies texts for `vanilla classify`."""

import argparse
import logging
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm
from transformers import TextClassificationPipeline

from vanilla_recipes.cli.models import load_for
from vanilla_recipes.scoring.decoding import checked, model_faults
from vanilla_transformers.text.answers import default_batch_tokens, longest_input
from vanilla_transformers.text.batches import in_windows, length_sorted_batches

if TYPE_CHECKING:
    from vanilla_recipes.cli.inference import Answer, Fields

logger = logging.getLogger(__name__)


def load(arguments: argparse.Namespace) -> "Answer":
    """Loads the model; returns the function that classifies texts."""
    model, tokenizer = load_for("classify", arguments.model, arguments.device, arguments.dtype)
    pipeline = TextClassificationPipeline(
        model=model, tokenizer=tokenizer, device=model.device, top_k=None if arguments.all else 1
    )
    budget = arguments.batch_tokens or default_batch_tokens(model)
    if tokenizer.pad_token_id is None or model.config.pad_token_id is None:
        budget = 1  # one text per batch: without a padding token, texts of different lengths cannot be batched

    def answer(texts: list[tuple[int, str]], bar: tqdm) -> list["Fields"]:
        return classified(pipeline, [checked(number, text) for number, text in texts], budget, bar)

    return lambda lines, progress: in_windows(enumerate(lines, start=1), answer, "texts", progress)


def classified(pipeline: TextClassificationPipeline, texts: list[str], budget: int, bar: tqdm) -> list["Fields"]:
    """Returns the classes of each text with their probabilities; an empty tuple for a blank text."""
    fields: list[Fields] = [()] * len(texts)
    rows = [row for row, text in enumerate(texts) if text.strip()]
    bar.update(len(texts) - len(rows))
    tokenizer: Any = pipeline.tokenizer
    limit = longest_input(pipeline.model, tokenizer)
    lengths = lengths_of([texts[row] for row in rows], tokenizer, limit)
    for batch in length_sorted_batches(lengths, budget):
        chosen = [rows[number] for number in batch]
        with model_faults(pipeline.model, "classify texts", "its files may not belong together"):
            found: Any = pipeline(
                [texts[row] for row in chosen], batch_size=len(chosen), truncation=True, max_length=limit
            )
        for row, classes in zip(chosen, found, strict=True):
            fields[row] = tuple(field for each in classes for field in (each["label"], f"{each['score']:.4f}"))
        bar.update(len(chosen))
    return fields


def lengths_of(texts: list[str], tokenizer: Any, limit: int) -> list[int]:
    """Returns the number of tokens of each text after truncation to `limit`; logs the number of truncated texts."""
    lengths = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]] if texts else []
    num_long = sum(length > limit for length in lengths)
    if num_long:
        logger.warning(
            "cut to the %d tokens that the model reads: %d of %d texts, the longest with %d tokens",
            limit, num_long, len(texts), max(lengths),
        )  # fmt: skip
    return [min(length, limit) for length in lengths]
