"""Which rows make up the batch of each step: a pure function of (seed, epoch, lengths, budget).

A batch is planned for a whole optimizer step. Processes and micro-batches then share it out among themselves, so
that neither changes what a step learns from.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vanilla_transformers.recipes.errors import UserError

Rows = NDArray[np.int64]

# Chosen on Multi30k, where batches of 1,000 tokens have 3 % padding and batches of 8,000 have 7 %: more jitter mixes
# the batches more and pads more; fewer strips leave the target side uneven, more strips the source side.
_JITTER = 0.6
_STRIPS_PER_ROOT = 1.4


class Plan:
    """The batches of every epoch: rows of similar length, in random order, each row once.

    A batch of n rows costs n x (the greatest length of each side, added up): the tokens it has after padding.

    Args:
        lengths: tokens of each row, shape (rows,) or (rows, sides); for translation the sides are source and target.
        batch_tokens: the most that a batch may cost.
        seed: decides the order of the batches and which rows meet in one.

    Raises:
        UserError: there are no rows, or one of them costs more than a batch may.
    """

    def __init__(self, lengths: Sequence[int] | NDArray, batch_tokens: int, seed: int) -> None:
        sides = np.asarray(lengths, dtype=np.int64)
        self.lengths = sides[:, None] if sides.ndim == 1 else sides
        self.batch_tokens = batch_tokens
        self.seed = seed
        self._cached: tuple[int, list[Rows]] | None = None
        _check_budget(self.lengths, batch_tokens)

    def epoch(self, epoch: int) -> list[Rows]:
        """The batches of an epoch as arrays of row numbers, in the order in which they are trained on."""
        if self._cached is None or self._cached[0] != epoch:
            self._cached = (epoch, self._compose(epoch))
        return self._cached[1]

    def num_tokens(self, rows: Rows) -> int:
        """Real tokens of the rows, all sides together."""
        return int(self.lengths[rows].sum())

    def padding_share(self, epoch: int) -> float:
        """The part of an epoch's tokens, from 0 to 1, that is padding."""
        costs = [batch_cost(self.lengths[rows]) for rows in self.epoch(epoch)]
        return 1.0 - float(self.lengths.sum()) / sum(costs)

    def _compose(self, epoch: int) -> list[Rows]:
        generator = np.random.default_rng([self.seed, epoch])
        order = _tile(self.lengths, self.batch_tokens, generator)
        batches = _cut(order, self.lengths[order], self.batch_tokens)
        return [batches[index] for index in generator.permutation(len(batches))]


def batch_cost(lengths: NDArray) -> int:
    """Tokens of a batch after padding; `lengths` has the shape (rows, sides)."""
    return int(len(lengths) * lengths.max(axis=0).sum())


def share(rows: Rows, part: int, num_parts: int) -> Rows:
    """One of the near-equal parts of a batch; empty if there are more parts than rows."""
    return rows[part::num_parts]


def length_sorted_batches(lengths: Sequence[int] | NDArray, batch_tokens: int) -> list[Rows]:
    """Batches of similar length, longest first, for evaluation and inference; a row over the budget stands alone."""
    sides = np.asarray(lengths, dtype=np.int64).reshape(len(lengths), -1)
    order = np.argsort(-sides.sum(axis=1), kind="stable")
    return _cut(order, sides[order], batch_tokens)


def _check_budget(lengths: NDArray, batch_tokens: int) -> None:
    if not len(lengths):
        raise UserError("there are no rows to train on")
    costs = lengths.sum(axis=1)
    if costs.max() > batch_tokens:
        raise UserError(
            f"batch.tokens={batch_tokens} is too small: row {int(costs.argmax())} alone has {int(costs.max())} tokens; "
            f"raise batch.tokens or shorten the rows"
        )


def _tile(lengths: NDArray, batch_tokens: int, generator: np.random.Generator) -> Rows:
    """Orders rows so that neighbours are alike on every side, as sort-tile-recursive packing orders rectangles.

    The rows, sorted by their first side, are cut into strips, and each strip is sorted by its second side. Every
    second strip runs backwards, so that the batch across a border is also alike. Lengths are jittered by up to
    `_JITTER` tokens, so that other rows meet in every epoch.
    """
    jittered = lengths + generator.uniform(-_JITTER, _JITTER, size=lengths.shape)
    order = np.argsort(jittered[:, 0], kind="stable")
    if lengths.shape[1] == 1:
        return order
    num_batches = lengths.sum() / batch_tokens
    num_strips = max(1, round(math.sqrt(num_batches) * _STRIPS_PER_ROOT))
    strip = np.arange(len(order)) * num_strips // len(order)
    second = jittered[order, 1] * np.where(strip % 2, -1, 1)
    return order[np.lexsort((second, strip))]


def _cut(order: Rows, lengths: NDArray, batch_tokens: int) -> list[Rows]:
    """Cuts ordered rows into the longest runs whose cost stays within the budget; every run has a row at least."""
    batches, start = [], 0
    while start < len(order):
        stop = start + max(1, _num_fitting(lengths[start:], batch_tokens))
        batches.append(order[start:stop])
        start = stop
    return batches


def _num_fitting(lengths: NDArray, batch_tokens: int) -> int:
    """How many of the first rows fit into one batch. The window grows, so that the work is that of the answer."""
    window = 64
    while True:
        widest = np.maximum.accumulate(lengths[:window], axis=0).sum(axis=1)
        num_fitting = int(np.count_nonzero(widest * np.arange(1, len(widest) + 1) <= batch_tokens))
        if num_fitting < window or window >= len(lengths):
            return num_fitting
        window *= 4
