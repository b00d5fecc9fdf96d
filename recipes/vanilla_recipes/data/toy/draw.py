"""Draws and split assignment that give the same rows on every platform and Python version."""

import hashlib
import random
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TypeAlias, TypeVar

Item = TypeVar("Item")
Combination: TypeAlias = tuple[str, ...]

# One in eight combinations of words is kept from the training rows: half of these for validation, half for test.
_NUM_BUCKETS = 16
_RESERVED = {0: "validation", 1: "test"}


class Draw:
    """A seeded source of choices.

    Only `Random.random` is used, because its sequence is the one that Python promises to keep; `choice`, `sample` and
    `shuffle` have changed between versions.
    """

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256("|".join(map(str, key)).encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:8], "big")).random

    def one(self, items: Sequence[Item]) -> Item:
        """One of `items`, each equally likely."""
        return items[int(self._random() * len(items))]

    def two(self, items: Sequence[Item]) -> tuple[Item, Item]:
        """Two different items, in either order equally likely."""
        first = self.one(items)
        second = self.one(items)
        while second == first:
            second = self.one(items)
        return first, second

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._random() < probability


@cache
def _bucket(combination: Combination) -> int:
    digest = hashlib.blake2b("\x1f".join(combination).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _NUM_BUCKETS


def split_of(combinations: Iterable[Combination]) -> str:
    """The split of a row that holds these combinations of words.

    It is "train" unless a combination is reserved; then it is what the first such combination is reserved for. A digest
    of the words decides, so that neither seed nor size can move a row.
    """
    for combination in combinations:
        reserved = _RESERVED.get(_bucket(combination))
        if reserved:
            return reserved
    return "train"


def weighted(*choices: tuple[Item, int]) -> tuple[Item, ...]:
    """A tuple that holds each item as often as its weight says, for `Draw.one`."""
    return tuple(item for item, weight in choices for _ in range(weight))
