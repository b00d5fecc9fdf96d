"""Generates German noun phrases and clauses: declension, verb forms, word order (verb first, second and last)."""

from functools import cache

from vanilla_recipes.data.toy.clauses import Clause, NounPhrase, Participant, Tense, join
from vanilla_recipes.data.toy.lexicon import Pronoun, Verb

# Column of each gender in the tables below: masculine, feminine, neuter; the plural has the fourth column.
_GENDERS = {"m": 0, "f": 1, "n": 2}
_PLURAL = 3

_DEFINITE = {
    "nom": ("der", "die", "das", "die"),
    "acc": ("den", "die", "das", "die"),
    "dat": ("dem", "der", "dem", "den"),
}
_RELATIVE = _DEFINITE | {"dat": ("dem", "der", "dem", "denen")}
# Endings of "dies-" (_DIES), and endings of "ein-", "kein-" and "mein-" (_EIN).
_DIES = {"nom": ("er", "e", "es", "e"), "acc": ("en", "e", "es", "e"), "dat": ("em", "er", "em", "en")}
_EIN = {"nom": ("", "e", "", "e"), "acc": ("en", "e", "", "e"), "dat": ("em", "er", "em", "en")}
_EIN_STEMS = {"a": "ein", "my": "mein", "no": "kein"}
_NUMERALS = {"": "", "two": "zwei", "three": "drei"}

# Adjective endings: weak after "der" and "dieser", mixed after "ein", "kein" and "mein", strong without a determiner or
# after a numeral.
_WEAK = {"nom": ("e", "e", "e", "en"), "acc": ("en", "e", "e", "en"), "dat": ("en", "en", "en", "en")}
_MIXED = {"nom": ("er", "e", "es", "en"), "acc": ("en", "e", "es", "en"), "dat": ("en", "en", "en", "en")}
_STRONG_PLURAL = {"nom": "e", "acc": "e", "dat": "en"}

# Finite forms (singular, plural) of the auxiliary verb or the modal verb of a tense.
_FINITE = {
    Tense.FUTURE: ("wird", "werden"),
    Tense.CAN: ("kann", "können"),
    Tense.MUST: ("muss", "müssen"),
    Tense.SHOULD: ("sollte", "sollten"),
    Tense.WANT: ("will", "wollen"),
    Tense.WANTED: ("wollte", "wollten"),
    Tense.HAD_TO: ("musste", "mussten"),
}
_MUST_NOT = ("darf", "dürfen")
_PERFECT = {"haben": ("hat", "haben"), "sein": ("ist", "sind")}
_BE = {Tense.PRESENT: ("ist", "sind"), Tense.PAST: ("war", "waren")}


@cache
def noun_phrase(phrase: NounPhrase, case: str, negated: bool = False) -> str:
    """Returns the phrase as text in case "nom", "acc" or "dat"; `negated` replaces its determiner by "kein"."""
    column = _PLURAL if phrase.plural else _GENDERS[phrase.noun.gender]
    determiner = "no" if negated else phrase.determiner
    adjectives = (adjective.stem + _ending(determiner, case, column) for adjective in phrase.adjectives)
    return join(_determiner(determiner, case, column), *adjectives, _noun(phrase, case))


def main_clause(clause: Clause, after_subject: str = "") -> str:
    """Returns a statement: the finite verb is second, after the fronted adverbial or the subject."""
    if clause.front:
        return join(clause.front.german, verb_first(clause))
    finite, nonfinite = _verb(clause)
    return join(_participant(clause.subject, "nom") + after_subject, finite, _middle_field(clause), nonfinite)


def verb_first(clause: Clause) -> str:
    """Returns the clause with its finite verb first: a question, or a main clause without its fronted part."""
    finite, nonfinite = _verb(clause)
    return join(finite, _participant(clause.subject, "nom"), _middle_field(clause), nonfinite)


def subordinate_clause(clause: Clause, gap: bool = False) -> str:
    """Returns the clause with its finite verb last, as after "weil" or "dass"; see `verb_last` for `gap`."""
    return join(_participant(clause.subject, "nom"), verb_last(clause, gap))


def verb_last(clause: Clause, gap: bool = False) -> str:
    """Returns a subordinate clause without its subject; with `gap` also without its object."""
    finite, nonfinite = _verb(clause)
    middle = _middle_field(clause, gap)
    if clause.verb and clause.verb.particle == nonfinite:
        return join(middle, nonfinite + finite)
    return join(middle, nonfinite, finite)


def relative_pronoun(head: NounPhrase, case: str) -> str:
    """Returns the relative pronoun that agrees with `head` in gender and number."""
    return _RELATIVE[case][_PLURAL if head.plural else _GENDERS[head.noun.gender]]


def preterite(verb: Verb, plural: bool) -> str:
    """Returns the third person of the preterite (simple past), without the separable particle."""
    if not plural:
        return verb.preterite
    return verb.preterite + ("n" if verb.preterite.endswith("e") else "en")


def present(verb: Verb, plural: bool) -> str:
    """Returns the third person of the present, without the separable particle."""
    return verb.infinitive if plural else verb.german_third


def _ending(determiner: str, case: str, column: int) -> str:
    if determiner in _NUMERALS:
        return _STRONG_PLURAL[case]
    return (_MIXED if determiner in _EIN_STEMS else _WEAK)[case][column]


def _determiner(determiner: str, case: str, column: int) -> str:
    if determiner == "the":
        return _DEFINITE[case][column]
    if determiner == "this":
        return "dies" + _DIES[case][column]
    if determiner in _EIN_STEMS:
        return _EIN_STEMS[determiner] + _EIN[case][column]
    return _NUMERALS[determiner]


def _noun(phrase: NounPhrase, case: str) -> str:
    noun = phrase.noun
    if phrase.plural:
        form = noun.german_plural
        if case == "dat" and form[-1] not in "ns":
            form += "n"
    else:
        form = noun.german if case == "nom" else noun.oblique or noun.german
    return phrase.modifier[1] + form.lower() if phrase.modifier else form


def _participant(participant: Participant, case: str, negated: bool = False) -> str:
    if isinstance(participant, Pronoun):
        return participant.nom if case == "nom" else participant.acc if case == "acc" else participant.dat
    return noun_phrase(participant, case, negated)


def _verb(clause: Clause) -> tuple[str, str]:
    """Returns the finite verb, and the infinitive, participle or particle at the end of a main clause ("" if none)."""
    number = int(clause.subject.plural)
    verb, tense = clause.verb, clause.tense
    if verb is None:
        return _BE[tense][number], ""
    if tense is Tense.PRESENT:
        return present(verb, clause.subject.plural), verb.particle
    if tense is Tense.PAST:
        return preterite(verb, clause.subject.plural), verb.particle
    if tense is Tense.PERFECT:
        return _PERFECT[verb.auxiliary][number], verb.german_participle
    forms = _MUST_NOT if tense is Tense.MUST and clause.negated else _FINITE[tense]
    return forms[number], verb.particle + verb.infinitive


def _middle_field(clause: Clause, gap: bool = False) -> str:
    """Returns the words between the finite verb (or subject) and the end of the clause, in German order."""
    target = None if gap else clause.target
    # "kein" negates an indefinite object; otherwise "nicht" follows the objects.
    as_kein = clause.negated and isinstance(target, NounPhrase) and not target.definite
    objects = ""
    if target:
        objects = _participant(target, clause.verb.case if clause.verb else "acc", as_kein)
    time = clause.time.german if clause.time else ""
    beside = "nicht" if clause.negated and not as_kein else clause.frequency.german if clause.frequency else ""
    return join(
        *((objects, time) if isinstance(target, Pronoun) else (time, _recipient(clause), objects)),
        beside,
        clause.place.german if clause.place else "",
        clause.predicate.german if clause.predicate else "",
    )


def _recipient(clause: Clause) -> str:
    return noun_phrase(clause.recipient, "dat") if clause.recipient else ""
