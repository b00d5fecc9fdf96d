"""The sentiment corpus: short reviews whose label depends on the order of the words.

Rows come in pairs: the same words in another order, with the other label. A bag-of-words classifier therefore has an
accuracy of exactly one half on complete pairs.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from vanilla_recipes.data.toy.clauses import capitalized
from vanilla_recipes.data.toy.draw import Draw, split_of, weighted

_PRAISE = (
    "good", "great", "brilliant", "wonderful", "superb", "excellent", "delightful", "charming", "lovely", "perfect",
    "pleasant", "outstanding", "impressive", "remarkable", "fantastic", "enjoyable",
)  # fmt: skip
_BLAME = (
    "bad", "terrible", "awful", "poor", "dreadful", "horrible", "disappointing", "mediocre", "dull", "boring",
    "unpleasant", "miserable", "forgettable", "hopeless", "tedious", "annoying",
)  # fmt: skip
_TREASURES = ("masterpiece", "delight", "triumph", "treat", "joy", "success")
_FAILURES = ("mess", "disaster", "bore", "failure", "disappointment", "nightmare")

# Reviewed thing -> the aspects of the thing that can be praised or blamed.
_ASPECTS = {
    "film": ("plot", "acting", "ending", "music", "dialogue", "script", "opening", "camera work", "story", "humor"),
    "book": ("plot", "ending", "dialogue", "story", "style", "opening", "cover", "title", "first chapter", "humor"),
    "hotel": ("room", "breakfast", "service", "view", "bed", "pool", "garden", "location", "bathroom", "lobby"),
    "restaurant": ("food", "service", "soup", "wine", "dessert", "menu", "music", "salad", "bread", "coffee"),
    "concert": ("music", "singing", "sound", "opening", "playing", "hall", "lighting", "encore", "first song"),
}
_THINGS = tuple(_ASPECTS)
_OPENERS = weighted(
    ("", 8), ("in the end, ", 1), ("honestly, ", 1), ("for me, ", 1), ("all in all, ", 1), ("I must say that ", 1),
    ("I think that ", 1),
)  # fmt: skip
_DEGREES = weighted(("", 4), ("really ", 1), ("truly ", 1), ("simply ", 1))
_OTHERS = ("my friend", "my sister", "my brother", "my neighbor", "the critic")


class Pair(NamedTuple):
    """A positive and a negative text of the same words.

    `verdicts` are the words of praise and blame, which decide the split. `pattern` formatted with `positive` is the
    positive text, and formatted with `negative` the negative text.
    """

    verdicts: tuple[str, ...]
    pattern: str
    positive: dict[str, str]
    negative: dict[str, str]


def sentiment_rows(split: str, seed: int) -> Iterator[dict[str, Any]]:
    """Yields rows of a split without end; rows can repeat. The two rows of a pair follow one another."""
    draw = Draw("sentiment", split, seed)
    while True:
        pair = draw.one(_KINDS)(draw)
        if split_of([tuple(sorted(pair.verdicts))]) == split:
            rows = (_row(pair.pattern, pair.negative, 0), _row(pair.pattern, pair.positive, 1))
            yield from rows if draw.chance(0.5) else rows[::-1]


def _row(pattern: str, words: dict[str, str], label: int) -> dict[str, Any]:
    return {"text": capitalized(pattern.format(**words)) + ".", "label": label}


_CONTRASTS: tuple[str, ...] = (
    "{weak}, but {strong}",
    "although {weak}, {strong}",
    "{strong}, although {weak}",
    "{weak}, and yet {strong}",
    "even though {weak}, {strong}",
)


def _contrast(draw: Draw) -> Pair:
    """Draws two clauses of opposite sentiment; the position of "but" or "although" decides the label."""
    one, other = draw.two(_ASPECTS[draw.one(_THINGS)])
    praise, good = _clause(draw, one, _PRAISE, _BLAME)
    blame, bad = _clause(draw, other, _BLAME, _PRAISE)
    pattern = draw.one(_OPENERS) + draw.one(_CONTRASTS)
    return Pair((*good, *bad), pattern, {"weak": blame, "strong": praise}, {"weak": praise, "strong": blame})


def _clause(draw: Draw, aspect: str, meant: tuple[str, ...], denied: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Draws a clause whose sentiment about `aspect` is that of the words `meant`.

    Returns:
        The clause, and the words of praise and blame in it.
    """
    pattern, used = draw.one(_CLAUSES)
    first, second = draw.two(meant)
    words = {"first": first, "second": second, "other": draw.one(denied)}
    text = pattern.format(aspect=aspect, degree=draw.one(_DEGREES), **words)
    return text, tuple(words[name] for name in used)


# Patterns of clauses, each with the names of the words of praise or blame in the pattern. A clause affirms {first} and
# {second}, and denies {other}.
_CLAUSES: tuple[tuple[str, tuple[str, ...]], ...] = weighted(
    (("the {aspect} was {degree}{first}", ("first",)), 6),
    (("the {aspect} was not only {first} but also {second}", ("first", "second")), 2),
    (("the {aspect} was {first} and {second}", ("first", "second")), 1),
    (("the {aspect} was far from {other}", ("other",)), 1),
    (("the {aspect} was anything but {other}", ("other",)), 1),
    (("the {aspect} was not {other} at all", ("other",)), 1),
    (("the {aspect} was less {other} than {first}", ("other", "first")), 1),
)

# A sentence is positive if {good} is a word of praise and {bad} is a word of blame, and negative the other way round.
_JUDGEMENTS: tuple[str, ...] = (
    "the {aspect} was not {bad} but {degree}{good}",
    "the {aspect} was {degree}{good}, not {bad}",
    "the {aspect} was more {good} than {bad}",
    "the {aspect} was less {bad} than {good}",
    "the {aspect} was far from {bad}: it was {degree}{good}",
    "the {aspect} was anything but {bad}: it was {degree}{good}",
    "the {aspect} was never {bad} and always {degree}{good}",
    "the {aspect} looked {bad} at first, but it turned out {degree}{good}",
    "I expected the {aspect} to be {bad}, but it was {degree}{good}",
    "I would call the {aspect} {degree}{good}, not {bad}",
    "nobody could call the {aspect} {bad}, because it was {degree}{good}",
    "{other} found the {aspect} {bad}, but I found it {degree}{good}",
    "I found the {aspect} {degree}{good}, but {other} found it {bad}",
)
_NOUN_JUDGEMENTS: tuple[str, ...] = (
    "I expected a {bad} and got a {good}",
    "this {thing} was more of a {good} than a {bad}",
    "this {thing} was less of a {bad} than a {good}",
    "this {thing} was not a {bad} but a {good}",
    "this {thing} was far from a {bad}: it was a {good}",
    "what began as a {bad} ended as a {good}",
    "what looked like a {bad} turned out to be a {good}",
    "{other} called this {thing} a {bad}, but I call it a {good}",
    "I call this {thing} a {good}, but {other} called it a {bad}",
    "I thought this {thing} would be a {bad}, but it was a {good}",
)


def _judgement(draw: Draw) -> Pair:
    """Draws a judgement of one aspect with a word of praise and a word of blame; their order decides the label."""
    fixed = {
        "aspect": draw.one(_ASPECTS[draw.one(_THINGS)]),
        "degree": draw.one(_DEGREES),
        "other": draw.one(_OTHERS),
    }
    return _swapped(draw.one(_OPENERS) + draw.one(_JUDGEMENTS), fixed, draw.one(_PRAISE), draw.one(_BLAME))


def _noun_judgement(draw: Draw) -> Pair:
    """Draws a judgement with two nouns: "I expected a masterpiece and got a mess"."""
    fixed = {"thing": draw.one(_THINGS), "other": draw.one(_OTHERS)}
    return _swapped(draw.one(_OPENERS) + draw.one(_NOUN_JUDGEMENTS), fixed, draw.one(_TREASURES), draw.one(_FAILURES))


def _scope(draw: Draw) -> Pair:
    """Draws two clauses with one "not": "the plot was not bad, and the music was great"."""
    one, other = draw.two(_ASPECTS[draw.one(_THINGS)])
    good, bad = draw.one(_PRAISE), draw.one(_BLAME)
    pattern = f"{draw.one(_OPENERS)}the {one} was {{first}}, and the {other} was {{second}}"
    positive = {"first": f"not {bad}", "second": good}
    return Pair((good, bad), pattern, positive, {"first": bad, "second": f"not {good}"})


def _swapped(pattern: str, fixed: dict[str, str], good: str, bad: str) -> Pair:
    """Returns the pair of a pattern that is positive if {good} is a word of praise and {bad} a word of blame."""
    return Pair((good, bad), pattern, fixed | {"good": good, "bad": bad}, fixed | {"good": bad, "bad": good})


_KINDS = weighted((_contrast, 9), (_judgement, 7), (_scope, 2), (_noun_judgement, 2))
