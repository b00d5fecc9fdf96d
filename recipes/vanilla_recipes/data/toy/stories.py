"""The story corpus: a wish or a loss, an obstacle, a helper, and an end that refers to the beginning.

Names, pronouns, things and locations do not change within a story, so a model can be scored on consistency.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from vanilla_recipes.data.toy.draw import Combination, Draw, split_of


class Helper(NamedTuple):
    """An animal that can reach the lost thing, and how it does so."""

    kind: str
    deed: str


class Trouble(NamedTuple):
    """Where the lost thing is, how it got there, why the hero cannot reach it, and which animals can."""

    place: str
    loss: str
    obstacle: str
    helpers: tuple[Helper, ...]


class Skill(NamedTuple):
    """The skill that the hero wants to learn, where, what goes wrong, the advice of a friend, and the success."""

    wish: str
    place: str
    failure: str
    lesson: str
    triumph: str


class Gift(NamedTuple):
    """The gift that the hero wants to make, its article, the missing thing, and where the helper finds it."""

    name: str
    article: str
    missing: str
    source: str


# Subject, object and possessive pronoun of a hero, and the names of heroes with these pronouns.
_PEOPLE = (
    (("she", "her", "her"), ("Mia", "Lily", "Anna", "Emma", "Sara", "Zoe", "Nora", "Ella", "Ruth", "Lucy")),
    (("he", "him", "his"), ("Tom", "Ben", "Max", "Leo", "Sam", "Tim", "Jack", "Finn", "Paul", "Adam")),
)
_CHILD = {"she": "girl", "he": "boy"}
_ANIMALS = ("rabbit", "bear", "fox", "hedgehog", "goat")
_HELPER_NAMES = ("Bo", "Coco", "Pip", "Momo", "Rusty", "Pepper", "Dot", "Ziggy")
_FRIENDS = ("bird", "squirrel", "duck", "dog", "mouse", "mole", "cat", "turtle")
_TRAITS = ("little", "kind", "clever", "cheerful", "quiet", "young", "shy", "brave")
_SIZES = ("small", "big", "friendly", "gentle", "funny", "wise")
_COLOURS = ("red", "blue", "green", "yellow", "white", "purple", "pink", "brown")
_THINGS = ("ball", "hat", "doll", "kite", "paper boat", "toy car", "ribbon", "wooden horse")
_RELATIVES = ("grandmother", "mother", "aunt", "sister")
_FOODS = ("some bread", "a big cookie", "a sweet pear", "some berries", "a piece of cake")
_DAYS = ("One day", "One sunny morning", "One windy afternoon", "Early one morning")
_HOMES = ("a little village", "a quiet valley", "a green forest", "an old mill", "a long river", "the sea")

_TROUBLES = (
    Trouble(
        "the tall tree", "got stuck in a tall tree", "the branches were too high",
        (Helper("bird", "flew up into the tree"), Helper("squirrel", "climbed up the tree")),
    ),
    Trouble(
        "the pond", "fell into a pond", "the water was too deep",
        (Helper("duck", "swam across the pond"), Helper("dog", "jumped into the water")),
    ),
    Trouble(
        "the deep hole", "fell into a deep hole", "the hole was too narrow",
        (Helper("mouse", "ran down into the hole"), Helper("mole", "dug a way into the hole")),
    ),
    Trouble(
        "the barn", "landed on the roof of a barn", "the roof was too high",
        (Helper("cat", "climbed up to the roof"), Helper("bird", "flew up to the roof")),
    ),
    Trouble(
        "the thorn bush", "got lost in a thorn bush", "the thorns were too sharp",
        (Helper("mouse", "crept into the bush"), Helper("turtle", "crawled into the bush")),
    ),
)  # fmt: skip

_SKILLS = (
    Skill(
        "learn to swim", "at the lake", "swallowed some water", "to kick with both legs",
        "swam across the lake",
    ),
    Skill(
        "learn to skate", "on the frozen river", "slipped and fell down", "to bend both knees",
        "skated down the river",
    ),
    Skill(
        "fly a kite", "on the hill", "saw the kite fall", "to run against the wind",
        "saw the kite rise above the hill",
    ),
    Skill(
        "learn to whistle", "by the old wall", "only blew some air", "to blow softly",
        "whistled a happy tune",
    ),
    Skill(
        "build a tower", "on the beach", "saw the tower fall down", "to use wet sand",
        "built the tallest tower of all",
    ),
)  # fmt: skip

_GIFTS = (
    Gift("apple pie", "an", "there were no apples left in the kitchen", "to the apple trees"),
    Gift("crown of flowers", "a", "there were no flowers left in the garden", "to the far meadow"),
    Gift("warm pillow", "a", "there were not enough feathers in the house", "to the henhouse"),
    Gift("berry cake", "a", "there were no berries left in the kitchen", "to the edge of the forest"),
    Gift("necklace of shells", "a", "there were not enough shells in the box", "down to the beach"),
)

# A plot is a sequence of steps; a step is a tuple of wordings, of which one is drawn.
_OPENING = (
    "Once upon a time, there was a {trait} {kind} named {name}. ",
    "{name} was a {trait} {kind} who lived near {home}. ",
    "{name} was a {trait} {kind}. ",
    "Near {home} lived a {trait} {kind} named {name}. ",
)
_ARRIVAL = (
    "Just then, a {size} {helper_kind} named {helper} came by. ",
    "Soon a {size} {helper_kind} called {helper} stopped beside {them}. ",
    "Then {name} met {helper}, a {size} {helper_kind}. ",
)
_LOSS = (
    _OPENING,
    ("{They} had a {colour} {thing} that {they} loved. ", "{Their} greatest treasure was a {colour} {thing}. "),
    ("{day}, it {loss}. ", "{day}, the {thing} {loss}. ", "But {day_inside} the {thing} {loss}. "),
    (
        "{They} tried to get it back, but {obstacle}. {name} began to cry. ",
        "{They} wanted to reach it, but {obstacle}. ",
    ),
    _ARRIVAL,
    (
        "{helper} {deed} and brought back the {thing}. ",
        '"I can help you," said {helper}, and {deed} to get the {thing}. ',
    ),
    (
        "{name} hugged the {colour} {thing} and gave {helper} {food}.",
        "{name} thanked {helper}, and they played with the {colour} {thing} together.",
        "{name} thanked {helper} and never took the {thing} near {place} again.",
    ),
)
_LEARNING = (
    _OPENING,
    ("More than anything, {they} wanted to {wish}. ", "{They} had always wanted to {wish}. "),
    ("{day}, {they} tried it {place}, but {they} {failure}. ",),
    ('"I will never do it," said {name} sadly. ', "{They} felt sad and sat down. "),
    _ARRIVAL,
    (
        '"Do not give up," said {helper}, and showed {them} how {lesson}. ',
        "{helper} smiled and told {them} {lesson}. ",
    ),
    (
        "{name} tried again, and soon {they} {triumph}. ",
        "{They} tried once more and {triumph}. ",
    ),
    (
        "{name} was proud and gave {helper} {food}.",
        '"You were right, {helper}," said {name}, and laughed.',
    ),
)
_GIVING = (
    _OPENING,
    ("It was the birthday of {their} {relative}, and {they} wanted to make {article} {gift}. ",),
    ("But {missing}, and {name} felt sad. ", "But {missing}. "),
    _ARRIVAL,
    (
        '"I know where to look," said {helper}, and they went {source}. ',
        '"Come with me," said {helper}, and led {them} {source}. ',
    ),
    ("They found all they needed, and {name} ran home. ", "There they found enough, and {name} thanked {helper}. "),
    (
        "{Their} {relative} loved the {gift} and gave {helper} {food}.",
        "When {their} {relative} saw the {gift}, {name} told her how {helper} had helped.",
    ),
)


def story_rows(split: str, seed: int) -> Iterator[dict[str, Any]]:
    """Yields rows of a split without end; rows can repeat."""
    draw = Draw("stories", split, seed)
    while True:
        words = _cast(draw)
        steps, combinations = draw.one(_PLOTS)(draw, words)
        if split_of(((words["trait"], words["kind"]), *combinations)) == split:
            yield {"text": "".join(draw.one(wordings) for wordings in steps).format(**words)}


def _cast(draw: Draw) -> dict[str, str]:
    """Draws hero, helper and other words that fill the wordings of every plot."""
    (they, them, their), names = draw.one(_PEOPLE)
    day = draw.one(_DAYS)
    kind = _CHILD[they] if draw.chance(0.6) else draw.one(_ANIMALS)
    return {
        "name": draw.one(names),
        "kind": kind,
        "trait": draw.one(_TRAITS),
        "home": draw.one(_HOMES),
        "day": day,
        "day_inside": day[0].lower() + day[1:],
        "they": they,
        "They": they.capitalize(),
        "them": them,
        "their": their,
        "Their": their.capitalize(),
        "helper": draw.one(_HELPER_NAMES),
        "helper_kind": draw.one(_FRIENDS),
        "size": draw.one(_SIZES),
        "food": draw.one(_FOODS),
    }


_Plot = tuple[tuple[tuple[str, ...], ...], tuple[Combination, ...]]


def _loss(draw: Draw, words: dict[str, str]) -> _Plot:
    """Draws a plot in which a lost thing is out of reach and an animal brings it back."""
    trouble, thing, colour = draw.one(_TROUBLES), draw.one(_THINGS), draw.one(_COLOURS)
    helper = draw.one(trouble.helpers)
    words |= {"thing": thing, "colour": colour, "helper_kind": helper.kind, "deed": helper.deed}
    words |= {"place": trouble.place, "loss": trouble.loss, "obstacle": trouble.obstacle}
    return _LOSS, ((words["kind"], thing), (colour, thing), (thing, trouble.place))


def _learning(draw: Draw, words: dict[str, str]) -> _Plot:
    """Draws a plot in which the hero cannot do something and a friend shows how."""
    skill = draw.one(_SKILLS)
    words |= skill._asdict()
    kind, friend = words["kind"], words["helper_kind"]
    return _LEARNING, ((kind, skill.wish, friend), (words["trait"], skill.wish))


def _giving(draw: Draw, words: dict[str, str]) -> _Plot:
    """Draws a plot in which something is missing for a gift and a friend knows where to find it."""
    gift, relative = draw.one(_GIFTS), draw.one(_RELATIVES)
    words |= {"relative": relative, "gift": gift.name, "article": gift.article}
    words |= {"missing": gift.missing, "source": gift.source}
    kind, friend = words["kind"], words["helper_kind"]
    return _GIVING, ((kind, gift.name, relative), (gift.name, friend))


_PLOTS = (_loss, _loss, _learning, _giving)
