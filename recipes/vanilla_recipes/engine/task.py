"""What a recipe hands to the training loop, and what it gets back."""

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
from vanilla_recipes.settings.durations import TrainState
from vanilla_transformers.model.losses import IGNORE_INDEX

Batch = dict[str, Any]  # tensors, and numbers that a kernel reads on the host
Scores = dict[str, Any]  # numbers, and texts that say how they came about

EncodedRows = tuple[NDArray, Iterable[Sequence[int] | NDArray]]
"""The tokens of each row, shape (rows,) or (rows, sides), and the ids of every side of every row, in this order; how
the ids are divided makes no difference."""


def count_labels(batch: Batch) -> int:
    """Targets of a batch whose labels are not shifted by the model."""
    return int((batch["labels"] != IGNORE_INDEX).sum())


def fingerprint_rows(vocabulary: Mapping[str, int], training: EncodedRows, validation: EncodedRows) -> str:
    """The SHA-256 of the rows that a run learns from and is judged by, and of the vocabulary that gave their ids.

    Args:
        vocabulary: tokens with their ids.
        training: the rows to train on; of a stream those of the first segment.
        validation: the rows that decide which model is best, all that are scored.
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
        lengths: tokens of each row, shape (rows,) or (rows, sides).
        predict: what the model makes of some rows, given by their numbers: one record a row, in their order.
        score: the scores of the records of all rows, in the order of the rows.
    """

    lengths: NDArray
    predict: Callable[[PreTrainedModel, Rows], list[Any]]
    score: Callable[[list[Any]], Scores]


@dataclass(frozen=True)
class Task:
    """What a recipe hands to the loop.

    Attributes:
        model: takes a batch and `num_items_in_batch`, and returns the loss summed over the targets and divided by it.
        lengths: tokens of each training row, shape (rows,) or (rows, sides); where they change those of each epoch.
        make_batch: the batch of some training rows, given by their numbers, in an epoch. A row that is changed at
            random, such as by masking, must be a function of the experiment's seed, the epoch and its number, so that
            neither a resume nor the cut of a batch changes it. Of a stream the epoch is the segment.
        fingerprint: tells these training and validation rows and their tokenizer from others; a run goes on only with
            the same.
        validation: what decides which model is best.
        metric: the score of the validation rows that decides it.
        greater_is_better: the sense of that score.
        save_model: writes a complete `from_pretrained` folder, on the main process.
        test: what the best model is scored on at the end, if anything.
        settings: how the scores came about; written beside them.
        num_targets: the targets that the model finds in a batch.
        head: names that modules may have which serve this task alone, such as a classifier: they are trained as a whole
            where adapters stand in for the training of all others.
        show: writes what the best model makes, such as samples, into the run folder, on the main process at the end.
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
        """Tokens of the rows of an epoch."""
        return np.asarray(self.lengths(epoch) if callable(self.lengths) else self.lengths)


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        state: where it stands.
        stopped_by: the signal that ended it early; None if it reached `max_duration`.
    """

    state: TrainState
    stopped_by: str | None = None
