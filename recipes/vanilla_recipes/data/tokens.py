"""Texts as one long array of token ids, and the rows of a causal language model as spans of it."""

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
"""Long texts are encoded in pieces of at least so many characters, on all cores."""

CHUNK_CHARACTERS = 1_000_000
"""Characters encoded at a time: an encoding takes about 100 bytes a token until its ids are taken out."""

# Before white space that follows a word. Byte-level BPE never merges across such a place.
_SEAM = re.compile(r"(?<=\S)(?=\s)")


@dataclass(frozen=True)
class Spans:
    """Rows of one array of token ids. A row of length n has n inputs, and as targets the tokens after each of them.

    Attributes:
        ids: all tokens; a ring where rows run over its end.
        starts: where each row begins, shape (rows,).
        lengths: inputs of each row, shape (rows,).
        num_prompt: how many of the first targets of each row do not count, shape (rows,).
        pad_token_id: fills inputs behind the end of a row, which no token sees.
        num_truncated: texts of which the end, or the beginning of the prompt, was left out.
    """

    ids: NDArray
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    num_prompt: NDArray[np.int64]
    pad_token_id: int = 0
    num_truncated: int = 0

    def batch(self, rows: NDArray[np.int64] | Sequence[int], offset: int = 0) -> dict[str, torch.Tensor]:
        """`input_ids` and `shift_labels`, (B, T), of some rows, padded on the right; all rows moved on by `offset`."""
        lengths = self.lengths[rows][:, None]
        places = np.arange(lengths.max() + 1)
        tokens = self.ids[(self.starts[rows][:, None] + offset + places) % len(self.ids)].astype(np.int64)
        places = places[:-1]
        outside = places >= lengths
        inputs = np.where(outside, self.pad_token_id, tokens[:, :-1])
        labels = np.where(outside | (places < self.num_prompt[rows][:, None]), IGNORE_INDEX, tokens[:, 1:])
        return {"input_ids": torch.from_numpy(inputs), "shift_labels": torch.from_numpy(labels)}

    def packed(self, rows: NDArray[np.int64], pack_length: int | None) -> dict[str, Any]:
        """`input_ids`, `position_ids` and `shift_labels` of some rows, packed into lines, which `Packed` describes.

        The lengths for kernels are there as well.
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
        """The first rows alone; None keeps all."""
        kept = {name: getattr(self, name)[:num_rows] for name in ("starts", "lengths", "num_prompt")}
        return replace(self, **kept)

    def beginnings(self, num_rows: int, num_tokens: int) -> list[list[int]]:
        """The prompts, or else the first tokens, of rows from all over."""
        rows = np.linspace(0, len(self.starts), num_rows, endpoint=False, dtype=np.int64)
        num_first = np.minimum(num_tokens, self.lengths[rows])
        stops = self.starts[rows] + np.where(self.num_prompt[rows] > 0, self.num_prompt[rows] + 1, num_first)
        return [self.ids[start:stop].tolist() for start, stop in zip(self.starts[rows], stops, strict=True)]

    def targets(self) -> NDArray[np.int64]:
        """All targets in turn, shape (targets,)."""
        num_parts = 1 + len(self.starts) // 1000  # padding takes memory
        parts = np.array_split(np.arange(len(self.starts)), num_parts)
        labels = np.concatenate([self.batch(rows)["shift_labels"].numpy().ravel() for rows in parts])
        return labels[labels != IGNORE_INDEX]


def ring_blocks(ids: NDArray, block_size: int) -> Spans:
    """Rows for training: the ring of tokens cut every `block_size`, so that each token is a target once.

    Moved by an offset, which the batch takes, they cover the ring again with other cuts. The last row is shorter where
    the tokens do not divide.
    """
    starts = np.arange(0, len(ids), block_size)
    return _blocks(ids, starts, len(ids), block_size)


def line_blocks(ids: NDArray, block_size: int) -> Spans:
    """Rows for evaluation: every token but the first is a target once; the last row may be shorter."""
    starts = np.arange(0, len(ids) - 1, block_size)
    return _blocks(ids, starts, len(ids) - 1, block_size)


def _blocks(ids: NDArray, starts: NDArray[np.int64], num_targets: int, block_size: int) -> Spans:
    lengths = np.minimum(block_size, num_targets - starts)
    return Spans(ids, starts, lengths, np.zeros_like(starts))


def encode_stream(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast, separator: int | None) -> NDArray:
    """The tokens of all texts, shape (tokens,), in the smallest type that holds the vocabulary.

    Args:
        texts: one at a time; they need not fit into memory together.
        tokenizer: names of special tokens inside a text are read as ordinary characters.
        separator: stands before the first text and after each; None joins them with nothing between.
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
    """A row a pair: the prompt with what the tokenizer adds to a text, the completion, the end.

    The completion and the end are targets. The two are encoded apart, as a prompt is when the model is used. A row that
    is too long loses tokens at the beginning of its prompt; a completion that is too long by itself loses its end.

    Args:
        pairs: a document is the completion of an empty prompt.
        tokenizer: names of special tokens inside a text are read as ordinary characters.
        end_id: ends each row.
        block_size: inputs of a row at most.
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
    """The end of the head, a token at least, and the beginning of the body, for a row of `block_size` inputs."""
    body = body[: block_size + (not head)]
    return head[max(0, len(head) + len(body) - block_size - 1) :], body


def _encode(texts: list[str], tokenizer: PreTrainedTokenizerFast, add_special_tokens: bool = False) -> list[list[int]]:
    """Token ids of each text, uncut."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True  # as ordinary characters
    try:
        # Six times as fast as calling the tokenizer, which makes offsets and masks as well.
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=add_special_tokens)]
    finally:
        backend.encode_special_tokens = False


def begin_with_end_of_text(tokenizer: PreTrainedTokenizerFast) -> None:
    """From now on a text that is tokenized begins with the end-of-text token, as it does where documents are joined.

    What a model is trained on and what it is given later then begin alike.
    """
    token = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, tokenizer.eos_token_id)]
    )


def _dtype(tokenizer: PreTrainedTokenizerFast) -> type[np.unsignedinteger]:
    return np.uint16 if len(tokenizer) <= 2**16 else np.uint32


def pieces(text: str) -> Iterator[tuple[str, bool]]:
    """A text in pieces, each with whether it is the last; their tokens joined are those of the whole."""
    start = 0
    while (seam := _SEAM.search(text, start + PIECE_CHARACTERS)) is not None:
        yield text[start : seam.start()], False
        start = seam.start()
    yield text[start:], True


def _chunks(items: Iterable[Item], num_characters: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Items in lists of at least `CHUNK_CHARACTERS`, the last one excepted."""
    chunk, total = [], 0
    for item in items:
        chunk.append(item)
        total += num_characters(item)
        if total >= CHUNK_CHARACTERS:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk
