"""Pairs to token ids, token ids to batches."""

import logging

import pytest
import torch

from vanilla_recipes.data.collators import TranslationCollator, encode_pairs
from vanilla_recipes.data.pairs import Pair
from vanilla_recipes.data.tokenizers import train_translation_tokenizer

PAIRS = [Pair("The old man saw the dog.", "Der alte Mann sah den Hund."), Pair("A dog.", "Ein Hund."), Pair("", "x")]


@pytest.fixture(scope="module")
def tokenizer():
    return train_translation_tokenizer([text for pair in PAIRS for text in pair] * 3, 350, 64)


def test_pairs_become_ids_in_order(tokenizer, caplog):
    features = encode_pairs(PAIRS, tokenizer, 64, 64)
    assert [set(feature) for feature in features] == [{"input_ids", "labels"}] * 3
    for pair, feature in zip(PAIRS, features, strict=True):
        assert tokenizer.decode(feature["input_ids"]) == pair.source + "</s>"
        assert tokenizer.decode(feature["labels"]) == pair.target + "</s>"
    assert not caplog.records


def test_many_pairs_keep_their_order(tokenizer):
    pairs = [Pair(f"dog {number}", f"Hund {number}") for number in range(2500)]
    features = encode_pairs(pairs, tokenizer, 64, 64)
    assert tokenizer.batch_decode([row["labels"] for row in features], skip_special_tokens=True) == [
        pair.target for pair in pairs
    ]


def test_long_sides_are_cut_before_the_end_token_and_counted(tokenizer, caplog):
    whole = encode_pairs(PAIRS, tokenizer, 64, 64)
    length = len(whole[0]["input_ids"])
    with caplog.at_level(logging.WARNING):
        features = encode_pairs(PAIRS, tokenizer, length, 3)
    assert features[0]["input_ids"] == whole[0]["input_ids"]
    assert features[0]["labels"] == [*whole[0]["labels"][:2], tokenizer.eos_token_id]
    num_long = sum(len(feature["labels"]) > 3 for feature in whole)
    assert [record.getMessage() for record in caplog.records] == [
        f"truncated 0 sources to tokenizer.max_source_length={length} tokens and {num_long} targets to "
        "tokenizer.max_target_length=3, of 3 pairs"
    ]


def test_no_pairs(tokenizer):
    assert encode_pairs([], tokenizer, 8, 8) == []


def test_a_batch_by_hand():
    batch = TranslationCollator(pad_token_id=0)(
        [{"input_ids": [5, 6, 3], "labels": [7, 3]}, {"input_ids": [5, 3], "labels": [8, 9, 0, 3]}]
    )
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 3], [5, 3, 0]],
        "attention_mask": [[1, 1, 1], [1, 1, 0]],
        "labels": [[7, 3, -100, -100], [8, 9, 0, 3]],
    }
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_the_mask_follows_lengths_not_ids():
    batch = TranslationCollator(pad_token_id=5)([{"input_ids": [5, 5], "labels": [3]}])
    assert batch["attention_mask"].tolist() == [[1, 1]]


def test_widths_are_rounded_up():
    collate = TranslationCollator(pad_token_id=0, pad_to_multiple_of=8)
    batch = collate([{"input_ids": [4] * 9, "labels": [4] * 8}, {"input_ids": [4], "labels": [4]}])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 16)
    assert batch["labels"].shape == (2, 8)
    assert batch["attention_mask"].sum(1).tolist() == [9, 1]
