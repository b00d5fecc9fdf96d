"""Clauses as data, independent of language: both languages are generated from the same clause."""

from enum import Enum
from typing import NamedTuple, TypeAlias

from vanilla_recipes.data.toy.lexicon import Adjective, Adverbial, Noun, Pronoun, Verb


class NounPhrase(NamedTuple):
    """A noun with its determiner ("the", "a", "my", "this", "two", "three", or "" for none) and adjectives.

    `modifier` is the first part of a compound noun, in English and in German.
    """

    noun: Noun
    determiner: str = "the"
    adjectives: tuple[Adjective, ...] = ()
    modifier: tuple[str, str] | None = None
    plural: bool = False

    @property
    def definite(self) -> bool:
        """Whether the determiner is definite. A negated clause has "nicht" with a definite object, "kein" otherwise."""
        return self.determiner in DEFINITE_DETERMINERS


DEFINITE_DETERMINERS = ("the", "my", "this")
Participant: TypeAlias = NounPhrase | Pronoun


class Tense(Enum):
    """The tenses and modals of the grammar."""

    PRESENT = "present"
    PAST = "past"
    PERFECT = "perfect"
    FUTURE = "future"
    CAN = "can"
    MUST = "must"
    SHOULD = "should"
    WANT = "want"
    WANTED = "wanted"
    HAD_TO = "had to"


class Clause(NamedTuple):
    """One clause: who does what to whom, when, where and how often.

    A clause with a `predicate` describes its subject ("the man is old") and has neither verb nor objects. In English
    `front` precedes the subject, `frequency` precedes or follows the finite verb, and `time` and `place` come last.
    """

    subject: Participant
    tense: Tense
    verb: Verb | None = None
    target: Participant | None = None
    recipient: NounPhrase | None = None
    predicate: Adjective | None = None
    negated: bool = False
    frequency: Adverbial | None = None
    front: Adverbial | None = None
    time: Adverbial | None = None
    place: Adverbial | None = None


def join(*words: str) -> str:
    """Joins the words that are not empty with spaces."""
    return " ".join(filter(None, words))


def capitalized(sentence: str) -> str:
    """Capitalizes the first letter of the sentence; the other letters are unchanged."""
    return sentence[0].upper() + sentence[1:]
