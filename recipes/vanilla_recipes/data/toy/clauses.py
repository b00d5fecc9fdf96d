"""What a clause says, before it is put into words: the part that both languages share."""

from enum import Enum
from typing import NamedTuple, TypeAlias

from vanilla_recipes.data.toy.lexicon import Adjective, Adverbial, Noun, Pronoun, Verb


class NounPhrase(NamedTuple):
    """A noun with its determiner ("the", "a", "my", "this", "two", "three", or "" for none) and adjectives.

    `modifier` is the first part of a compound, in English and in German.
    """

    noun: Noun
    determiner: str = "the"
    adjectives: tuple[Adjective, ...] = ()
    modifier: tuple[str, str] | None = None
    plural: bool = False

    @property
    def definite(self) -> bool:
        """Whether the phrase picks out a known individual; decides between "nicht" and "kein"."""
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

    With a `predicate` the clause says that its subject is so, and has neither verb nor objects. `front` stands before
    the subject in English; `frequency` stands beside the verb; `time` and `place` stand last.
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
    """The words that are not empty, with spaces between."""
    return " ".join(filter(None, words))


def capitalized(sentence: str) -> str:
    """The sentence with a capital first letter and the others as they are."""
    return sentence[0].upper() + sentence[1:]
