"""Which rows make up the batch of each step: a pure function of (seed, epoch, lengths, budget, groups).

A batch is planned for a whole optimizer step, as one group of rows of similar length or as several. Processes and
micro-batches then share it out among themselves, so that neither changes what a step learns from.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vanilla_recipes.engine.packing import Packed
from vanilla_recipes.errors import UserError
from vanilla_transformers.text.batches import Rows, cut

Lengths = Sequence[int] | NDArray | Callable[[int], NDArray]
"""Tokens of each row, shape (rows,) or (rows, sides); where they change those of each epoch, given by its number. Of a
stream a segment counts as an epoch."""

# Chosen on Multi30k, where groups of 2,304 tokens have 2.1 % padding and groups of 4,608 have 3.4 %. More jitter
# mixes the groups of the epochs more and pads more: 1 would be 3.1 % and 4.4 %. Of strips anything from 1 to 4 does.
_JITTER = 0.6
_STRIPS_PER_ROOT = 2.0

_MEASURED_GROUPS = 1000  # their order is random, so that they stand for the others


class Plan:
    """The batches of every epoch, in random order, each row once; of a stream a segment counts as an epoch.

    Padded, rows of similar length make a group, and n of them cost n x (the greatest length of each side, added up):
    the tokens that it has after padding. Packed, any rows do, and cost their real tokens.

    Args:
        lengths: tokens of each row; for translation the sides are source and target.
        batch_tokens: the most that a batch may cost, all of its groups together.
        seed: decides the order of the groups and which rows meet in one.
        packed: whether groups are packed.
        pack_length: the most tokens of a packed line on a side; None packs all rows of a group into one.
        num_groups: groups of a batch; the last batch of an epoch may have fewer.

    Raises:
        UserError: there are no rows, or one of them costs more than a group may, or does not fit into a line.
    """

    def __init__(
        self,
        lengths: Lengths,
        batch_tokens: int,
        seed: int,
        packed: bool = False,
        pack_length: int | None = None,
        num_groups: int = 1,
    ) -> None:
        self._source = lengths if callable(lengths) else _by_sides(lengths)
        self.batch_tokens, self.num_groups = batch_tokens, num_groups
        self.group_tokens = batch_tokens // num_groups
        self.seed = seed
        self.packed, self.pack_length = packed, pack_length
        self._cached: tuple[int, list[Rows]] | None = None
        self._check(0)

    def lengths(self, epoch: int) -> NDArray[np.int64]:
        """Tokens of the rows of an epoch, shape (rows, sides)."""
        return _by_sides(self._source(epoch)) if callable(self._source) else self._source

    def groups(self, epoch: int) -> list[Rows]:
        """The groups of an epoch as arrays of row numbers, in the order in which they are trained on."""
        if self._cached is None or self._cached[0] != epoch:
            self._cached = (epoch, self._compose(epoch))
        return self._cached[1]

    def num_steps(self, epoch: int) -> int:
        """The batches of an epoch."""
        return -(-len(self.groups(epoch)) // self.num_groups)

    def batch(self, epoch: int, step: int) -> list[Rows]:
        """The groups that make up the batch of a step of an epoch, which are counted from 0."""
        return self.groups(epoch)[step * self.num_groups : (step + 1) * self.num_groups]

    def num_tokens(self, rows: Rows, epoch: int) -> int:
        """Real tokens of some rows of an epoch, all sides together."""
        return int(self.lengths(epoch)[rows].sum())

    def cost(self, rows: Rows, epoch: int) -> int:
        """What a group of these rows costs of `group_tokens`."""
        return self.num_tokens(rows, epoch) if self.packed else batch_cost(self.lengths(epoch)[rows])

    def padding_share(self, epoch: int) -> float:
        """The part of the tokens, from 0 to 1, that is padding, in the first groups of an epoch."""
        lengths = self.lengths(epoch)
        groups = [lengths[rows] for rows in self.groups(epoch)[:_MEASURED_GROUPS]]
        places = [Packed(rows, self.pack_length).num_places if self.packed else batch_cost(rows) for rows in groups]
        return 1.0 - sum(int(rows.sum()) for rows in groups) / sum(places)

    def _compose(self, epoch: int) -> list[Rows]:
        if callable(self._source):
            self._check(epoch)
        generator, lengths = np.random.default_rng([self.seed, epoch]), self.lengths(epoch)
        if self.packed:
            return _cut_packed(generator.permutation(len(lengths)), lengths, self.group_tokens)
        order = _tile(lengths, self.group_tokens, generator)
        groups = cut(order, lengths[order], self.group_tokens)
        return [groups[index] for index in generator.permutation(len(groups))]

    def _check(self, epoch: int) -> None:
        lengths = self.lengths(epoch)
        self._check_budget(lengths)
        if self.packed and self.pack_length is not None and lengths.max() > self.pack_length:
            raise UserError(
                f"batch.pack_length={self.pack_length} is too small: row {int(lengths.max(axis=1).argmax())} has "
                f"{int(lengths.max())} tokens; raise batch.pack_length or shorten the rows"
            )

    def _check_budget(self, lengths: NDArray) -> None:
        if not len(lengths):
            raise UserError("there are no rows to train on")
        costs = lengths.sum(axis=1)
        if costs.max() > self.group_tokens:
            groups, remedy = "", "raise batch.tokens"
            if self.num_groups > 1:
                groups = f" in batch.groups={self.num_groups} groups of {self.group_tokens}"
                remedy = "raise batch.tokens, lower batch.groups"
            raise UserError(
                f"batch.tokens={self.batch_tokens}{groups} is too small: row {int(costs.argmax())} alone has "
                f"{int(costs.max())} tokens; {remedy} or shorten the rows"
            )


def batch_cost(lengths: NDArray) -> int:
    """Tokens of rows that are padded together; `lengths` has the shape (rows, sides)."""
    return int(len(lengths) * lengths.max(axis=0).sum())


def share(rows: Rows, part: int, num_parts: int) -> Rows:
    """One of the near-equal parts of a group; empty if there are more parts than rows."""
    return rows[part::num_parts]


def _by_sides(lengths: Sequence[int] | NDArray) -> NDArray[np.int64]:
    sides = np.asarray(lengths, dtype=np.int64)
    return sides[:, None] if sides.ndim == 1 else sides


def _tile(lengths: NDArray, group_tokens: int, generator: np.random.Generator) -> Rows:
    """Orders rows so that neighbours are alike on every side, as sort-tile-recursive packing orders rectangles.

    The rows are cut into strips by their first side, and each strip is sorted by its second one. Every second strip
    runs backwards, so that the group across a border is also alike. The last side is jittered by up to `_JITTER`
    tokens, so that other rows meet in every epoch.
    """
    jittered = lengths[:, -1] + generator.uniform(-_JITTER, _JITTER, size=len(lengths))
    if lengths.shape[1] == 1:
        return np.argsort(jittered, kind="stable")
    strip = _strips(lengths, group_tokens, generator)[lengths[:, 0]]
    return np.lexsort((jittered * np.where(strip % 2, -1, 1), strip))


def _strips(lengths: NDArray, group_tokens: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """The strip of each length of the first side. Strips have about as many tokens as each other.

    Rows of one length are never parted: where they fill strips of their own, their groups pad nothing on this side.
    The borders move from epoch to epoch.
    """
    tokens = np.bincount(lengths[:, 0], weights=lengths.sum(axis=1))
    middle = tokens.cumsum() - tokens / 2
    num_strips = _STRIPS_PER_ROOT * math.sqrt(tokens.sum() / group_tokens)
    strips = np.floor(middle * num_strips / tokens.sum() + generator.random()).astype(np.int64)
    return np.unique(strips, return_inverse=True)[1]  # without gaps, so that neighbours run in opposite directions


def _cut_packed(order: Rows, lengths: NDArray, group_tokens: int) -> list[Rows]:
    """Cuts ordered rows into the longest runs whose real tokens stay within the budget, as each single row does."""
    totals = lengths[order].sum(axis=1).cumsum()
    groups, start, before = [], 0, 0
    while start < len(order):
        stop = int(np.searchsorted(totals, before + group_tokens, side="right"))
        groups.append(order[start:stop])
        start, before = stop, int(totals[stop - 1])
    return groups
