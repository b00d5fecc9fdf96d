"""Random draws and the assignment of rows to splits, the same on every platform and Python version."""

import hashlib
import random
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TypeAlias, TypeVar

Item = TypeVar("Item")
Combination: TypeAlias = tuple[str, ...]

# Two of 16 buckets, one in eight combinations of words, never occur in training rows: one bucket is reserved for
# validation, one for test.
_NUM_BUCKETS = 16
_RESERVED = {0: "validation", 1: "test"}


class Draw:
    """A seeded random generator.

    It uses `Random.random` only, the one method whose sequence Python promises not to change; `choice`, `sample` and
    `shuffle` have changed between versions.
    """

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256("|".join(map(str, key)).encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:8], "big")).random

    def one(self, items: Sequence[Item]) -> Item:
        """Draws one of `items`; all are equally likely."""
        return items[int(self._random() * len(items))]

    def two(self, items: Sequence[Item]) -> tuple[Item, Item]:
        """Draws two different items; both orders are equally likely."""
        first = self.one(items)
        second = self.one(items)
        while second == first:
            second = self.one(items)
        return first, second

    def chance(self, probability: float) -> bool:
        """Returns True with the given probability."""
        return self._random() < probability


@cache
def _bucket(combination: Combination) -> int:
    digest = hashlib.blake2b("\x1f".join(combination).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _NUM_BUCKETS


def split_of(combinations: Iterable[Combination]) -> str:
    """Returns the split of a row with these combinations of words.

    The split is the one for which the first reserved combination is reserved, or "train" if none is reserved. A digest
    of the words decides, so neither the seed nor the number of rows changes the split of a row.
    """
    for combination in combinations:
        reserved = _RESERVED.get(_bucket(combination))
        if reserved:
            return reserved
    return "train"


def weighted(*choices: tuple[Item, int]) -> tuple[Item, ...]:
    """Repeats each item as often as its weight says, so that `Draw.one` draws it with this weight."""
    return tuple(item for item, weight in choices for _ in range(weight))
