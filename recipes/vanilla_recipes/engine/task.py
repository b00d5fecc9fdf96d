"""The interface between a recipe and the training loop: the task, the rows to score and the result."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from vanilla_recipes.engine.plan import Lengths, Rows
from vanilla_recipes.settings.train_state import TrainState
from vanilla_transformers.model.losses import IGNORE_INDEX

Batch = dict[str, Any]  # tensors, and ints that an attention kernel needs on the host
Scores = dict[str, Any]  # numbers, and texts that describe how the numbers were computed

EncodedRows = tuple[NDArray, Iterable[Sequence[int] | NDArray]]
"""The number of tokens of each row, shape (rows,) or (rows, sides), and the token ids of all rows, one side after the
other within a row. How the ids are split into sequences does not matter."""


def count_labels(batch: Batch) -> int:
    """The number of targets in the labels of a batch, for models that do not shift their labels."""
    return int((batch["labels"] != IGNORE_INDEX).sum())


def fingerprint_rows(vocabulary: Mapping[str, int], training: EncodedRows, validation: EncodedRows) -> str:
    """The SHA-256 of the training rows, the validation rows and the vocabulary.

    Args:
        vocabulary: token -> id.
        training: the training rows; for a stream, the rows of the first segment.
        validation: all validation rows that are scored.
    """
    digest = hashlib.sha256(json.dumps(vocabulary, sort_keys=True).encode())
    for lengths, ids in (training, validation):
        digest.update(json.dumps(lengths.shape).encode())
        digest.update(lengths.astype(np.int64).tobytes())
        for side in ids:
            digest.update(np.asarray(side, np.int32).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Examples:
    """Rows to score.

    Attributes:
        lengths: number of tokens of each row, shape (rows,) or (rows, sides).
        predict: maps the model and some row numbers to one record per row, in the same order.
        score: maps the records of all rows, in row order, to the scores.
    """

    lengths: NDArray
    predict: Callable[[PreTrainedModel, Rows], list[Any]]
    score: Callable[[list[Any]], Scores]


@dataclass(frozen=True)
class Task:
    """Everything that the training loop needs to train and score a model.

    Attributes:
        model: the model. Its loss is the sum over the targets divided by `num_items_in_batch`.
        lengths: number of tokens of each training row, shape (rows,) or (rows, sides). If the lengths change from epoch
            to epoch, a function from the number of the epoch to the lengths.
        make_batch: maps some training row numbers and the epoch to a batch. A random change of a row, such as masking,
            must be a function of the experiment's seed, the epoch and the row number. Then neither resuming nor the
            division into micro-batches changes a row. For a stream, the epoch is the number of the segment.
        fingerprint: hash of the training rows, the validation rows and the tokenizer. A run can be resumed only with
            the same fingerprint.
        validation: the validation rows, which decide which model is best.
        metric: name of the validation score that decides which model is best.
        greater_is_better: whether a greater value of `metric` is better.
        save_model: writes a complete `from_pretrained` folder; called on the main process only.
        test: the test rows, on which the best model is scored at the end; None if there are no test rows.
        settings: settings of scoring and decoding, written to `results.json` with the scores.
        num_targets: the number of targets of a batch, as the model counts them.
        head: names of modules that only this task uses, such as a classifier. With adapters, these modules are trained
            completely, and the other weights are frozen.
        show: writes outputs of the best model, such as samples, to the run folder; called on the main process at the
            end of the run.
    """

    model: PreTrainedModel
    lengths: Lengths
    make_batch: Callable[[Rows, int], Batch]
    fingerprint: str
    validation: Examples
    metric: str
    greater_is_better: bool
    save_model: Callable[[PreTrainedModel, Path], None]
    test: Examples | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    num_targets: Callable[[Batch], int] = count_labels
    head: Sequence[str] = ()
    show: Callable[[PreTrainedModel, Path], None] | None = None

    def lengths_in(self, epoch: int) -> NDArray:
        """Number of tokens of each row of an epoch, shape (rows,) or (rows, sides)."""
        return np.asarray(self.lengths(epoch) if callable(self.lengths) else self.lengths)


@dataclass(frozen=True)
class FitResult:
    """The result of a run.

    Attributes:
        state: the counters at the end.
        stopped_by: the signal that stopped the run, or `max_wall_time`; None if the run was not stopped.
    """

    state: TrainState
    stopped_by: str | None = None
