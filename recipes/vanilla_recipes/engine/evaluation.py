"""Scores a model on rows, on any number of processes. Every row is counted exactly once."""

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
    """The scores of all rows and the number of rows ("rows"), identical on every process.

    Args:
        model: the model in evaluation mode.
        examples: the rows to score.
        batch_tokens: maximum number of padded tokens of a batch.
        accelerator: the processes, among which the batches are distributed.

    Raises:
        RuntimeError: If a row was lost or counted twice, which is a bug in the recipe.
    """
    batches = length_sorted_batches(examples.lengths, batch_tokens)
    found: list[tuple[int, Any]] = []
    for number in range(math.ceil(len(batches) / accelerator.num_processes)):
        mine = number * accelerator.num_processes + accelerator.process_index
        # A process without a batch left repeats the last batch: a sharded model needs all processes in a forward pass.
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
