"""Encodes labelled rows as token ids, and collates them into padded batches."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from vanilla_recipes.data.collators import CHUNK_ROWS
from vanilla_recipes.data.labelled import LabelledRow

logger = logging.getLogger(__name__)

NO_WORD = -1
"""Word index of a special token, because a special token is not part of a word."""


@dataclass(frozen=True)
class Tokens:
    """An encoded row.

    Attributes:
        input_ids: token ids, shape (tokens,).
        token_type_ids: 0 for tokens of the first text and 1 for tokens of the second, shape (tokens,); None if the row
            is a single text.
        words: index of each token's word in its text, -1 for special tokens, shape (tokens,); None if the row was
            encoded without word indices.
    """

    input_ids: NDArray[np.int32]
    token_type_ids: NDArray[np.int32] | None = None
    words: NDArray[np.int32] | None = None

    @property
    def begins_piece(self) -> NDArray[np.bool_]:
        """Whether each token begins a word or a run of special tokens, shape (tokens,). The row must have `words`."""
        assert self.words is not None, "the row was encoded for augmentation"
        begins = np.ones(len(self.words), dtype=bool)
        begins[1:] = self.words[1:] != self.words[:-1]
        return begins

    def take(self, positions: NDArray[np.int64]) -> "Tokens":
        """Returns a row with the tokens at `positions`, in the order of `positions`."""
        types = None if self.token_type_ids is None else self.token_type_ids[positions]
        return Tokens(self.input_ids[positions], types, None if self.words is None else self.words[positions])


def encode_rows(
    rows: Sequence[LabelledRow], tokenizer: PreTrainedTokenizerFast, max_length: int, with_words: bool
) -> list[Tokens]:
    """Encodes every row, in order.

    A row that is too long is truncated; the longer text of a pair loses tokens first. The number of truncated rows is
    logged.

    Args:
        rows: the rows, which must all be single texts or all be text pairs.
        tokenizer: a tokenizer that adds its special tokens itself.
        max_length: maximum number of tokens of a row, special tokens included.
        with_words: whether `Tokens.words` is filled.
    """
    tokens: list[Tokens] = []
    num_cut = 0
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[start : start + CHUNK_ROWS]
        pairs = None if chunk[0].pair is None else [row.pair for row in chunk]
        encoded = tokenizer([row.text for row in chunk], pairs, truncation=True, max_length=max_length)
        tokens += (_tokens(encoding, pairs is not None, with_words) for encoding in encoded.encodings)
        num_cut += sum(1 for encoding in encoded.encodings if encoding.overflowing)
    if num_cut:
        logger.warning("truncated %d of %d texts to tokenizer.max_length=%d tokens", num_cut, len(rows), max_length)
    return tokens


def _tokens(encoding: Encoding, with_types: bool, with_words: bool) -> Tokens:
    types = np.array(encoding.type_ids, np.int32) if with_types else None
    words = [NO_WORD if word is None else word for word in encoding.word_ids] if with_words else None
    return Tokens(np.array(encoding.ids, np.int32), types, None if words is None else np.array(words, np.int32))


def collate(rows: Sequence[Tokens], labels: Sequence[int], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Pads rows on the right: `input_ids`, `attention_mask` and, for text pairs, `token_type_ids` (B, T).

    Args:
        rows: the encoded rows.
        labels: the class number of each row, which becomes `labels` (B,).
        pad_token_id: padding id of `input_ids`.
    """
    lengths = torch.tensor([len(row.input_ids) for row in rows])
    batch = {
        "input_ids": _padded((row.input_ids for row in rows), pad_token_id),
        "attention_mask": (torch.arange(int(lengths.max())) < lengths[:, None]).long(),
        "labels": torch.tensor(labels),
    }
    types = [row.token_type_ids for row in rows if row.token_type_ids is not None]
    return batch | {"token_type_ids": _padded(iter(types), 0)} if types else batch


def _padded(parts: Iterator[NDArray[np.int32]], value: int) -> torch.Tensor:
    """Pads rows with `value` to an int64 tensor of shape (B, longest)."""
    return pad_sequence([torch.from_numpy(part) for part in parts], batch_first=True, padding_value=value).long()
