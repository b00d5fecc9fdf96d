"""Reads and encodes the data of a causal language model: from a `PromptDataConfig` to rows of token ids."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from vanilla_recipes.data.records import Split
from vanilla_recipes.data.text import PromptDataConfig, PromptPair, prompt_pairs, texts
from vanilla_recipes.data.tokens import Spans, encode_rows, encode_stream, line_blocks, ring_blocks
from vanilla_recipes.engine.plan import Rows
from vanilla_recipes.engine.task import Batch
from vanilla_recipes.errors import UserError
from vanilla_recipes.settings.experiment import BatchConfig

logger = logging.getLogger(__name__)


def read_pairs(data: PromptDataConfig, split: Split, seed: int) -> Iterator[PromptPair]:
    """Yields the rows of a split. If the data has no prompts, each text is the completion of an empty prompt."""
    if data.has_prompts:
        return prompt_pairs(data, split, seed)
    return (PromptPair("", text) for text in texts(data, split, seed))


def training_spans(data: PromptDataConfig, pairs: Iterable[PromptPair], tokenizer: PreTrainedTokenizerFast) -> Spans:
    """Encodes the training rows.

    Raises:
        UserError: If `data.layout=blocks` and the training split has fewer tokens than one block.
    """
    if data.layout == "documents":
        return _documents(data, "train", pairs, tokenizer)
    ids = _stream(data, "train", pairs, tokenizer)
    if len(ids) < data.block_size:
        raise UserError(
            f"data.block_size={data.block_size}: the train split has {len(ids)} tokens, fewer than one block; lower "
            "data.block_size, or give more text"
        )
    return ring_blocks(ids, data.block_size)


def scored_spans(data: PromptDataConfig, split: Split, seed: int, tokenizer: PreTrainedTokenizerFast) -> Spans:
    """Encodes the rows of a split for evaluation.

    With `data.layout=blocks` every token of the split except the first is a target exactly once.

    Raises:
        UserError: If the rows cannot be read or break a rule, or if `data.layout=blocks` and the split has fewer than
            two tokens.
    """
    pairs = read_pairs(data, split, seed)
    if data.layout == "documents":
        return _documents(data, split, pairs, tokenizer)
    return line_blocks(_stream(data, split, pairs, tokenizer), data.block_size)


def training_batch(
    spans: Spans, data: PromptDataConfig, batch: BatchConfig, seed: int, rows: Rows, epoch: int
) -> Batch:
    """Makes a training batch of the rows with the numbers `rows`.

    With `data.layout=blocks` all blocks are shifted by a random number of tokens, which is different in every epoch.
    With `batch.packing` documents are packed.
    """
    if batch.packing:
        return spans.packed(rows, batch.pack_length)
    if data.layout == "documents":
        return spans.batch(rows)
    return spans.batch(rows, int(np.random.default_rng([seed, epoch, 0]).integers(len(spans.ids))))


def _stream(
    data: PromptDataConfig, split: Split, pairs: Iterable[PromptPair], tokenizer: PreTrainedTokenizerFast
) -> NDArray:
    separator = tokenizer.eos_token_id if data.rows_are == "documents" else None
    ids = encode_stream((pair.completion for pair in pairs), tokenizer, separator)
    if len(ids) < 2:
        raise UserError(
            f"the {split} split has {len(ids)} tokens, fewer than 2: a token is predicted from the tokens before it;"
            " give more text"
        )
    return ids


def _documents(
    data: PromptDataConfig, split: Split, pairs: Iterable[PromptPair], tokenizer: PreTrainedTokenizerFast
) -> Spans:
    spans = encode_rows(pairs, tokenizer, tokenizer.eos_token_id, data.block_size)
    if spans.num_truncated:
        logger.warning(
            "truncated %d of %d %s rows to data.block_size=%d tokens",
            spans.num_truncated, len(spans.starts), split, data.block_size,
        )  # fmt: skip
    return dataclasses.replace(spans, pad_token_id=tokenizer.pad_token_id or 0)
