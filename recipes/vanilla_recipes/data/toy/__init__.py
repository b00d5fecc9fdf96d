"""The built-in corpora: made by seeded grammars, as large as asked, the same on every machine.

The splits are disjoint whatever the seeds and sizes: which combinations of words are kept from training is fixed by a
digest of the words, and validation and test rows each hold at least one such combination of words known from training.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from vanilla_recipes.data.toy.sentiment import sentiment_rows
from vanilla_recipes.data.toy.stories import story_rows
from vanilla_recipes.data.toy.translation import role_swapped_rows, translation_rows
from vanilla_recipes.errors import UserError

__all__ = ["SPLITS", "TASKS", "role_swapped_pairs", "toy_rows"]

Row = dict[str, Any]
Item = TypeVar("Item")

SPLITS = ("train", "validation", "test")
_CORPORA: dict[str, Callable[[str, int], Iterator[Row]]] = {
    "translation": translation_rows,
    "sentiment": sentiment_rows,
    "stories": story_rows,
}
TASKS = tuple(_CORPORA)

# What each split can give; the grammars hold more, but come upon the last rows ever more slowly.
MAX_ROWS = {"translation": 1_000_000, "sentiment": 200_000, "stories": 200_000}
MAX_PAIRS = 5_000


def toy_rows(task: str, split: str, num_rows: int, seed: int = 0) -> list[Row]:
    """The first `num_rows` distinct rows of a built-in corpus.

    More rows of the same seed begin with the same rows.

    Args:
        task: "translation" gives {"translation": {"en": ..., "de": ...}}, "sentiment" {"text": ..., "label": 0 or 1},
            "stories" {"text": ...}.
        split: "train", "validation" or "test"; no two splits share a row, whatever their seeds.

    Raises:
        UserError: if the task or split is unknown, or the corpus has fewer distinct rows.
    """
    _check_name("task", task, TASKS)
    _check_name("split", split, SPLITS)
    _check_number("num_rows", num_rows, MAX_ROWS[task], f"distinct {split} rows of the built-in corpus {task!r}")
    return _distinct(_CORPORA[task](split, seed), _source, num_rows)


def role_swapped_pairs(num_pairs: int, seed: int = 0) -> list[tuple[Row, Row]]:
    """Pairs of test rows of the translation corpus with the same English words and different German translations.

    Raises:
        UserError: if the corpus has fewer pairs.
    """
    _check_number("num_pairs", num_pairs, MAX_PAIRS, "distinct role-swapped pairs of the built-in corpus")
    return _distinct(role_swapped_rows(seed), lambda pair: min(map(_source, pair)), num_pairs)


def _check_name(what: str, name: str, valid: tuple[str, ...]) -> None:
    if name in valid:
        return
    close = difflib.get_close_matches(name, valid, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UserError(f"unknown {what} {name!r} of the built-in corpora: {hint}choose one of {', '.join(valid)}")


def _check_number(what: str, number: int, most: int, things: str) -> None:
    if not 0 <= number <= most:
        raise UserError(f"{what} is {number}, but there are at most {most} {things}: ask for 0 to {most}")


def _distinct(items: Iterable[Item], key: Callable[[Item], str], num_items: int) -> list[Item]:
    """The first items of which no two have the same key."""
    found: dict[str, Item] = {}
    for item in items if num_items else ():
        found.setdefault(key(item), item)
        if len(found) == num_items:
            break
    return list(found.values())


def _source(row: Row) -> str:
    """The text that tells a row from all others."""
    return row["translation"]["en"] if "translation" in row else row["text"]
