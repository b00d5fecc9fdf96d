"""Encodes texts as rows of token ids for an encoder, `[CLS] ... [SEP]`, stored in one array."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from vanilla_recipes.data.text import TextDataConfig
from vanilla_recipes.data.tokens import encode_stream
from vanilla_recipes.errors import UserError

logger = logging.getLogger(__name__)

NUM_ENDS = 2
"""Number of special tokens of a row: `[CLS]` and `[SEP]`."""


@dataclass(frozen=True)
class TokenRows:
    """Rows of token ids, stored in one array without `[CLS]` and `[SEP]`.

    Attributes:
        ids: token ids of all texts, shape (tokens,).
        starts: index in `ids` of the first token of each row, shape (rows,).
        stops: index in `ids` after the last token of each row, shape (rows,).
        ends: ids of `[CLS]` and `[SEP]`, which are added before and after a row.
    """

    ids: NDArray
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    ends: tuple[int, int]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> NDArray:
        """Returns a row with `[CLS]` and `[SEP]`."""
        inside = self.ids[self.starts[row] : self.stops[row]]
        ids = np.empty(len(inside) + NUM_ENDS, dtype=self.ids.dtype)
        ids[0], ids[-1] = self.ends
        ids[1:-1] = inside
        return ids

    def __iter__(self) -> Iterator[NDArray]:
        return (self[row] for row in range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each row, `[CLS]` and `[SEP]` included, shape (rows,)."""
        return self.stops - self.starts + NUM_ENDS

    def first(self, num_rows: int | None) -> "TokenRows":
        """Returns the first `num_rows` rows; None for all."""
        return TokenRows(self.ids, self.starts[:num_rows], self.stops[:num_rows], self.ends)


def encode_texts(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast, config: TextDataConfig) -> TokenRows:
    """Encodes texts as rows of at most `config.block_size` tokens.

    `config.layout=blocks` joins the texts and fills every row except the last, as RoBERTa does. `[SEP]` separates
    documents; nothing separates the pieces of a longer text. `config.layout=documents` makes one row of each text. It
    truncates long texts and leaves out texts without tokens; the numbers of both are logged.

    Args:
        texts: an iterable of texts, which need not fit into memory together.
        tokenizer: a tokenizer with `[CLS]` and `[SEP]`. Names of special tokens inside a text are encoded as ordinary
            characters.
        config: the layout and the block size.

    Raises:
        UserError: If the texts have no tokens.
    """
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    ids = encode_stream(texts, tokenizer, None if config.rows_are == "pieces" else last)
    if not (ids != last).any():
        raise UserError("the tokenizer makes no token of the texts: give other texts, or another tokenizer")
    cut = _cut_documents if config.layout == "documents" else _cut_blocks
    return TokenRows(ids, *cut(ids, config.block_size - NUM_ENDS, last), (first, last))


def _cut_blocks(ids: NDArray, capacity: int, separator: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns starts and stops of rows of `capacity` tokens; the last row may be shorter.

    A separator at the beginning or end of the stream is not part of a row.
    """
    begin, end = int(ids[0] == separator), len(ids) - int(ids[-1] == separator)
    starts = np.arange(begin, end, capacity)
    return starts, np.minimum(starts + capacity, end)


def _cut_documents(ids: NDArray, capacity: int, separator: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns starts and stops of rows: the tokens between two separators, truncated to `capacity` tokens."""
    separators = np.flatnonzero(ids == separator)
    starts, stops = separators[:-1] + 1, separators[1:]
    is_found = stops > starts
    num_lost, num_cut = np.count_nonzero(~is_found), np.count_nonzero(stops - starts > capacity)
    if num_lost:
        logger.warning("left out %d of %d texts, which have no tokens", num_lost, len(starts))
    if num_cut:
        logger.warning(
            "truncated %d of %d texts to data.block_size=%d tokens", num_cut, len(starts), capacity + NUM_ENDS
        )
    return starts[is_found], np.minimum(stops, starts + capacity)[is_found]
