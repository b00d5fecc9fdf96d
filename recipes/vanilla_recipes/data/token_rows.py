"""From plain text to rows of token ids for an encoder, `[CLS] ... [SEP]`, held in one array."""

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
"""Tokens that `[CLS]` and `[SEP]` take of a row."""


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens, cut out of one array in which they stand without the tokens at both ends.

    Attributes:
        ids: token ids of all texts.
        starts: where the rows begin in `ids`, shape (rows,).
        stops: where they end, shape (rows,).
        ends: the ids of the tokens before and after a row.
    """

    ids: NDArray
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    ends: tuple[int, int]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> NDArray:
        """A row with its ends."""
        inside = self.ids[self.starts[row] : self.stops[row]]
        ids = np.empty(len(inside) + NUM_ENDS, dtype=self.ids.dtype)
        ids[0], ids[-1] = self.ends
        ids[1:-1] = inside
        return ids

    def __iter__(self) -> Iterator[NDArray]:
        return (self[row] for row in range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, its ends included."""
        return self.stops - self.starts + NUM_ENDS

    def first(self, num_rows: int | None) -> "TokenRows":
        """The first rows; None for all."""
        return TokenRows(self.ids, self.starts[:num_rows], self.stops[:num_rows], self.ends)


def encode_texts(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast, config: TextDataConfig) -> TokenRows:
    """Rows of at most `config.block_size` tokens.

    `blocks` fills every row but the last, as RoBERTa does: documents follow one another with `[SEP]` between them,
    pieces of a longer text with nothing. `documents` makes a row of each text and cuts what is too long; how many were
    cut is logged.

    Args:
        texts: one at a time; they need not fit into memory together.
        tokenizer: one that has `[CLS]` and `[SEP]`; their names inside a text are read as ordinary characters.
        config: the layout.

    Raises:
        UserError: the tokenizer finds no token in the texts.
    """
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    ids = encode_stream(texts, tokenizer, None if config.rows_are == "pieces" else last)
    if not (ids != last).any():
        raise UserError("the tokenizer finds no token in the texts: give other texts, or another tokenizer")
    cut = _cut_documents if config.layout == "documents" else _cut_blocks
    return TokenRows(ids, *cut(ids, config.block_size - NUM_ENDS, last), (first, last))


def _cut_blocks(ids: NDArray, room: int, separator: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of `room` tokens, the last one apart; a separator at the ends of the stream is none."""
    begin, end = int(ids[0] == separator), len(ids) - int(ids[-1] == separator)
    starts = np.arange(begin, end, room)
    return starts, np.minimum(starts + room, end)


def _cut_documents(ids: NDArray, room: int, separator: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What stands between two separators is a row."""
    places = np.flatnonzero(ids == separator)
    starts, stops = places[:-1] + 1, places[1:]
    is_found = stops > starts
    num_lost, num_cut = np.count_nonzero(~is_found), np.count_nonzero(stops - starts > room)
    if num_lost:
        logger.warning("left out %d of %d texts, in which there are no tokens", num_lost, len(starts))
    if num_cut:
        logger.warning("truncated %d of %d texts to data.block_size=%d tokens", num_cut, len(starts), room + NUM_ENDS)
    return starts[is_found], np.minimum(stops, starts + room)[is_found]
