"""The built-in English-German corpus: its German, its splits, and that word order matters in it."""

import re
import time
from collections import Counter

import pytest

from vanilla_recipes.data.toy import german, role_swapped_pairs, sentences, toy_rows
from vanilla_recipes.data.toy import lexicon as lex
from vanilla_recipes.data.toy.clauses import Clause, NounPhrase, Tense
from vanilla_recipes.data.toy.composer import Composer
from vanilla_recipes.data.toy.draw import Draw
from vanilla_recipes.data.toy.translation import _SENTENCES, _combinations, _split_of

NOUNS = {noun.english: noun for noun in (*lex.ANIMATES, *lex.OPENABLES, *lex.MOVABLES)}
ADJECTIVES = {adjective.english: adjective for adjective in lex.ADJECTIVES}
VERBS = {
    " ".join(filter(None, (verb.base, verb.tail))): verb
    for verb in (
        *lex.SYMMETRIC_VERBS,
        *lex.OPENING_VERBS,
        *lex.MOVING_VERBS,
        *lex.GIVING_VERBS,
        *lex.INTRANSITIVE_VERBS,
        *lex.THAT_VERBS,
    )
}
GESTERN = lex.PAST_TIMES[0]


def phrase(text: str) -> NounPhrase:
    """ "the old dog" as a noun phrase; a plural is marked by "+": "the old dog+"; "-" stands for no determiner."""
    determiner, *adjectives, noun = text.split()
    plural = noun.endswith("+")
    chosen = tuple(ADJECTIVES[adjective] for adjective in adjectives)
    return NounPhrase(NOUNS[noun.removesuffix("+")], determiner.strip("-"), chosen, None, plural)


@pytest.fixture(scope="module")
def train() -> list[tuple[str, str]]:
    return pairs_of("train", 20_000)


@pytest.fixture(scope="module")
def held_out() -> dict[str, list[tuple[str, str]]]:
    return {split: pairs_of(split, 2_000, seed=1) for split in ("validation", "test")}


def pairs_of(split: str, num_rows: int, seed: int = 0) -> list[tuple[str, str]]:
    return [
        (row["translation"]["en"], row["translation"]["de"]) for row in toy_rows("translation", split, num_rows, seed)
    ]


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


@pytest.mark.parametrize(
    ("text", "nominative", "accusative", "dative"),
    [
        ("the old dog", "der alte Hund", "den alten Hund", "dem alten Hund"),
        ("the old cat", "die alte Katze", "die alte Katze", "der alten Katze"),
        ("the old horse", "das alte Pferd", "das alte Pferd", "dem alten Pferd"),
        ("the old dog+", "die alten Hunde", "die alten Hunde", "den alten Hunden"),
        ("this big man", "dieser große Mann", "diesen großen Mann", "diesem großen Mann"),
        ("this big woman", "diese große Frau", "diese große Frau", "dieser großen Frau"),
        ("this big child", "dieses große Kind", "dieses große Kind", "diesem großen Kind"),
        ("this big child+", "diese großen Kinder", "diese großen Kinder", "diesen großen Kindern"),
        ("a tired dog", "ein müder Hund", "einen müden Hund", "einem müden Hund"),
        ("a tired cow", "eine müde Kuh", "eine müde Kuh", "einer müden Kuh"),
        ("a tired girl", "ein müdes Mädchen", "ein müdes Mädchen", "einem müden Mädchen"),
        ("my white bird", "mein weißer Vogel", "meinen weißen Vogel", "meinem weißen Vogel"),
        ("my white bird+", "meine weißen Vögel", "meine weißen Vögel", "meinen weißen Vögeln"),
        ("- young girl+", "junge Mädchen", "junge Mädchen", "jungen Mädchen"),
        ("two clever mouse+", "zwei kluge Mäuse", "zwei kluge Mäuse", "zwei klugen Mäusen"),
        ("three guest+", "drei Gäste", "drei Gäste", "drei Gästen"),
        ("the bear", "der Bär", "den Bären", "dem Bären"),
        ("a sad boy", "ein trauriger Junge", "einen traurigen Jungen", "einem traurigen Jungen"),
        ("the farmer+", "die Bauern", "die Bauern", "den Bauern"),
    ],
)
def test_noun_phrases_agree_in_case_gender_and_number(text, nominative, accusative, dative):
    given = phrase(text)
    assert [german.noun_phrase(given, case) for case in ("nom", "acc", "dat")] == [nominative, accusative, dative]


@pytest.mark.parametrize(
    ("text", "nominative", "accusative", "dative"),
    [
        ("a red hat", "kein roter Hut", "keinen roten Hut", "keinem roten Hut"),
        ("a red lamp", "keine rote Lampe", "keine rote Lampe", "keiner roten Lampe"),
        ("a red book", "kein rotes Buch", "kein rotes Buch", "keinem roten Buch"),
        ("- old dog+", "keine alten Hunde", "keine alten Hunde", "keinen alten Hunden"),
    ],
)
def test_kein_takes_mixed_endings(text, nominative, accusative, dative):
    given = phrase(text)
    assert [german.noun_phrase(given, case, True) for case in ("nom", "acc", "dat")] == [nominative, accusative, dative]


def test_compounds_are_one_word():
    given = phrase("the green door")._replace(modifier=("garden", "Garten"))
    assert sentences.statement(Clause(phrase("a woman"), Tense.PAST, VERBS["open"], target=given)) == (
        "A woman opened the green garden door.",
        "Eine Frau machte die grüne Gartentür auf.",
    )


def clause(subject: str, verb: str, target: str | None, tense: Tense, **options) -> Clause:
    return Clause(phrase(subject), tense, VERBS[verb], target=phrase(target) if target else None, **options)


@pytest.mark.parametrize(
    ("given", "english", "german_text"),
    [
        (
            clause("the old man", "see", "the dog", Tense.PAST, front=GESTERN),
            "Yesterday the old man saw the dog.",
            "Gestern sah der alte Mann den Hund.",
        ),
        (
            clause("the woman", "open", "the door", Tense.PRESENT, negated=True),
            "The woman does not open the door.",
            "Die Frau macht die Tür nicht auf.",
        ),
        (
            clause("the child", "help", "a bear", Tense.WANTED, negated=True),
            "The child did not want to help a bear.",
            "Das Kind wollte keinem Bären helfen.",
        ),
        (
            clause("the boy", "follow", "the goat+", Tense.PERFECT),
            "The boy has followed the goats.",
            "Der Junge ist den Ziegen gefolgt.",
        ),
        (
            clause("the king", "bite", "the queen", Tense.MUST, negated=True),
            "The king must not bite the queen.",
            "Der König darf die Königin nicht beißen.",
        ),
        (
            clause("the duck+", "wake up", "this pig", Tense.PERFECT, frequency=lex.ALREADY),
            "The ducks have already woken up this pig.",
            "Die Enten haben dieses Schwein schon aufgeweckt.",
        ),
        (
            clause("my aunt", "give", "the key", Tense.PAST, recipient=phrase("the child+"), time=GESTERN),
            "My aunt gave the children the key yesterday.",
            "Meine Tante gab gestern den Kindern den Schlüssel.",
        ),
        (
            clause("a cow", "look for", "a horse", Tense.CAN, place=lex.PLACES[0], time=lex.TODAY),
            "A cow can look for a horse in the garden today.",
            "Eine Kuh kann heute ein Pferd im Garten suchen.",
        ),
    ],
)
def test_main_clauses_hold_the_finite_verb_second(given, english, german_text):
    assert sentences.statement(given) == (english, german_text)


def test_subordinate_clauses_hold_the_finite_verb_last():
    main = clause("the man", "laugh", None, Tense.PAST)
    opens = clause("the woman", "open", "the window", Tense.PRESENT)
    calls = clause("the dog", "wake up", "the cat", Tense.PAST)
    assert sentences.subordinated(sentences.THAT, clause("the man", "know", None, Tense.PRESENT), opens) == (
        "The man knows that the woman opens the window.",
        "Der Mann weiß, dass die Frau das Fenster aufmacht.",
    )
    assert sentences.subordinated(sentences.BECAUSE, main, calls._replace(tense=Tense.PERFECT)) == (
        "The man laughed because the dog has woken up the cat.",
        "Der Mann lachte, weil der Hund die Katze aufgeweckt hat.",
    )
    assert sentences.fronted(sentences.WHEN, calls, main) == (
        "When the dog woke up the cat, the man laughed.",
        "Als der Hund die Katze aufweckte, lachte der Mann.",
    )


def test_relative_pronouns_take_gender_from_the_noun_and_case_from_the_verb():
    head = phrase("the old woman")
    main = Clause(head, Tense.PRESENT, VERBS["sleep"])
    helped = Clause(phrase("the boy"), Tense.PRESENT, VERBS["help"], target=head)
    helping = Clause(head, Tense.PRESENT, VERBS["help"], target=phrase("the boy"))
    assert sentences.with_relative_subject(main, helped) == (
        "The old woman whom the boy helps sleeps.",
        "Die alte Frau, der der Junge hilft, schläft.",
    )
    assert sentences.with_relative_subject(main, helping) == (
        "The old woman who helps the boy sleeps.",
        "Die alte Frau, die dem Jungen hilft, schläft.",
    )


def test_it_takes_the_gender_of_what_it_stands_for():
    main = clause("the woman", "buy", "the table", Tense.PAST)
    reason = Clause(lex.IT["m"], Tense.PAST, predicate=ADJECTIVES["old"])
    assert sentences.subordinated(sentences.BECAUSE, main, reason) == (
        "The woman bought the table because it was old.",
        "Die Frau kaufte den Tisch, weil er alt war.",
    )


def test_questions_begin_with_the_verb():
    given = clause("the dog", "see", "a cat", Tense.FUTURE)
    assert sentences.question(("", ""), given) == ("Will the dog see a cat?", "Wird der Hund eine Katze sehen?")
    given = clause("the dog", "bring back", "the ball", Tense.PAST)
    assert sentences.question(sentences.WHY, given) == (
        "Why did the dog bring back the ball?",
        "Warum brachte der Hund den Ball zurück?",
    )


def test_an_english_word_has_one_entry():
    forms = Counter(form for noun in NOUNS.values() for form in {noun.english, noun.english_plural})
    forms.update([*ADJECTIVES, *VERBS])
    assert [form for form, count in forms.items() if count > 1] == []


def test_a_sentence_has_one_translation_and_is_well_formed(train):
    assert len({english for english, _ in train}) == len(train) == 20_000
    for english, translation in train:
        assert english[0].isupper()
        assert translation[0].isupper()
        assert english[-1] == translation[-1]
        assert english[-1] in ".?"
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  | ,", english + "\n" + translation), english


def test_two_translations_of_one_sentence_never_occur():
    seen: dict[str, str] = {}
    for seed in range(2, 5):
        for split in ("train", "test"):
            for english, translation in pairs_of(split, 2_000, seed):
                assert seen.setdefault(english, translation) == translation


def test_sentences_are_long_enough_to_be_ambiguous_without_order(train):
    lengths = sorted(len(english.split()) for english, _ in train)
    assert lengths[len(lengths) // 10] >= 6
    assert lengths[len(lengths) * 9 // 10] <= 16


def test_splits_share_no_row_whatever_the_seed(train, held_out):
    sources = [{english for english, _ in rows} for rows in (train, *held_out.values())]
    assert sum(map(len, sources)) == len(set().union(*sources))
    assert set(pairs_of("train", 3_000, seed=9)).isdisjoint(pairs_of("test", 1_000, seed=3))


def test_held_out_rows_use_only_word_forms_that_training_rows_use(train, held_out):
    for side in (0, 1):
        known = {word for pair in train for word in words(pair[side])}
        met = {word for rows in held_out.values() for pair in rows for word in words(pair[side])}
        assert met <= known


def test_held_out_rows_hold_a_combination_that_no_training_row_holds():
    draw = Draw("any", 0)
    combinations: dict[str, list[set]] = {"train": [], "validation": [], "test": []}
    for _ in range(4_000):
        clauses = draw.one(_SENTENCES)(Composer(draw)).clauses
        combinations[_split_of(clauses)].append({key for part in clauses for key in _combinations(part)})
    trained = set().union(*combinations["train"])
    for split in ("validation", "test"):
        assert len(combinations[split]) > 400
        assert all(keys - trained for keys in combinations[split])


def test_both_orders_of_a_pair_are_equally_likely():
    draw = Draw("any", 1)
    orders = Counter()
    for _ in range(4_000):
        made = Composer(draw).clause(Tense.PAST, ("symmetric",), beside=False)
        if isinstance(made.subject, NounPhrase) and isinstance(made.target, NounPhrase):
            orders[made.subject.noun.english < made.target.noun.english] += 1
    assert 0.47 < orders[True] / sum(orders.values()) < 0.53


def test_role_swapped_pairs_have_one_bag_of_english_words_and_two_translations(train):
    pairs = [[row["translation"] for row in pair] for pair in role_swapped_pairs(500)]
    trained = {english for english, _ in train}
    for one, other in pairs:
        assert sorted(words(one["en"])) == sorted(words(other["en"]))
        assert one["en"] != other["en"]
        assert one["de"] != other["de"]
        assert not {one["en"], other["en"]} & trained
    assert len({frozenset((one["en"], other["en"])) for one, other in pairs}) == 500


def test_more_rows_begin_with_the_same_rows():
    assert toy_rows("translation", "test", 50) == toy_rows("translation", "test", 100)[:50]
    assert toy_rows("translation", "test", 50, seed=1) != toy_rows("translation", "test", 50)


def test_rows_are_made_quickly():
    started = time.process_time()
    toy_rows("translation", "train", 10_000, seed=11)
    assert time.process_time() - started < 3
