"""Blocks and rows of token ids: each token is a target once, and nothing else is."""

import numpy as np
import pytest
import torch

from vanilla_recipes.data import tokens
from vanilla_recipes.data.causal import scored_spans, training_batch, training_spans
from vanilla_recipes.data.text import PromptDataConfig, PromptPair
from vanilla_recipes.data.tokenizers import character_tokenizer, train_decoder_tokenizer
from vanilla_recipes.data.tokens import (
    Spans,
    begin_with_end_of_text,
    encode_rows,
    encode_stream,
    line_blocks,
    ring_blocks,
)
from vanilla_recipes.errors import UserError
from vanilla_recipes.settings.experiment import BatchConfig
from vanilla_transformers.model.losses import IGNORE_INDEX

TEXTS = ["One  two\n\nthree.", "four <|endoftext|> five", "\n six\u2028", "söven's 8"]
CHARACTERS = character_tokenizer(TEXTS, 64)
BPE = train_decoder_tokenizer(TEXTS * 5, 400, 64)
END = 0


def target_counts(spans: Spans, num_ids: int, offset: int = 0) -> np.ndarray:
    """How often each token of `np.arange(num_ids)` is a target; each must follow its input."""
    batch = spans.batch(np.arange(len(spans.starts)), offset)
    inputs, labels = batch["input_ids"].numpy(), batch["shift_labels"].numpy()
    kept = labels != IGNORE_INDEX
    assert np.array_equal((inputs[kept] + 1) % num_ids, labels[kept])
    return np.bincount(labels[kept], minlength=num_ids)


@pytest.mark.parametrize(("num_ids", "block_size"), [(100, 7), (100, 10), (5, 5), (3, 2)])
def test_training_blocks_cover_the_ring_once_wherever_they_are_cut(num_ids, block_size):
    spans = ring_blocks(np.arange(num_ids, dtype=np.uint16), block_size)
    assert spans.lengths.sum() == num_ids
    for offset in (0, 3, num_ids - 1):
        assert (target_counts(spans, num_ids, offset) == 1).all()


@pytest.mark.parametrize(("num_ids", "block_size"), [(100, 7), (100, 9), (100, 99), (5, 50), (2, 2)])
def test_scored_blocks_have_every_token_but_the_first_as_a_target_once(num_ids, block_size):
    spans = line_blocks(np.arange(num_ids, dtype=np.uint16), block_size)
    assert target_counts(spans, num_ids).tolist() == [0, *[1] * (num_ids - 1)]
    assert spans.targets().tolist() == list(range(1, num_ids))


def test_the_cut_moves_with_the_epoch_and_depends_on_nothing_else():
    spans = ring_blocks(np.arange(1000, dtype=np.uint16), 10)
    data = PromptDataConfig(block_size=10)

    def first(seed, epoch, rows=(0,)):
        return training_batch(spans, data, BatchConfig(), seed, np.array(rows), epoch)["input_ids"][0].tolist()

    assert len({first(seed, epoch)[0] for seed in (0, 1) for epoch in range(20)}) > 30
    expected = first(1, 3)
    np.random.seed(7)
    torch.manual_seed(7)
    assert first(1, 3, rows=(0, 5, 9)) == expected


def test_padding_is_no_target():
    spans = Spans(np.arange(10), np.array([0, 4]), np.array([3, 5]), np.array([0, 2]), pad_token_id=99)
    batch = spans.batch([0, 1])
    assert batch["input_ids"].tolist() == [[0, 1, 2, 99, 99], [4, 5, 6, 7, 8]]
    assert batch["shift_labels"].tolist() == [[1, 2, 3, -100, -100], [-100, -100, 7, 8, 9]]
    assert spans.batch([0])["input_ids"].tolist() == [[0, 1, 2]]
    assert spans.first(1).batch([0])["input_ids"].tolist() == [[0, 1, 2]]


def test_beginnings_are_prompts_or_the_first_tokens():
    spans = Spans(np.arange(20), np.array([0, 10]), np.array([8, 3]), np.array([0, 1]))
    assert spans.beginnings(2, 5) == [[0, 1, 2, 3, 4], [10, 11]]


@pytest.mark.parametrize("tokenizer", [CHARACTERS, BPE])
def test_a_stream_is_the_texts_with_the_end_around_each(tokenizer):
    ids = encode_stream(iter(TEXTS), tokenizer, END)
    one_by_one = [tokenizer(text, split_special_tokens=True)["input_ids"] for text in TEXTS]
    expected = [END, *(token for text in one_by_one for token in (*text, END))]
    assert ids.tolist() == expected
    assert ids.dtype == np.uint16
    assert tokenizer.decode(ids, skip_special_tokens=True) == "".join(TEXTS)


def test_pieces_are_joined_with_nothing_between():
    assert encode_stream(TEXTS, CHARACTERS, None).tolist() == encode_stream(["".join(TEXTS)], CHARACTERS, None).tolist()


@pytest.mark.parametrize("size", [1, 3, 10])
def test_the_pieces_of_a_long_text_have_the_tokens_of_the_whole(monkeypatch, size):
    text = " a  b\n\n\n c 'll\t\t5 6,7 ... x\n" * 20
    whole = BPE(text)["input_ids"]
    monkeypatch.setattr(tokens, "PIECE_CHARACTERS", size)
    monkeypatch.setattr(tokens, "CHUNK_CHARACTERS", 50)
    assert len(list(tokens.pieces(text))) > 10
    assert encode_stream([text], BPE, None).tolist() == whole


def test_documents_begin_and_end_with_the_end_of_text():
    tokenizer = character_tokenizer(["abc"], 64)
    begin_with_end_of_text(tokenizer)
    spans = encode_rows([PromptPair("", "abc"), PromptPair("", "b")], tokenizer, END, 10)
    batch = spans.batch([0, 1])
    assert batch["input_ids"].tolist() == [[0, 3, 4, 5], [0, 4, 0, 0]]
    assert batch["shift_labels"].tolist() == [[3, 4, 5, 0], [4, 0, -100, -100]]
    assert tokenizer("abc")["input_ids"] == [0, 3, 4, 5]


def test_only_the_completion_is_learnt():
    tokenizer = character_tokenizer(["abcd"], 64)
    spans = encode_rows([PromptPair("ab", "cd")], tokenizer, END, 10)
    assert spans.batch([0])["input_ids"].tolist() == [[3, 4, 5, 6]]
    assert spans.batch([0])["shift_labels"].tolist() == [[-100, 5, 6, 0]]
    assert spans.targets().tolist() == [5, 6, 0]


def test_rows_that_are_too_long():
    """A document loses its end, a pair the beginning of its prompt, then the end of its completion."""
    tokenizer = character_tokenizer(["abcd"], 64)

    def row(prompt, completion, block_size):
        spans = encode_rows([PromptPair(prompt, completion)], tokenizer, END, block_size)
        batch = spans.batch([0])
        return batch["input_ids"][0].tolist(), batch["shift_labels"][0].tolist(), spans.num_truncated

    assert row("abab", "cd", 4) == ([3, 4, 5, 6], [-100, 5, 6, 0], 1)
    assert row("ab", "cdcd", 3) == ([4, 5, 6], [5, 6, 5], 1)
    assert row("ab", "cd", 4)[2] == 0
    begin_with_end_of_text(tokenizer)
    assert row("", "abcd", 3) == ([0, 3, 4], [3, 4, 5], 1)
    assert row("", "abcd", 5) == ([0, 3, 4, 5, 6], [3, 4, 5, 6, 0], 0)


def test_truncated_rows_are_counted(caplog):
    data = PromptDataConfig(layout="documents", block_size=3)
    training_spans(data, [PromptPair("", "One"), PromptPair("", "four five")], CHARACTERS)
    assert "truncated 1 of 2 train rows to data.block_size=3 tokens" in caplog.text


def test_a_split_without_a_block(tmp_path):
    data = PromptDataConfig(block_size=50)
    with pytest.raises(UserError, match=r"data\.block_size=50: the train split has 5 tokens, fewer than one block; "):
        training_spans(data, [PromptPair("", "One")], CHARACTERS)
    (tmp_path / "train.txt").write_text("One")
    (tmp_path / "validation.txt").write_text("O")
    data = PromptDataConfig(path=str(tmp_path), rows_are="pieces")
    with pytest.raises(
        UserError, match="the validation split has 1 tokens, fewer than 2: a token is predicted from the tokens before"
    ):
        scored_spans(data, "validation", 0, CHARACTERS)
