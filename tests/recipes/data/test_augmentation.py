"""Swapped, deleted and hidden words; encoding and batches of labelled rows."""

import logging

import numpy as np
import pytest
import torch

from vanilla_recipes.data.augmentation import AugmentationConfig, AugmentedRows, Augmenter
from vanilla_recipes.data.labelled import LabelledRow
from vanilla_recipes.data.labelled_features import collate, encode_rows
from vanilla_recipes.data.tokenizers import train_encoder_tokenizer

TEXTS = ["the unwatchable film", "a surprisingly watchable masterpiece of a film", "fine", "the film the the film"]
LONG = " ".join(f"word{number}" for number in range(40))


@pytest.fixture(scope="module")
def tokenizer():
    return train_encoder_tokenizer([*TEXTS, LONG], 90, 256)


def rows(*texts: str, pair: str | None = None) -> list[LabelledRow]:
    return [LabelledRow("here", text, pair, 0) for text in texts]


def encoded(tokenizer, text: str, pair: str | None = None):
    return encode_rows(rows(text, pair=pair), tokenizer, 256, with_words=True)[0]


def augmented(tokenizer, text: str, seed: int = 0, pair: str | None = None, **settings) -> str:
    tokens = encoded(tokenizer, text, pair)
    generator = np.random.default_rng(seed)
    changed = Augmenter(AugmentationConfig(**settings), tokenizer, 256)(tokens, generator)
    assert len(changed.input_ids) == len(changed.words)
    return tokenizer.decode(changed.input_ids)


def words(text: str) -> list[str]:
    return text.removeprefix("[CLS] ").removesuffix(" [SEP]").split()


def test_encoding_is_the_tokenizers(tokenizer):
    for text in TEXTS:
        tokens = encoded(tokenizer, text)
        assert tokens.input_ids.tolist() == tokenizer(text)["input_ids"]
        assert tokens.token_type_ids is None
    pair = encoded(tokenizer, TEXTS[0], TEXTS[1])
    expected = tokenizer(TEXTS[0], TEXTS[1])
    assert (pair.input_ids.tolist(), pair.token_type_ids.tolist()) == (
        expected["input_ids"],
        expected["token_type_ids"],
    )


def test_long_rows_are_cut_and_counted(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        tokens = encode_rows(rows("fine", LONG), tokenizer, 12, with_words=False)
    assert [len(row.input_ids) for row in tokens][1] == 12
    assert tokens[1].input_ids[-1] == tokenizer.sep_token_id
    assert caplog.messages == ["truncated 1 of 2 texts to tokenizer.max_length=12 tokens"]


def test_a_batch_is_padded_to_its_longest_row(tokenizer):
    tokens = encode_rows(rows(*TEXTS[:3]), tokenizer, 64, with_words=False)
    batch = collate(tokens, [1, 0, 1], tokenizer.pad_token_id)
    expected = tokenizer(TEXTS[:3], padding=True, return_tensors="pt")
    assert batch.keys() == {"input_ids", "attention_mask", "labels"}
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["attention_mask"], expected["attention_mask"])
    assert batch["labels"].tolist() == [1, 0, 1]


def test_token_types_are_for_pairs(tokenizer):
    tokens = encode_rows(rows(*TEXTS, pair="fine film"), tokenizer, 64, with_words=False)
    batch = collate(tokens, [0] * 4, tokenizer.pad_token_id)
    expected = tokenizer(TEXTS, ["fine film"] * 4, padding=True, return_tensors="pt")
    assert torch.equal(batch["token_type_ids"], expected["token_type_ids"])


def test_swapping_keeps_the_words_whole(tokenizer):
    text = TEXTS[1]
    changed = augmented(tokenizer, text, swap=0.1)
    assert words(changed) != text.split()
    assert sorted(words(changed)) == sorted(text.split())
    moved = sum(a != b for a, b in zip(words(changed), text.split(), strict=True))
    assert moved == 2  # one pair at least, of seven words
    assert changed.startswith("[CLS] ")
    assert changed.endswith(" [SEP]")


def test_swapping_stays_within_a_text(tokenizer):
    for seed in range(10):
        first, second = augmented(tokenizer, TEXTS[1], seed, pair=LONG, swap=0.5)[6:-6].split(" [SEP] ")
        assert sorted(first.split()) == sorted(TEXTS[1].split())
        assert sorted(second.split()) == sorted(LONG.split())


def test_deletion_leaves_out_whole_words_in_their_order(tokenizer):
    shares = []
    for seed in range(100):
        left = words(augmented(tokenizer, LONG, seed, deletion=0.25))
        assert [word for word in LONG.split() if word in left] == left
        shares.append(len(left) / 40)
    assert 0.73 < np.mean(shares) < 0.77  # four standard deviations of 4,000 words


def test_one_word_always_stays(tokenizer):
    for seed in range(20):
        first, second = augmented(tokenizer, "fine film", seed, pair="film", deletion=0.99)[6:-6].split(" [SEP] ")
        assert len(first.split()) >= 1
        assert second == "film"


def test_word_dropout_hides_every_piece_of_a_word(tokenizer):
    tokens, shares = encoded(tokenizer, LONG), []
    for seed in range(100):
        generator = np.random.default_rng(seed)
        changed = Augmenter(AugmentationConfig(word_dropout=0.25), tokenizer, 256)(tokens, generator)
        is_hidden = changed.input_ids == tokenizer.mask_token_id
        by_word = {word: set(is_hidden[tokens.words == word].tolist()) for word in range(40)}
        assert all(len(values) == 1 for values in by_word.values())
        assert not is_hidden[[0, -1]].any()
        assert (changed.input_ids[~is_hidden] == tokens.input_ids[~is_hidden]).all()
        shares.append(np.mean([True in values for values in by_word.values()]))
    assert 0.22 < np.mean(shares) < 0.28


def test_what_is_off_changes_nothing(tokenizer):
    assert not AugmentationConfig().is_on
    assert augmented(tokenizer, TEXTS[1]) == f"[CLS] {TEXTS[1]} [SEP]"


def test_the_same_source_of_chance_gives_the_same_row(tokenizer):
    settings = {"swap": 0.2, "deletion": 0.2, "word_dropout": 0.2}
    assert augmented(tokenizer, LONG, 1, **settings) == augmented(tokenizer, LONG, 1, **settings)
    assert augmented(tokenizer, LONG, 1, **settings) != augmented(tokenizer, LONG, 2, **settings)


def test_config_names_its_problems():
    settings = {"swap": -0.1, "deletion": 1.0, "word_dropout": float("nan"), "subword_dropout": 2.0}
    problems = dict(AugmentationConfig(**settings).problems())
    assert problems == dict.fromkeys(settings, "must be at least 0 and less than 1")


def test_rows_of_an_epoch_are_the_same_kept_or_not(tokenizer):
    settings = AugmentationConfig(deletion=0.2, word_dropout=0.2, subword_dropout=0.3)
    tokens = encode_rows(rows(*TEXTS, LONG), tokenizer, 256, with_words=True)
    kept, made = (AugmentedRows(tokens, Augmenter(settings, tokenizer, 256), seed=3) for _ in range(2))
    found = {}
    for epoch in (0, 1, 0):
        lengths = kept.lengths(epoch).tolist()
        found[epoch] = [made.row(number, epoch).input_ids.tolist() for number in range(5)]
        assert [kept.row(number, epoch).input_ids.tolist() for number in range(5)] == found[epoch]
        assert lengths == [len(row) for row in found[epoch]]
        assert kept.row(4, 1 - epoch).input_ids.tolist() == made.row(4, 1 - epoch).input_ids.tolist()
    assert found[0] != found[1]
