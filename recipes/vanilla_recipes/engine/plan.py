"""Plans the rows of each step's batch: a pure function of the seed, the epoch, the lengths and the settings of `batch`.

A batch is planned for a complete optimizer step, as one or several groups of rows of similar length. Only then is the
batch divided among processes and micro-batches. So the numbers of processes and micro-batches do not change which rows
a step trains on.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vanilla_recipes.engine.packing import Packed
from vanilla_recipes.errors import UserError
from vanilla_transformers.text.batches import Rows, cut

Lengths = Sequence[int] | NDArray | Callable[[int], NDArray]
"""Number of tokens of each row, shape (rows,) or (rows, sides). The sides of translation are source and target. If the
lengths change from epoch to epoch, a function from the number of the epoch to the lengths. A segment of a stream counts
as an epoch."""

# Maximum random shift, in tokens, of the length by which a row is sorted. The value was chosen on Multi30k: groups of
# 2,304 tokens then have 2.1 % padding, and groups of 4,608 tokens have 3.4 %. A larger shift varies the groups between
# epochs more, but needs more padding: with 1.0, groups of these sizes have 3.1 % and 4.4 %.
_JITTER = 0.6
# Number of strips divided by the square root of the number of groups. All values from 1 to 4 give about equal padding.
_STRIPS_PER_ROOT = 2.0

_MEASURED_GROUPS = 1000  # number of groups whose padding is measured: the first ones, as the order is random


class Plan:
    """The batches of every epoch in random order. An epoch contains each row once; a stream's epoch is a segment.

    The cost of a padded group is its number of tokens with padding: rows x (sum over sides of the greatest length). Its
    rows have similar lengths. The cost of a packed group is its number of tokens without padding. Its rows have any
    lengths.

    Args:
        lengths: number of tokens of each row.
        batch_tokens: maximum cost of a batch, all groups together.
        seed: determines the order of the groups and which rows share a group.
        packed: whether groups are packed.
        pack_length: maximum number of tokens of a packed line on each side; None packs all rows of a micro-batch into
            one line.
        num_groups: number of groups in a batch; the last batch of an epoch may have fewer.

    Raises:
        UserError: If there are no rows, if a single row costs more than a group may cost, or if a row is longer than
            `pack_length`.
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
        """Number of tokens of each row of an epoch, without padding, shape (rows, sides)."""
        return _by_sides(self._source(epoch)) if callable(self._source) else self._source

    def groups(self, epoch: int) -> list[Rows]:
        """The groups of an epoch as arrays of row numbers, in training order."""
        if self._cached is None or self._cached[0] != epoch:
            self._cached = (epoch, self._compose(epoch))
        return self._cached[1]

    def num_steps(self, epoch: int) -> int:
        """The number of batches, and so of optimizer steps, in an epoch."""
        return -(-len(self.groups(epoch)) // self.num_groups)

    def batch(self, epoch: int, step: int) -> list[Rows]:
        """The groups of the batch of a step. Epochs, and steps in an epoch, are counted from 0."""
        return self.groups(epoch)[step * self.num_groups : (step + 1) * self.num_groups]

    def num_tokens(self, rows: Rows, epoch: int) -> int:
        """Number of tokens of some rows of an epoch, without padding, summed over all sides."""
        return int(self.lengths(epoch)[rows].sum())

    def cost(self, rows: Rows, epoch: int) -> int:
        """The cost of a group of these rows, to compare with `group_tokens`."""
        return self.num_tokens(rows, epoch) if self.packed else batch_cost(self.lengths(epoch)[rows])

    def padding_share(self, epoch: int) -> float:
        """The fraction of the tokens that are padding, from 0 to 1, in the first groups of an epoch."""
        lengths = self.lengths(epoch)
        groups = [lengths[rows] for rows in self.groups(epoch)[:_MEASURED_GROUPS]]
        sizes = [Packed(rows, self.pack_length).padded_tokens if self.packed else batch_cost(rows) for rows in groups]
        return 1.0 - sum(int(rows.sum()) for rows in groups) / sum(sizes)

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
    """Number of tokens of a padded group, padding included; `lengths` has shape (rows, sides)."""
    return int(len(lengths) * lengths.max(axis=0).sum())


def share(rows: Rows, part: int, num_parts: int) -> Rows:
    """Part number `part`, counted from 0, of `num_parts` near-equal parts of a group.

    A part may be empty if there are more parts than rows.
    """
    return rows[part::num_parts]


def _by_sides(lengths: Sequence[int] | NDArray) -> NDArray[np.int64]:
    sides = np.asarray(lengths, dtype=np.int64)
    return sides[:, None] if sides.ndim == 1 else sides


def _tile(lengths: NDArray, group_tokens: int, generator: np.random.Generator) -> Rows:
    """Orders rows so that neighbors have similar lengths on every side (sort-tile-recursive order of rectangles).

    The rows are divided into strips by the length of their first side, and each strip is sorted by the length of the
    last side. Every second strip is sorted in descending order, so that a group that spans two strips has similar
    lengths too. The last length is jittered by up to `_JITTER` tokens, so that every epoch has other groups.
    """
    jittered = lengths[:, -1] + generator.uniform(-_JITTER, _JITTER, size=len(lengths))
    if lengths.shape[1] == 1:
        return np.argsort(jittered, kind="stable")
    strip = _strips(lengths, group_tokens, generator)[lengths[:, 0]]
    return np.lexsort((jittered * np.where(strip % 2, -1, 1), strip))


def _strips(lengths: NDArray, group_tokens: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """The strip of each length of the first side. Strips have about equal numbers of tokens.

    Rows of one length are always in one strip. If they fill a strip, its groups have no padding on the first side. The
    borders between strips change randomly from epoch to epoch.
    """
    tokens = np.bincount(lengths[:, 0], weights=lengths.sum(axis=1))
    middle = tokens.cumsum() - tokens / 2
    num_strips = _STRIPS_PER_ROOT * math.sqrt(tokens.sum() / group_tokens)
    strips = np.floor(middle * num_strips / tokens.sum() + generator.random()).astype(np.int64)
    # The strips are numbered without gaps, because odd and even strips are sorted in opposite orders.
    return np.unique(strips, return_inverse=True)[1]


def _cut_packed(order: Rows, lengths: NDArray, group_tokens: int) -> list[Rows]:
    """Cuts ordered rows into groups, each with as many rows as `group_tokens` real tokens allow.

    Each single row must have at most `group_tokens` tokens; `Plan` checks this.
    """
    totals = lengths[order].sum(axis=1).cumsum()
    groups, start, before = [], 0, 0
    while start < len(order):
        stop = int(np.searchsorted(totals, before + group_tokens, side="right"))
        groups.append(order[start:stop])
        start, before = stop, int(totals[stop - 1])
    return groups
