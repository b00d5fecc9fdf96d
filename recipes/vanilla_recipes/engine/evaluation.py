"""Scores a model on rows of which each counts once, on any number of processes."""

import math
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from vanilla_recipes.engine.task import Examples, Scores
from vanilla_transformers.text.batches import length_sorted_batches


@torch.inference_mode()
def evaluate(model: PreTrainedModel, examples: Examples, batch_tokens: int, accelerator: Accelerator) -> Scores:
    """The scores of all rows, the same on every process, and the number of rows.

    Args:
        model: in evaluation mode.
        examples: the rows.
        batch_tokens: padded tokens of a batch.
        accelerator: the processes that share the batches out among themselves.

    Raises:
        RuntimeError: a row was lost or counted twice, which is a fault of the recipe.
    """
    batches = length_sorted_batches(examples.lengths, batch_tokens)
    found: list[tuple[int, Any]] = []
    for number in range(math.ceil(len(batches) / accelerator.num_processes)):
        mine = number * accelerator.num_processes + accelerator.process_index
        # A process without a batch of its own keeps step with the others: sharded models need all of them.
        rows = batches[min(mine, len(batches) - 1)]
        records = examples.predict(model, rows)
        if mine < len(batches):
            found += zip(rows.tolist(), records, strict=True)
    if accelerator.num_processes > 1:
        found = gather_object(found)
    by_row = dict(found)
    num_rows = len(examples.lengths)
    if len(found) != num_rows or by_row.keys() != set(range(num_rows)):
        raise RuntimeError(f"{len(found)} records of {len(by_row)} rows were scored, but there are {num_rows} rows")
    return {"rows": num_rows, **examples.score([by_row[row] for row in range(num_rows)])}
