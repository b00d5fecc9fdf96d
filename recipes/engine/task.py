"""What a recipe hands to the training loop, and what it gets back."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from vanilla_transformers.losses import IGNORE_INDEX
from vanilla_transformers.recipes.engine.durations import TrainState

Batch = dict[str, torch.Tensor]
Scores = dict[str, Any]  # numbers, and texts that say how they came about


def count_labels(batch: Batch) -> int:
    """Targets of a batch whose labels are not shifted by the model."""
    return int((batch["labels"] != IGNORE_INDEX).sum())


def fingerprint_rows(vocabulary: Mapping[str, int], lengths: NDArray, ids: Iterable[Sequence[int]]) -> str:
    """The SHA-256 of the training rows and the vocabulary that gave their ids.

    Args:
        vocabulary: tokens with their ids.
        lengths: tokens of each row, shape (rows,) or (rows, sides).
        ids: every side of every row, in the order of `lengths`.
    """
    digest = hashlib.sha256(json.dumps(vocabulary, sort_keys=True).encode())
    digest.update(lengths.astype(np.int64).tobytes())
    digest.update(np.fromiter(chain.from_iterable(ids), np.int32, int(lengths.sum())).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Task:
    """What a recipe hands to the loop.

    Attributes:
        model: takes a batch and `num_items_in_batch`, and returns the loss summed over the targets and divided by it.
        rows: the training rows, which `collate` makes into batches.
        lengths: tokens of each row, shape (rows,) or (rows, sides).
        fingerprint: tells these rows and their tokenizer from others; a run goes on only with the same.
        collate: rows to a batch of tensors.
        evaluate: scores the model, on every process; all of them get the same scores.
        score: the score that decides which model is best.
        greater_is_better: the sense of that score.
        save_model: writes a complete `from_pretrained` folder, on the main process.
        num_targets: the targets that the model finds in a batch.
    """

    model: PreTrainedModel
    rows: Sequence[Any]
    lengths: NDArray
    fingerprint: str
    collate: Callable[[list[Any]], Batch]
    evaluate: Callable[[PreTrainedModel], Scores]
    score: str
    greater_is_better: bool
    save_model: Callable[[PreTrainedModel, Path], None]
    num_targets: Callable[[Batch], int] = count_labels


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        state: where it stands.
        stopped_by: the signal that ended it early; None if it reached `max_duration`.
    """

    state: TrainState
    stopped_by: str | None = None
