"""Generates English noun phrases and clauses."""

from functools import cache

from vanilla_recipes.data.toy.clauses import Clause, NounPhrase, Participant, Tense, join
from vanilla_recipes.data.toy.lexicon import PERSON, Pronoun, Verb

# Tense or modal that needs "do" in negations and questions -> (whether the form is a past form, the words between "do"
# and the verb).
_DO_SUPPORT = {
    Tense.PRESENT: (False, ""),
    Tense.PAST: (True, ""),
    Tense.WANT: (False, "want to"),
    Tense.WANTED: (True, "want to"),
    Tense.HAD_TO: (True, "have to"),
}
_FUSED = {"want to": ("wants to", "wanted to"), "have to": ("has to", "had to")}
_MODALS = {Tense.FUTURE: "will", Tense.CAN: "can", Tense.MUST: "must", Tense.SHOULD: "should"}


@cache
def noun_phrase(phrase: NounPhrase) -> str:
    """Returns the phrase as text: "an old garden door", "these dogs"."""
    noun = phrase.noun.english_plural if phrase.plural else phrase.noun.english
    modifier = phrase.modifier[0] if phrase.modifier else ""
    rest = join(*(adjective.english for adjective in phrase.adjectives), modifier, noun)
    determiner = phrase.determiner
    if determiner == "a" and rest[0] in "aeiou":
        determiner = "an"
    elif determiner == "this" and phrase.plural:
        determiner = "these"
    return join(determiner, rest)


def main_clause(clause: Clause, after_subject: str = "") -> str:
    """Returns a statement with its fronted adverbial: "yesterday the man did not see the dog"."""
    front = clause.front.english if clause.front else ""
    return join(front, _subject(clause.subject) + after_subject, predicate(clause))


def subordinate_clause(clause: Clause, gap: bool = False) -> str:
    """Returns the clause as it follows "because" or "that", without the conjunction; see `predicate` for `gap`."""
    return join(_subject(clause.subject), predicate(clause, gap))


def question(clause: Clause) -> str:
    """Returns a yes-no question without the question mark: "does the man see the dog"."""
    operator, rest = _operator(clause)
    adverb = "not" if clause.negated else ""
    return join(operator, _subject(clause.subject), adverb, rest, _complements(clause))


def predicate(clause: Clause, gap: bool = False) -> str:
    """Returns the clause without its subject; with `gap` also without its object, as in relative clauses."""
    return join(_verb_group(clause), _complements(clause, gap))


def relative_pronoun(head: NounPhrase, case: str) -> str:
    """Returns "who" or "whom" for people, "that" for animals."""
    if head.noun.kind != PERSON:
        return "that"
    return "who" if case == "nom" else "whom"


def _subject(participant: Participant) -> str:
    return participant.english if isinstance(participant, Pronoun) else noun_phrase(participant)


def _object(participant: Participant) -> str:
    return participant.english_object if isinstance(participant, Pronoun) else noun_phrase(participant)


def _complements(clause: Clause, gap: bool = False) -> str:
    """Returns the words after the verb: the rest of a compound verb or the predicate, recipient, object, place, time.

    If `gap` is true, the object is left out.
    """
    verb = clause.verb
    return join(
        verb.tail if verb else clause.predicate.english if clause.predicate else "",
        noun_phrase(clause.recipient) if clause.recipient else "",
        _object(clause.target) if clause.target and not gap else "",
        clause.place.english if clause.place else "",
        clause.time.english if clause.time else "",
    )


def _operator(clause: Clause) -> tuple[str, str]:
    """Returns the auxiliary that negation and questions need, and the rest of the verb without its tail."""
    plural = clause.subject.plural
    if clause.verb is None:
        return _be(clause.tense, plural), ""
    if clause.tense in _DO_SUPPORT:
        past, infix = _DO_SUPPORT[clause.tense]
        return ("did" if past else "do" if plural else "does"), join(infix, clause.verb.base)
    if clause.tense is Tense.PERFECT:
        return ("have" if plural else "has"), clause.verb.participle
    return _MODALS[clause.tense], clause.verb.base


def _verb_group(clause: Clause) -> str:
    """Returns the verb with its auxiliaries, and "not" or the adverb of frequency."""
    adverb = "not" if clause.negated else clause.frequency.english if clause.frequency else ""
    if clause.verb and clause.tense in _DO_SUPPORT and not clause.negated:
        return join(adverb, _finite(clause.verb, clause.tense, clause.subject.plural))
    operator, rest = _operator(clause)
    if operator == "can" and clause.negated:
        return join("cannot", rest)
    return join(operator, adverb, rest)


def _finite(verb: Verb, tense: Tense, plural: bool) -> str:
    past, infix = _DO_SUPPORT[tense]
    if infix:
        return join(_FUSED[infix][1] if past else infix if plural else _FUSED[infix][0], verb.base)
    return verb.past if past else verb.base if plural else verb.third


def _be(tense: Tense, plural: bool) -> str:
    if tense is Tense.PRESENT:
        return "are" if plural else "is"
    return "were" if plural else "was"
