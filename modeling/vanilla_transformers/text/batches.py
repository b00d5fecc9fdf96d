"""Batches of rows of similar length under a budget of tokens, and items that are read a window at a time."""

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
"""Items that are read before their results are given."""

MANY = 200
"""Items from which on a progress bar is shown unasked."""


def length_sorted_batches(lengths: Sequence[int] | NDArray, batch_tokens: int) -> list[Rows]:
    """Batches of similar length, longest first, for evaluation and inference; a row over the budget stands alone.

    Args:
        lengths: tokens of each row, shape (rows,) or (rows, sides).
        batch_tokens: tokens of a batch at most, padding included.

    Returns:
        The numbers of the rows of each batch.
    """
    if not len(lengths):
        return []
    sides = np.asarray(lengths, dtype=np.int64).reshape(len(lengths), -1)
    order = np.argsort(-sides.sum(axis=1), kind="stable")
    return cut(order, sides[order], batch_tokens)


def cut(order: Rows, lengths: NDArray, batch_tokens: int) -> list[Rows]:
    """Cuts ordered rows into the longest runs whose cost stays within the budget; every run has a row at least.

    A run of 32 rows or more has a multiple of eight, and of 16 or 8 a multiple of four or two: fewer shapes, for each
    of which kernels are compiled, and such as matrix units are made for.

    Args:
        order: the numbers of the rows.
        lengths: tokens of the rows in this order, shape (rows, sides).
        batch_tokens: tokens of a run at most, padding included.
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
    """The greatest power of two up to 8 that is at most a quarter of the rows, or 1."""
    return next((multiple for multiple in (8, 4, 2) if num_rows >= 4 * multiple), 1)


def _num_fitting(lengths: NDArray, batch_tokens: int) -> int:
    """How many of the first rows fit into one batch. The window grows, so that the work is that of the answer."""
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
    """The results of items that are read a window at a time: no source fills the memory, however long it is.

    Args:
        items: what is to be answered.
        answer: the results of the items of a window, in their order; it tells the progress bar how many are done.
        unit: what an item is, for the progress bar.
        progress: whether the bar is shown on standard error; None shows it for many items where that is a terminal.
    """
    total = len(items) if isinstance(items, Sized) else None
    unasked = None if total is None or total >= MANY else True  # None: where there is a terminal
    with tqdm(total=total, unit=f" {unit}", disable=unasked if progress is None else not progress) as bar:
        remaining = iter(items)
        while window := list(islice(remaining, WINDOW)):
            yield from answer(window, bar)
