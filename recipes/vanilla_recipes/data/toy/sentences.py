"""Builds sentences from clauses. All functions return an (English, German) pair."""

from vanilla_recipes.data.toy import english, german
from vanilla_recipes.data.toy.clauses import Clause, NounPhrase, capitalized, join

Pair = tuple[str, str]

BECAUSE, THAT = ("because", "weil"), ("that", "dass")
WHEN, IF = ("When", "Als"), ("If", "Wenn")
WHY = ("why", "warum")
AND, BUT = ("and", "und"), ("but", "aber")


def statement(clause: Clause) -> Pair:
    """Returns a sentence of one main clause."""
    return _sentence(english.main_clause(clause), german.main_clause(clause))


def question(question_word: Pair, clause: Clause) -> Pair:
    """Returns a question with a question word, or a yes-no question if the word is empty."""
    first, second = question_word
    return _sentence(join(first, english.question(clause)), join(second, german.verb_first(clause)), "?")


def coordinated(conjunction: Pair, first: Clause, second: Clause) -> Pair:
    """Returns two main clauses joined by "and" or "but"."""
    return _sentence(
        f"{english.main_clause(first)}, {conjunction[0]} {english.main_clause(second)}",
        f"{german.main_clause(first)}, {conjunction[1]} {german.main_clause(second)}",
    )


def subordinated(conjunction: Pair, main: Clause, subordinate: Clause) -> Pair:
    """Returns a main clause followed by a subordinate clause with "because" or "that"."""
    return _sentence(
        f"{english.main_clause(main)} {conjunction[0]} {english.subordinate_clause(subordinate)}",
        f"{german.main_clause(main)}, {conjunction[1]} {german.subordinate_clause(subordinate)}",
    )


def fronted(conjunction: Pair, subordinate: Clause, main: Clause) -> Pair:
    """Returns a subordinate clause with "when" or "if", then a main clause, whose verb comes first in German."""
    return _sentence(
        f"{conjunction[0]} {english.subordinate_clause(subordinate)}, {english.main_clause(main)}",
        f"{conjunction[1]} {german.subordinate_clause(subordinate)}, {german.verb_first(main)}",
    )


def with_relative_subject(main: Clause, relative: Clause) -> Pair:
    """Returns `main` with a relative clause after its subject; the subject is subject or object of that clause."""
    first, second = _relative(main.subject, relative)
    return _sentence(english.main_clause(main, " " + first), german.main_clause(main, f", {second},"))


def with_relative_object(main: Clause, relative: Clause) -> Pair:
    """Returns `main` with a relative clause after its object, which must be its last word in both languages."""
    first, second = _relative(main.target, relative)
    return _sentence(f"{english.main_clause(main)} {first}", f"{german.main_clause(main)}, {second}")


def _relative(head: object, clause: Clause) -> Pair:
    """Returns the relative clause about `head`, the subject or object of `clause`."""
    assert isinstance(head, NounPhrase)
    if clause.subject == head:
        return (
            f"{english.relative_pronoun(head, 'nom')} {english.predicate(clause)}",
            f"{german.relative_pronoun(head, 'nom')} {german.verb_last(clause)}",
        )
    assert clause.verb is not None
    return (
        f"{english.relative_pronoun(head, 'acc')} {english.subordinate_clause(clause, gap=True)}",
        f"{german.relative_pronoun(head, clause.verb.case)} {german.subordinate_clause(clause, gap=True)}",
    )


def _sentence(first: str, second: str, mark: str = ".") -> Pair:
    return capitalized(first) + mark, capitalized(second) + mark
