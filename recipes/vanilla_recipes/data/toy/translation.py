"""The English-German corpus: sentences whose translation depends on the order of the words."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from vanilla_recipes.data.toy import lexicon as lex
from vanilla_recipes.data.toy import sentences
from vanilla_recipes.data.toy.clauses import Clause, NounPhrase, Tense
from vanilla_recipes.data.toy.composer import ASKED, CONSEQUENCES, NOW, PLAIN, SIMPLE_KINDS, THEN, Composer
from vanilla_recipes.data.toy.draw import Combination, Draw, split_of, weighted

# Nouns for people for which "he" or "she" fits the sex of the person and the gender of the German noun. "das Mädchen"
# and "das Kind" are neuter.
_GENDERED = tuple(noun for noun in lex.ANIMATES if noun.kind == lex.PERSON and noun.gender != "n")


class Sentence(NamedTuple):
    """The structure of a sentence: its clauses, and a function `words` that returns the English and the German text.

    The clauses alone decide which split (train, validation, test) the sentence belongs to. So a sentence of another
    split is skipped before its text is written.
    """

    clauses: tuple[Clause, ...]
    words: Callable[[], tuple[str, str]]


def translation_rows(split: str, seed: int) -> Iterator[dict[str, Any]]:
    """Yields rows of a split without end; rows can repeat."""
    draw = Draw("translation", split, seed)
    while True:
        sentence = draw.one(_SENTENCES)(Composer(draw))
        if _split_of(sentence.clauses) == split:
            yield _row(*sentence.words())


def role_swapped_rows(seed: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yields pairs of test rows without end; pairs can repeat. The second row swaps subject and object of the first."""
    draw = Draw("role-swapped", seed)
    while True:
        one, other = (NounPhrase(noun) for noun in draw.two(lex.ANIMATES))
        tense = draw.one((*NOW, *THEN))
        clause = Composer(draw).clause(tense, ("symmetric",), subject=one, adverbials=True, front=True, beside=False)
        clause = clause._replace(target=other)
        if _split_of((clause,)) == "test":
            swapped = clause._replace(subject=other, target=one)
            yield _row(*sentences.statement(clause)), _row(*sentences.statement(swapped))


def _row(english: str, german: str) -> dict[str, Any]:
    return {"translation": {"en": english, "de": german}}


def _split_of(clauses: tuple[Clause, ...]) -> str:
    return split_of(combination for clause in clauses for combination in _combinations(clause))


def _combinations(clause: Clause) -> Iterator[Combination]:
    """Yields the combinations of words that decide the split: verb with two nouns, and adjective with noun.

    The two nouns are sorted, so both directions of an action are reserved together. Otherwise training rows could have
    one of two role-swapped sentences, which would reveal the translation of the other.
    """
    phrases = [part for part in (clause.subject, clause.recipient, clause.target) if isinstance(part, NounPhrase)]
    if clause.verb and len(phrases) > 1:
        yield (clause.verb.base, clause.verb.tail, *sorted(phrase.noun.english for phrase in phrases[:2]))
    for phrase in phrases:
        for adjective in phrase.adjectives:
            yield (adjective.english, phrase.noun.english)
    if clause.predicate and isinstance(clause.subject, NounPhrase):
        yield (clause.predicate.english, clause.subject.noun.english)


def _statement(composer: Composer) -> Sentence:
    tense = composer.draw.one(composer.draw.one((NOW, THEN)))
    clause = composer.clause(tense, SIMPLE_KINDS, adverbials=True, front=True)
    return Sentence((clause,), partial(sentences.statement, clause))


def _question(composer: Composer) -> Sentence:
    """Draws a question that does not begin with a full verb in German.

    A capitalized verb form is a word of its own, and training rows would need many questions with every verb.
    """
    clause = composer.clause(composer.draw.one(ASKED), SIMPLE_KINDS, adverbials=True, inverted=True, beside=False)
    full_verb = clause.tense in PLAIN or (clause.verb is not None and clause.verb.auxiliary == "sein")
    question_word = sentences.WHY if full_verb or composer.draw.chance(0.2) else ("", "")
    return Sentence((clause,), partial(sentences.question, question_word, clause))


def _coordination(composer: Composer) -> Sentence:
    draw = composer.draw
    tenses = draw.one((NOW, THEN))
    first = composer.clause(draw.one(tenses))
    second = composer.clause(draw.one(tenses))
    conjunction = draw.one((sentences.AND, sentences.BUT))
    return Sentence((first, second), partial(sentences.coordinated, conjunction, first, second))


def _reason(composer: Composer) -> Sentence:
    draw = composer.draw
    tenses = draw.one((NOW, THEN))
    main = composer.clause(draw.one(tenses), adverbials=True)
    reason = composer.clause(draw.one(tenses), adverbials=True)
    return Sentence((main, reason), partial(sentences.subordinated, sentences.BECAUSE, main, reason))


def _state_as_reason(composer: Composer) -> Sentence:
    """Draws "The woman sold the chair because it was old": the pronoun has the gender of the noun it refers to."""
    draw = composer.draw
    tenses, tense = draw.one(((NOW, Tense.PRESENT), (THEN, Tense.PAST)))
    actor = composer.noun_phrase(_GENDERED, plural=False)
    kinds = draw.one((("moving", "opening"), ("symmetric", "intransitive")))
    main = composer.clause(draw.one(tenses), kinds, subject=actor, inverted=True, beside=False)
    target = main.target
    if isinstance(target, NounPhrase) and target.noun.kind == lex.THING:
        pronoun = lex.THEY if target.plural else lex.IT[target.noun.gender]
        predicate = composer.predicate(lex.THING_STATES, target)
    else:
        pronoun = lex.HE if actor.noun.gender == "m" else lex.SHE
        predicate = composer.predicate(lex.STATES, actor)
    reason = Clause(pronoun, tense, predicate=predicate)
    return Sentence((main, reason), partial(sentences.subordinated, sentences.BECAUSE, main, reason))


def _report(composer: Composer) -> Sentence:
    draw = composer.draw
    tense = draw.one(PLAIN)
    matrix = Clause(composer.subject(), tense, draw.one(lex.THAT_VERBS))
    adverbials = THEN if tense is Tense.PAST else draw.one((NOW, THEN))
    clause = composer.clause(draw.one(adverbials), adverbials=True)
    return Sentence((matrix, clause), partial(sentences.subordinated, sentences.THAT, matrix, clause))


def _when(composer: Composer) -> Sentence:
    draw = composer.draw
    event = composer.clause(Tense.PAST, beside=False)
    main = composer.clause(draw.one(THEN), inverted=True, beside=False)
    return Sentence((event, main), partial(sentences.fronted, sentences.WHEN, event, main))


def _if(composer: Composer) -> Sentence:
    condition = composer.clause(Tense.PRESENT)
    main = composer.clause(composer.draw.one(CONSEQUENCES), inverted=True)
    return Sentence((condition, main), partial(sentences.fronted, sentences.IF, condition, main))


def _relative_subject(composer: Composer) -> Sentence:
    draw = composer.draw
    tenses = draw.one((NOW, THEN))
    head = composer.noun_phrase(lex.ANIMATES)
    relative = _about(composer, head, draw.one(tenses))
    main = composer.clause(draw.one(tenses), subject=head, beside=False)
    return Sentence((main, relative), partial(sentences.with_relative_subject, main, relative))


def _relative_object(composer: Composer) -> Sentence:
    draw = composer.draw
    tense = draw.one(PLAIN)
    head = composer.noun_phrase(lex.ANIMATES)
    relative = _about(composer, head, draw.one(NOW if tense is Tense.PRESENT else THEN))
    verb = draw.one([verb for verb in lex.SYMMETRIC_VERBS if not verb.particle and verb != relative.verb])
    main = Clause(composer.subject(), tense, verb, target=head)
    return Sentence((main, relative), partial(sentences.with_relative_object, main, relative))


def _about(composer: Composer, head: NounPhrase, tense: Tense) -> Clause:
    """Draws a clause in which `head` is the subject or the object."""
    clause = composer.clause(tense, ("symmetric",), subject=head, inverted=True)
    if clause.target is None or composer.draw.chance(0.5):
        return clause
    return clause._replace(subject=clause.target, target=head)


_SENTENCES = weighted(
    (_statement, 8), (_question, 2), (_coordination, 2), (_reason, 2), (_state_as_reason, 1), (_report, 3),
    (_when, 2), (_if, 2), (_relative_subject, 3), (_relative_object, 1),
)  # fmt: skip
