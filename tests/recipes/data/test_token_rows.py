"""Plain text as rows of an encoder: every token once, in order, between [CLS] and [SEP]."""

import logging

import numpy as np
import pytest

from vanilla_recipes.data.text import TextDataConfig
from vanilla_recipes.data.token_rows import encode_texts
from vanilla_recipes.data.tokenizers import train_encoder_tokenizer
from vanilla_recipes.errors import UserError

TEXTS = ["the cat sat on the mat", "a dog", "dogs sat , cats sat ; the mat sat", "the end"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_encoder_tokenizer(TEXTS, 60, max_length=8)


def config(**settings) -> TextDataConfig:
    return TextDataConfig(**{"layout": "blocks", "block_size": 8, **settings})


def plain_ids(tokenizer, texts=TEXTS) -> list[list[int]]:
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


@pytest.mark.parametrize("rows_are", ["documents", "pieces"])
@pytest.mark.parametrize("block_size", [3, 8, 11, 1000])
def test_blocks_hold_every_token_once(tokenizer, rows_are, block_size):
    rows = encode_texts(iter(TEXTS), tokenizer, config(rows_are=rows_are, block_size=block_size))
    between = [tokenizer.sep_token_id] if rows_are == "documents" else []
    expected = [token for ids in plain_ids(tokenizer) for token in [*ids, *between]]
    expected = expected[:-1] if between else expected
    found = [row.tolist() for row in rows]
    assert [token for row in found for token in row[1:-1]] == expected
    assert all((row[0], row[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id) for row in found)
    assert rows.lengths.tolist() == [len(row) for row in found]
    assert all(len(row) == block_size for row in found[:-1])
    assert 2 < len(found[-1]) <= block_size


def test_documents_are_rows(tokenizer):
    rows = encode_texts(TEXTS, tokenizer, config(layout="documents", block_size=100))
    assert [row.tolist() for row in rows] == [tokenizer(text)["input_ids"] for text in TEXTS]
    assert rows.lengths.tolist() == [len(row) for row in rows]


def test_long_documents_are_cut_and_counted(tokenizer, caplog):
    rows = encode_texts(TEXTS, tokenizer, config(layout="documents", block_size=6))
    assert [row.tolist() for row in rows] == [
        tokenizer(text, truncation=True, max_length=6)["input_ids"] for text in TEXTS
    ]
    num_long = sum(len(ids) > 4 for ids in plain_ids(tokenizer))
    assert 0 < num_long < len(TEXTS)
    assert f"truncated {num_long} of 12 texts to data.block_size=6 tokens" in caplog.text


def test_a_document_without_tokens_is_left_out_and_counted(tokenizer, caplog):
    texts = ["the cat", "\x00\x01", "a dog"]
    rows = encode_texts(texts, tokenizer, config(layout="documents"))
    assert [row.tolist() for row in rows] == [tokenizer(text)["input_ids"] for text in ("the cat", "a dog")]
    assert "left out 1 of 3 texts, which have no tokens" in caplog.text


def test_nothing_is_said_where_nothing_is_lost(tokenizer, caplog):
    with caplog.at_level(logging.INFO):
        encode_texts(TEXTS, tokenizer, config(layout="documents", block_size=100))
    assert not caplog.records


def test_first_rows(tokenizer):
    rows = encode_texts(TEXTS, tokenizer, config())
    assert [row.tolist() for row in rows.first(3)] == [rows[number].tolist() for number in range(3)]
    assert len(rows.first(None)) == len(rows.first(10**6)) == len(rows)


def test_the_name_of_a_special_token_is_text(tokenizer):
    (row,) = encode_texts(["the [SEP] cat [MASK]"], tokenizer, config(layout="documents", block_size=100))
    special = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id]
    assert not np.isin(row[1:-1], special).any()


def test_ids_take_two_bytes(tokenizer):
    assert encode_texts(TEXTS, tokenizer, config()).ids.dtype == np.uint16


@pytest.mark.parametrize("layout", ["blocks", "documents"])
def test_texts_without_a_token(tokenizer, layout):
    with pytest.raises(UserError, match="the tokenizer makes no token of the texts: give other texts, or another"):
        encode_texts(["\x00", "\x01"], tokenizer, config(layout=layout))
