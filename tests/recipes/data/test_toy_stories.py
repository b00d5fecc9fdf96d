"""The built-in stories: short, whole, and consistent in names and pronouns."""

import re

import pytest

from vanilla_recipes.data.toy import toy_rows
from vanilla_recipes.data.toy.stories import _HELPER_NAMES, _PEOPLE, _TROUBLES

NAMES = {name: pronouns for pronouns, names in _PEOPLE for name in names}


@pytest.fixture(scope="module")
def train() -> list[str]:
    return [row["text"] for row in toy_rows("stories", "train", 20_000)]


@pytest.fixture(scope="module")
def test() -> list[str]:
    return [row["text"] for row in toy_rows("stories", "test", 1_000)]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def test_stories_have_4_to_8_sentences_and_40_to_90_words(train):
    for text in train:
        assert 4 <= len(re.findall(r"[.!?]", text)) <= 8, text
        assert 40 <= len(text.split()) <= 90, text
        assert not re.search(r"[{}]|  |\ba [aeiou]", text), text
        assert text[0].isupper()
        assert text[-1] == "."


def test_a_story_keeps_its_hero_pronouns_and_helper(train):
    for text in train[:3_000]:
        heroes = set(words(text)) & set(NAMES)
        helpers = set(words(text)) & set(_HELPER_NAMES)
        assert len(heroes) == len(helpers) == 1, text
        wrong = {"he", "him", "his"} if NAMES[heroes.pop()][0] == "she" else {"she"}
        assert not wrong & set(words(text.lower())), text
        assert text.count(helpers.pop()) >= 2


def test_what_is_lost_is_found_again(train):
    losses = "|".join(re.escape(trouble.loss) for trouble in _TROUBLES)
    found = 0
    for text in train[:3_000]:
        match = re.search(rf"(?:had a|treasure was a) \w+ ([a-z ]+?)(?: that \w+ loved)?\. .*(?:{losses})", text)
        if match:
            found += 1
            assert match[1] in text.rsplit(". ", 1)[1], text
    assert found > 500


def test_splits_are_disjoint_and_words_of_held_out_rows_known(train, test):
    assert len(set(train)) == len(train)
    assert set(train).isdisjoint(test)
    assert {w for text in test for w in words(text)} <= {w for text in train for w in words(text)}


def test_rows_depend_on_the_seed_alone(train):
    assert [row["text"] for row in toy_rows("stories", "train", 20)] == train[:20]
    assert [row["text"] for row in toy_rows("stories", "train", 20, seed=1)] != train[:20]
