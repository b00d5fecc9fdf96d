"""Draws random clauses of the English-German corpus.

Animate nouns are subjects and objects of the same verbs equally often, and an adjective may describe any noun that it
suits. So "the dog bites the man" and "the man bites the dog" are equally likely. A bag of words does not determine who
acts on whom, which adjective describes which noun, or which verb belongs to which subject.
"""

from typing import TypeVar

from vanilla_recipes.data.toy import lexicon as lex
from vanilla_recipes.data.toy.clauses import DEFINITE_DETERMINERS, Clause, NounPhrase, Participant, Tense
from vanilla_recipes.data.toy.draw import Draw, weighted

Word = TypeVar("Word", lex.Noun, lex.Verb)

SIMPLE_KINDS = weighted(("symmetric", 11), ("opening", 2), ("moving", 3), ("giving", 3), ("intransitive", 2))
PART_KINDS = weighted(("symmetric", 12), ("opening", 2), ("moving", 3), ("intransitive", 3), ("state", 2))
_OBJECTS = {
    "symmetric": (lex.SYMMETRIC_VERBS, lex.ANIMATES),
    "opening": (lex.OPENING_VERBS, (*lex.OPENABLES, *lex.CONTAINERS)),
    "moving": (lex.MOVING_VERBS, lex.MOVABLES),
    "giving": (lex.GIVING_VERBS, lex.MOVABLES),
    "intransitive": (lex.INTRANSITIVE_VERBS, ()),
}
_SINGULAR = weighted(("the", 11), ("a", 4), ("my", 3), ("this", 2))
_PLURAL = weighted(("the", 8), ("", 4), ("my", 2), ("this", 2), ("two", 2), ("three", 1))
_INDEFINITE = {False: "a", True: ""}

NOW = weighted(
    (Tense.PRESENT, 8), (Tense.PERFECT, 4), (Tense.FUTURE, 2), (Tense.CAN, 2), (Tense.MUST, 1), (Tense.WANT, 2),
    (Tense.SHOULD, 1),
)  # fmt: skip
THEN = weighted((Tense.PAST, 6), (Tense.WANTED, 1), (Tense.HAD_TO, 1))
ASKED = weighted(
    (Tense.PRESENT, 3), (Tense.PAST, 4), (Tense.PERFECT, 4), (Tense.FUTURE, 3), (Tense.CAN, 3), (Tense.WANT, 3),
    (Tense.WANTED, 2),
)  # fmt: skip
CONSEQUENCES = (Tense.PRESENT, Tense.FUTURE, Tense.MUST, Tense.CAN, Tense.SHOULD)
PLAIN = (Tense.PRESENT, Tense.PAST)

_TIMES = dict.fromkeys(Tense, lex.FUTURE_TIMES) | {
    Tense.PRESENT: lex.HABITS,
    Tense.PERFECT: (lex.TODAY,),
    **dict.fromkeys((Tense.PAST, Tense.WANTED, Tense.HAD_TO), lex.PAST_TIMES),
}
_FREQUENCIES = {
    Tense.PRESENT: (lex.NEVER, lex.OFTEN, lex.ALWAYS),
    Tense.PAST: (lex.NEVER, lex.OFTEN, lex.ALWAYS),
    Tense.PERFECT: (lex.NEVER, lex.OFTEN, lex.ALREADY),
}
_SUITING = {
    noun: tuple(adjective for adjective in lex.ADJECTIVES if noun.kind in adjective.kinds)
    for noun in (*lex.ANIMATES, *lex.OPENABLES, *lex.MOVABLES)
}


class Composer:
    """Draws the clauses of one sentence. No noun, verb, time or place adverbial is drawn twice."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self._used: set[lex.Noun | lex.Verb | lex.Adverbial] = set()

    def noun_phrase(
        self, nouns: tuple[lex.Noun, ...], determiner: str | None = None, plural: bool | None = None
    ) -> NounPhrase:
        """Draws a noun phrase about one of `nouns`.

        `determiner` is "definite", "negatable" (definite or indefinite, no numeral), or None for any determiner.
        """
        draw = self.draw
        noun = self._fresh(nouns)
        if plural is None:
            plural = draw.chance(0.2)
        chosen = self._determiner(plural, determiner)
        parts = lex.COMPOUNDS.get(noun.english)
        modifier = draw.one(parts) if parts and draw.chance(0.5) else None
        bare = chosen == "" and determiner is None
        return NounPhrase(noun, chosen, self._adjectives(noun, bare), modifier, plural)

    def subject(self, definite: bool = False) -> Participant:
        """Draws the subject of a clause: a pronoun or a phrase about an animate noun."""
        if self.draw.chance(0.12):
            return self.draw.one(lex.PRONOUNS)
        return self.noun_phrase(lex.ANIMATES, "definite" if definite else None)

    def predicate(self, adjectives: tuple[lex.Adjective, ...], of: Participant) -> lex.Adjective:
        """Draws one of `adjectives` that the participant's noun phrase does not have."""
        borne = of.adjectives if isinstance(of, NounPhrase) else ()
        predicate = self.draw.one(adjectives)
        while predicate in borne:
            predicate = self.draw.one(adjectives)
        return predicate

    def clause(
        self,
        tense: Tense,
        kinds: tuple[str, ...] = PART_KINDS,
        subject: Participant | None = None,
        adverbials: bool = False,
        front: bool = False,
        inverted: bool = False,
        beside: bool = True,
    ) -> Clause:
        """Draws a clause of one of `kinds`.

        Args:
            tense: the tense or modal.
            kinds: kinds of clauses, keys of `_OBJECTS` or "state".
            subject: the subject; None to draw one.
            adverbials: whether the clause may have adverbials of time and place.
            front: whether an adverbial may come first.
            inverted: whether the German subject follows the finite verb. Then no object is a pronoun, which could come
                before or after the subject.
            beside: whether the clause may be negated or have an adverb of frequency such as "never".
        """
        draw = self.draw
        kind = draw.one(kinds)
        if kind == "state" and tense not in PLAIN:
            kind = "symmetric"
        negated, frequency = self._beside(tense, kind) if beside else (False, None)
        bound = negated or frequency is not None
        subject = subject or self.subject(bound)
        if kind == "state":
            predicate = self.predicate(lex.STATES, subject)
            return Clause(subject, tense, predicate=predicate, negated=negated, frequency=frequency)
        verbs, nouns = _OBJECTS[kind]
        verb = self._fresh(verbs)
        clause = Clause(subject, tense, verb, negated=negated, frequency=frequency)
        if adverbials and not frequency and not (negated and tense is Tense.PRESENT):
            clause = self._with_adverbials(clause, front, verb.takes_place)
        if kind == "intransitive":
            return clause
        if kind == "giving":
            clause = clause._replace(recipient=self.noun_phrase(lex.ANIMATES, "definite" if bound else None))
        may_be_pronoun = kind == "symmetric" and not (inverted or clause.front or verb.phrasal)
        return clause._replace(target=self._target(clause, nouns, may_be_pronoun))

    def _fresh(self, items: tuple[Word, ...]) -> Word:
        """Draws one of `items` that this sentence does not have yet; at least one must be unused."""
        item = self.draw.one(items)
        while item in self._used:
            item = self.draw.one(items)
        self._used.add(item)
        return item

    def _adverbial(self, items: tuple[lex.Adverbial, ...], probability: float) -> lex.Adverbial | None:
        """Draws one of `items` with the given probability; None otherwise, or if the sentence already has the item."""
        if not self.draw.chance(probability):
            return None
        item = self.draw.one(items)
        if item in self._used:
            return None
        self._used.add(item)
        return item

    def _beside(self, tense: Tense, kind: str) -> tuple[bool, lex.Adverbial | None]:
        """Draws whether the clause is negated and, if not, an adverb of frequency or None."""
        if tense is not Tense.HAD_TO and self.draw.chance(0.12):
            return True, None
        if kind != "giving" and tense in _FREQUENCIES and self.draw.chance(0.15):
            return False, self.draw.one(_FREQUENCIES[tense])
        return False, None

    def _determiner(self, plural: bool, wanted: str | None) -> str:
        draw = self.draw
        if wanted == "negatable" and draw.chance(0.4):
            return _INDEFINITE[plural]
        determiners = _PLURAL if plural else _SINGULAR
        determiner = draw.one(determiners)
        while wanted and determiner not in DEFINITE_DETERMINERS:
            determiner = draw.one(determiners)
        return determiner

    def _adjectives(self, noun: lex.Noun, needed: bool) -> tuple[lex.Adjective, ...]:
        if not needed and self.draw.chance(0.45):
            return ()
        first = self.draw.one(_SUITING[noun])
        if first.english in lex.COLOURS or self.draw.chance(0.8):
            return (first,)
        second = self.draw.one(_SUITING[noun])
        return (first, second) if second.english in lex.COLOURS else (first,)

    def _target(self, clause: Clause, nouns: tuple[lex.Noun, ...], may_be_pronoun: bool) -> Participant:
        if may_be_pronoun and isinstance(clause.subject, NounPhrase) and self.draw.chance(0.1):
            return self.draw.one(lex.PRONOUNS)
        return self.noun_phrase(nouns, "negatable" if clause.negated else "definite" if clause.frequency else None)

    def _with_adverbials(self, clause: Clause, front: bool, takes_place: bool) -> Clause:
        """Returns the clause with adverbials of time and place, or one of them, or none.

        A negated clause has at most one adverbial, in front.
        """
        draw = self.draw
        time = self._adverbial(_TIMES[clause.tense], 0.4)
        place = self._adverbial(lex.PLACES, 0.3) if takes_place else None
        if front and (time or place) and draw.chance(0.6):
            if time:
                return clause._replace(front=time, place=None if clause.negated else place)
            return clause._replace(front=place)
        return clause if clause.negated else clause._replace(time=time, place=place)
