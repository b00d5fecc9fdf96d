"""Cuts rows of similar length into batches under a token budget, and reads items one window at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

Rows = NDArray[np.int64]
Item = TypeVar("Item")
Result = TypeVar("Result")

WINDOW = 1024
"""The number of items that are read together, before their results are returned."""

MANY = 200
"""The number of items from which a progress bar is shown by default."""


def length_sorted_batches(lengths: Sequence[int] | NDArray, batch_tokens: int) -> list[Rows]:
    """Sorts rows by length, longest first, and cuts them into batches, for evaluation and inference.

    A row with more tokens than `batch_tokens` forms a batch alone.

    Args:
        lengths: the number of tokens of each row, (rows,), or of its source and its target, (rows, 2).
        batch_tokens: the largest number of tokens of a batch, padding included.

    Returns:
        The indices of the rows of each batch.
    """
    if not len(lengths):
        return []
    sides = np.asarray(lengths, dtype=np.int64).reshape(len(lengths), -1)
    order = np.argsort(-sides.sum(axis=1), kind="stable")
    return cut(order, sides[order], batch_tokens)


def cut(order: Rows, lengths: NDArray, batch_tokens: int) -> list[Rows]:
    """Cuts ordered rows into batches that are as large as the token budget allows, with at least one row each.

    Except for the last batch, the number of rows is rounded down: from 32 rows on to a multiple of 8, from 16 to a
    multiple of 4, from 8 to a multiple of 2. Kernels are compiled for each shape, and matrix units work best with
    such numbers.

    Args:
        order: the indices of the rows.
        lengths: the numbers of tokens of the rows in this order, (rows, 1) or (rows, 2).
        batch_tokens: the largest number of tokens of a batch, padding included.

    Returns:
        The indices of the rows of each batch.
    """
    batches, start = [], 0
    while start < len(order):
        num_rows = max(1, _num_fitting(lengths[start:], batch_tokens))
        stop = start + num_rows
        if stop < len(order):
            stop -= num_rows % _row_multiple(num_rows)
        batches.append(order[start:stop])
        start = stop
    return batches


def _row_multiple(num_rows: int) -> int:
    """The largest of 8, 4 and 2 that is at most a quarter of the number of rows, or 1."""
    return next((multiple for multiple in (8, 4, 2) if num_rows >= 4 * multiple), 1)


def _num_fitting(lengths: NDArray, batch_tokens: int) -> int:
    """The number of leading rows that fit into one batch.

    The rows are examined in a growing window, so that the time depends on the result and not on all remaining rows.
    """
    window = 64
    while True:
        widest = np.maximum.accumulate(lengths[:window], axis=0).sum(axis=1)
        num_fitting = int(np.count_nonzero(widest * np.arange(1, len(widest) + 1) <= batch_tokens))
        if num_fitting < window or window >= len(lengths):
            return num_fitting
        window *= 4


def in_windows(
    items: Iterable[Item], answer: Callable[[list[Item], tqdm], Sequence[Result]], unit: str, progress: bool | None
) -> Iterator[Result]:
    """Yields the results of items, which are read `WINDOW` at a time, so that any number of items fits into memory.

    Args:
        items: the items, which may be an iterator.
        answer: computes the results of the items of a window, in order, and updates the progress bar.
        unit: the plural noun for items in the progress bar, such as `"texts"`.
        progress: whether the bar is shown on standard error. `None` shows it if standard error is a terminal and the
            number of items is at least `MANY` or unknown.
    """
    total = len(items) if isinstance(items, Sized) else None
    unasked = None if total is None or total >= MANY else True  # disable=None shows the bar on a terminal only
    with tqdm(total=total, unit=f" {unit}", disable=unasked if progress is None else not progress) as bar:
        remaining = iter(items)
        while window := list(islice(remaining, WINDOW)):
            yield from answer(window, bar)
