"""Encodes texts as one array of token ids, and makes rows of a causal language model as spans of this array."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from vanilla_recipes.data.text import PromptPair
from vanilla_recipes.engine.packing import Packed
from vanilla_transformers.model.losses import IGNORE_INDEX

Item = TypeVar("Item")

PIECE_CHARACTERS = 10_000
"""Minimum length, in characters, of the pieces into which a long text is split so that all cores encode it."""

CHUNK_CHARACTERS = 1_000_000
"""Number of characters encoded at a time. The tokenizer's result takes about 100 bytes per token until the ids are
copied out of it."""

# The boundary between a non-space character and white space. Byte-level BPE never merges across it.
_SEAM = re.compile(r"(?<=\S)(?=\s)")


@dataclass(frozen=True)
class Spans:
    """Rows as spans of one array of token ids. A row of length n has n inputs; a target is the token after an input.

    Attributes:
        ids: token ids of all rows, shape (tokens,). A row that runs over the end continues at index 0.
        starts: index in `ids` of the first input of each row, shape (rows,).
        lengths: number of inputs of each row, shape (rows,).
        num_prompt: number of leading targets of each row that the loss ignores, shape (rows,).
        pad_token_id: padding id of `input_ids` after the end of a row.
        num_truncated: number of rows that lost the beginning of the prompt or the end of the completion.
    """

    ids: NDArray
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    num_prompt: NDArray[np.int64]
    pad_token_id: int = 0
    num_truncated: int = 0

    def batch(self, rows: NDArray[np.int64] | Sequence[int], offset: int = 0) -> dict[str, torch.Tensor]:
        """Makes a batch padded on the right: `input_ids` and `shift_labels` (B, T).

        Args:
            rows: row numbers.
            offset: number of tokens by which every row begins later in `ids`.
        """
        lengths = self.lengths[rows][:, None]
        positions = np.arange(lengths.max() + 1)
        tokens = self.ids[(self.starts[rows][:, None] + offset + positions) % len(self.ids)].astype(np.int64)
        positions = positions[:-1]
        outside = positions >= lengths
        inputs = np.where(outside, self.pad_token_id, tokens[:, :-1])
        labels = np.where(outside | (positions < self.num_prompt[rows][:, None]), IGNORE_INDEX, tokens[:, 1:])
        return {"input_ids": torch.from_numpy(inputs), "shift_labels": torch.from_numpy(labels)}

    def packed(self, rows: NDArray[np.int64], pack_length: int | None) -> dict[str, Any]:
        """Packs rows into lines (see `Packed`): `input_ids`, `position_ids` and `shift_labels` (lines, T).

        The batch also has the sequence lengths that attention kernels need.

        Args:
            rows: row numbers.
            pack_length: maximum number of inputs of a line; None packs all rows into one line.
        """
        packed = Packed(self.lengths[rows], pack_length)
        padded = {name: tensor.numpy() for name, tensor in self.batch(rows).items()}
        return {
            "input_ids": packed.lay_out(padded["input_ids"], self.pad_token_id),
            "position_ids": packed.position_ids(),
            "shift_labels": packed.lay_out(padded["shift_labels"], IGNORE_INDEX),
            **packed.lengths_for_kernels(),
        }

    def first(self, num_rows: int | None) -> "Spans":
        """Returns the first `num_rows` rows; None for all."""
        kept = {name: getattr(self, name)[:num_rows] for name in ("starts", "lengths", "num_prompt")}
        return replace(self, **kept)

    def beginnings(self, num_rows: int, num_tokens: int) -> list[list[int]]:
        """Returns the prompts of `num_rows` evenly spaced rows, or their first `num_tokens` tokens without a prompt."""
        rows = np.linspace(0, len(self.starts), num_rows, endpoint=False, dtype=np.int64)
        num_first = np.minimum(num_tokens, self.lengths[rows])
        stops = self.starts[rows] + np.where(self.num_prompt[rows] > 0, self.num_prompt[rows] + 1, num_first)
        return [self.ids[start:stop].tolist() for start, stop in zip(self.starts[rows], stops, strict=True)]

    def targets(self) -> NDArray[np.int64]:
        """Returns the targets of all rows in order, shape (targets,)."""
        num_parts = 1 + len(self.starts) // 1000  # one padded batch of all rows could take too much memory
        parts = np.array_split(np.arange(len(self.starts)), num_parts)
        labels = np.concatenate([self.batch(rows)["shift_labels"].numpy().ravel() for rows in parts])
        return labels[labels != IGNORE_INDEX]


def ring_blocks(ids: NDArray, block_size: int) -> Spans:
    """Makes rows for training: blocks of `block_size` inputs; every token is a target once.

    `ids` is treated as a ring: the target of its last token is its first token. So another `offset` in `Spans.batch`
    shifts all blocks, and every token is still a target once. The last block is shorter if `block_size` does not divide
    the number of tokens.
    """
    starts = np.arange(0, len(ids), block_size)
    return _blocks(ids, starts, len(ids), block_size)


def line_blocks(ids: NDArray, block_size: int) -> Spans:
    """Makes rows for evaluation: blocks in which every token except the first is a target once.

    The last block may be shorter than `block_size`.
    """
    starts = np.arange(0, len(ids) - 1, block_size)
    return _blocks(ids, starts, len(ids) - 1, block_size)


def _blocks(ids: NDArray, starts: NDArray[np.int64], num_targets: int, block_size: int) -> Spans:
    lengths = np.minimum(block_size, num_targets - starts)
    return Spans(ids, starts, lengths, np.zeros_like(starts))


def encode_stream(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast, separator: int | None) -> NDArray:
    """Encodes all texts as one array, shape (tokens,), of uint16 or, for a vocabulary of more than 65,536, uint32.

    Args:
        texts: an iterable of texts, which need not fit into memory together.
        tokenizer: encodes the texts. Names of special tokens inside a text are encoded as ordinary characters.
        separator: id of the token before the first text and after every text; None joins the texts without a separator.
    """
    dtype, end = _dtype(tokenizer), [] if separator is None else [separator]
    parts = [np.array(end, dtype)]
    items = (item for text in texts for item in pieces(text))
    for chunk in _chunks(items, lambda item: len(item[0])):
        encoded = _encode([piece for piece, _ in chunk], tokenizer)
        rows = (ids + end if is_last else ids for ids, (_, is_last) in zip(encoded, chunk, strict=True))
        parts.append(np.fromiter(chain.from_iterable(rows), dtype))
    return np.concatenate(parts)


def encode_rows(pairs: Iterable[PromptPair], tokenizer: PreTrainedTokenizerFast, end_id: int, block_size: int) -> Spans:
    """Encodes every pair as one row: the prompt with the tokenizer's special tokens, the completion, the end token.

    The completion and the end token are targets. Prompt and completion are encoded separately, because generation too
    encodes a prompt alone. A row that is too long loses the beginning of its prompt. A completion that is too long
    without its prompt loses its end.

    Args:
        pairs: prompts with completions; a document is the completion of an empty prompt.
        tokenizer: encodes the texts. Names of special tokens inside a text are encoded as ordinary characters.
        end_id: id of the last token of every row.
        block_size: maximum number of inputs of a row.
    """
    parts: list[NDArray] = []
    lengths: list[int] = []
    num_prompt: list[int] = []
    num_truncated = 0
    for chunk in _chunks(pairs, lambda pair: len(pair.prompt) + len(pair.completion)):
        heads = _encode([pair.prompt for pair in chunk], tokenizer, add_special_tokens=True)
        bodies = _encode([pair.completion for pair in chunk], tokenizer)
        rows = [(head, [*body, end_id]) for head, body in zip(heads, bodies, strict=True)]
        cut = [_cut(head, body, block_size) for head, body in rows]
        parts.append(np.fromiter(chain.from_iterable(head + body for head, body in cut), _dtype(tokenizer)))
        lengths += [len(head) + len(body) for head, body in cut]
        num_prompt += [max(0, len(head) - 1) for head, _ in cut]
        num_truncated += sum(was != now for was, now in zip(rows, cut, strict=True))
    sizes = np.array(lengths)
    return Spans(
        np.concatenate(parts), sizes.cumsum() - sizes, sizes - 1, np.array(num_prompt), num_truncated=num_truncated
    )


def _cut(head: list[int], body: list[int], block_size: int) -> tuple[list[int], list[int]]:
    """Truncates a row to `block_size` inputs: keeps the start of `body` and the end of `head`, at least one token."""
    body = body[: block_size + (not head)]
    return head[max(0, len(head) + len(body) - block_size - 1) :], body


def _encode(texts: list[str], tokenizer: PreTrainedTokenizerFast, add_special_tokens: bool = False) -> list[list[int]]:
    """Returns the token ids of each text, without truncation."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True  # encodes the name of a special token in a text as ordinary characters
    try:
        # This call is six times as fast (measured) as calling the tokenizer, which also computes offsets and masks.
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=add_special_tokens)]
    finally:
        backend.encode_special_tokens = False


def begin_with_end_of_text(tokenizer: PreTrainedTokenizerFast) -> None:
    """Makes the tokenizer add the end-of-text token before every text.

    Joined training documents have this token before each document. So a prompt begins as a training document does.
    """
    token = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, tokenizer.eos_token_id)]
    )


def _dtype(tokenizer: PreTrainedTokenizerFast) -> type[np.unsignedinteger]:
    return np.uint16 if len(tokenizer) <= 2**16 else np.uint32


def pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Yields a text in pieces, and whether each piece is the last.

    The token ids of the pieces, joined, equal those of the complete text.
    """
    start = 0
    while (seam := _SEAM.search(text, start + PIECE_CHARACTERS)) is not None:
        yield text[start : seam.start()], False
        start = seam.start()
    yield text[start:], True


def _chunks(items: Iterable[Item], num_characters: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yields items in lists of at least `CHUNK_CHARACTERS` characters; the last list may be shorter."""
    chunk, total = [], 0
    for item in items:
        chunk.append(item)
        total += num_characters(item)
        if total >= CHUNK_CHARACTERS:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk
