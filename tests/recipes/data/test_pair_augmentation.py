"""Hidden words and reversed pairs: what is changed, how often, and that nothing else is."""

from types import SimpleNamespace

import numpy as np
import pytest

from vanilla_recipes.data.collators import PackedTranslationCollator, TranslationCollator, encode_pairs
from vanilla_recipes.data.pair_augmentation import PairAugmentationConfig, PairAugmenter
from vanilla_recipes.data.pairs import Pair
from vanilla_recipes.data.tokenizers import train_translation_tokenizer
from vanilla_recipes.errors import UserError

PAIR = Pair("An unbelievable dog, a cat.", "Ein unglaublicher Hund, eine Katze.")


@pytest.fixture(scope="module")
def tokenizer():
    return train_translation_tokenizer(["A dog sees a cat.", "Ein Hund sieht eine Katze."], 320, 64)


@pytest.fixture(scope="module")
def row(tokenizer):
    return encode_pairs([PAIR], tokenizer, 64, 64)[0]


def augmenter(tokenizer, limit: int = 64, **settings) -> PairAugmenter:
    return PairAugmenter(PairAugmentationConfig(**settings), tokenizer, tokenizer.bos_token_id, limit, limit)


def changed(tokenizer, row, seed: int = 0, limit: int = 64, **settings):
    return augmenter(tokenizer, limit, **settings)(row, np.random.default_rng(seed))


def word_parts(tokenizer, ids: list[int]) -> list[list[int]]:
    """The tokens of each word, the end of the sentence left out."""
    parts: list[list[int]] = []
    for token_id, token in zip(ids[:-1], tokenizer.convert_ids_to_tokens(ids[:-1]), strict=True):
        if token.startswith("\u2581"):
            parts.append([])
        parts[-1].append(token_id)
    return parts


def test_source_words_are_hidden_whole(tokenizer, row):
    unknown = tokenizer.unk_token_id
    words = word_parts(tokenizer, row["input_ids"])
    assert len(words) == 5
    assert max(map(len, words)) > 2
    found = set()
    for seed in range(300):
        ids = changed(tokenizer, row, seed, word_dropout=0.3)["input_ids"]
        assert ids[-1] == tokenizer.eos_token_id
        place, pattern = 0, []
        for word in words:
            now = ids[place : place + len(word)]
            assert now in (word, [unknown] * len(word))
            pattern.append(now != word)
            place += len(word)
        assert place == len(ids) - 1
        found.add(tuple(pattern))
    assert len(found) > 15


def test_rates_are_those_of_the_settings(tokenizer, row):
    shares = {"source": [], "seen": [], "reversed": []}
    num_words = len(word_parts(tokenizer, row["input_ids"]))
    for seed in range(2000):
        pair = changed(tokenizer, row, seed, word_dropout=0.2, target_word_dropout=0.1)
        hidden = word_parts_hidden(tokenizer, row["input_ids"], pair["input_ids"])
        shares["source"].append(hidden / num_words)
        shares["seen"].append(word_parts_hidden(tokenizer, row["labels"], pair["decoder_input_ids"][1:]) / 5)
        shares["reversed"].append(changed(tokenizer, row, seed, reversal=0.25)["labels"] == row["input_ids"])
    assert np.mean(shares["source"]) == pytest.approx(0.2, abs=0.02)
    assert np.mean(shares["seen"]) == pytest.approx(0.1, abs=0.02)
    assert np.mean(shares["reversed"]) == pytest.approx(0.25, abs=0.04)


def word_parts_hidden(tokenizer, before: list[int], after: list[int]) -> int:
    parts, place, count = word_parts(tokenizer, before), 0, 0
    for word in parts:
        count += after[place : place + 1] == [tokenizer.unk_token_id]
        place += len(word)
    return count


def test_the_decoder_sees_less_but_predicts_everything(tokenizer, row):
    pair = changed(tokenizer, row, 1, target_word_dropout=0.9)
    assert pair["labels"] == row["labels"]
    assert pair["input_ids"] == row["input_ids"]
    seen = pair["decoder_input_ids"]
    assert seen[0] == tokenizer.bos_token_id
    assert len(seen) == len(row["labels"])
    assert tokenizer.unk_token_id in seen
    kept = [(now, before) for now, before in zip(seen[1:], row["labels"], strict=False) if now != 1]
    assert all(now == before for now, before in kept)


def test_a_reversed_pair_is_marked_on_its_source(tokenizer, row):
    pair = next(
        pair for seed in range(99) if (pair := changed(tokenizer, row, seed, reversal=0.5))["labels"] != row["labels"]
    )
    assert pair == {"input_ids": [tokenizer.bos_token_id, *row["labels"]], "labels": row["input_ids"]}
    assert tokenizer.bos_token_id not in row["input_ids"]


def test_reversed_pairs_keep_to_the_limits(tokenizer, row):
    pair = next(
        pair for seed in range(99) if (pair := changed(tokenizer, row, seed, 8, reversal=0.5))["input_ids"][0] == 2
    )
    assert pair["input_ids"] == [2, *row["labels"][:6], tokenizer.eos_token_id]
    assert pair["labels"] == [*row["input_ids"][:7], tokenizer.eos_token_id]


def test_the_row_itself_stays(tokenizer, row):
    before = {name: list(ids) for name, ids in row.items()}
    for seed in range(50):
        changed(tokenizer, row, seed, word_dropout=0.5, target_word_dropout=0.5, reversal=0.5)
    assert row == before


def test_the_same_generator_gives_the_same_pair(tokenizer, row):
    settings = {"word_dropout": 0.3, "target_word_dropout": 0.3, "reversal": 0.3}
    assert changed(tokenizer, row, 7, **settings) == changed(tokenizer, row, 7, **settings)
    assert any(changed(tokenizer, row, 7, **settings) != changed(tokenizer, row, seed, **settings) for seed in range(9))


def test_batches_hold_what_the_decoder_sees(tokenizer, row):
    pair = changed(tokenizer, row, 1, target_word_dropout=0.9)
    short = {"input_ids": [5, 3], "labels": [6, 3], "decoder_input_ids": [2, 1]}
    padded = TranslationCollator(0)([pair, short])
    assert padded["decoder_input_ids"].tolist() == [
        pair["decoder_input_ids"],
        [2, 1] + [0] * (len(pair["labels"]) - 2),
    ]
    assert "decoder_input_ids" not in TranslationCollator(0)([row])
    packed = PackedTranslationCollator(0, 2, None)([pair, short])
    line = packed["decoder_input_ids"][0].tolist()
    places = packed["labels"][0].tolist()
    assert line[places.index(6)] == 2
    assert line[places.index(6) + 1] == 1
    start = places.index(row["labels"][0])
    assert line[start : start + len(pair["labels"])] == pair["decoder_input_ids"]


def test_off_by_default():
    assert not PairAugmentationConfig().is_on
    assert PairAugmentationConfig(reversal=0.1).is_on


@pytest.mark.parametrize("name", ["word_dropout", "target_word_dropout", "reversal"])
@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_refuses_what_is_no_probability(name, value):
    problems = dict(PairAugmentationConfig(**{name: value}).problems())
    assert problems == {name: "must be at least 0 and less than 1"}


class Tokenizer(SimpleNamespace):
    """One that lacks a special token, or begins its texts with one."""

    def __call__(self, text):
        return {"input_ids": self.begins}

    def get_vocab(self):
        return {"a": 4}


@pytest.mark.parametrize(
    ("settings", "tokens", "message"),
    [
        ({"word_dropout": 0.1}, (None, 2, [4]), r"augmentation\.word_dropout: the tokenizer has no unknown token to"),
        ({"target_word_dropout": 0.1}, (None, 2, [4]), r"augmentation\.target_word_dropout: the tokenizer has no unk"),
        ({"reversal": 0.1}, (1, None, [4]), r"augmentation\.reversal: the tokenizer has no start token, or adds it"),
        ({"reversal": 0.1}, (1, 2, [2, 4]), r"augmentation\.reversal: .* cannot mark a reversed pair; set it to"),
    ],
)
def test_refuses_a_tokenizer_without_the_tokens(settings, tokens, message):
    unknown, start, begins = tokens
    fake = Tokenizer(unk_token_id=unknown, bos_token_id=start, begins=begins, all_special_ids=[])
    with pytest.raises(UserError, match=message):
        PairAugmenter(PairAugmentationConfig(**settings), fake, 2, 64, 64)
