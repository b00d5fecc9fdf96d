"""Inputs and generation settings for comparing an export with its model."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

NEW_TOKENS = 24  # maximum number of tokens that are generated for each row

Rows = list[list[int]]
"""The token ids of several texts, which may have different lengths."""


def in_float32(model: PreTrainedModel) -> PreTrainedModel:
    """The model in evaluation mode and float32: a copy if it is in training mode or another dtype, else the model."""
    if model.dtype != torch.float32 or model.training:
        model = copy.deepcopy(model).float()
    return model.eval()


def random_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Rows:
    """Three rows of random token ids, of 2, 5 and 9 tokens, without special tokens."""
    generator = torch.Generator().manual_seed(0)
    vocab_size = model.get_input_embeddings().weight.shape[0]
    ordinary = sorted(set(range(vocab_size)) - set(tokenizer.all_special_ids))
    rows = [torch.randint(len(ordinary), (length,), generator=generator).tolist() for length in (2, 5, 9)]
    return [[ordinary[index] for index in row] for row in rows]


def encoded(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Rows:
    """Token ids of the texts, cut so that `NEW_TOKENS` positions are left for generated tokens."""
    longest = max(2, model.config.max_position_embeddings - NEW_TOKENS)
    return tokenizer(texts, truncation=True, max_length=longest)["input_ids"]


def padded(model: PreTrainedModel, rows: Rows, on_left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask (B, T) of rows of different lengths, padded on the right or on the left."""
    longest = max(map(len, rows))
    pad = getattr(model.config, "pad_token_id", None) or 0
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        part = slice(longest - len(row), None) if on_left else slice(len(row))
        ids[index, part], mask[index, part] = torch.tensor(row), 1
    return ids, mask


@contextmanager
def plain_generation(model: PreTrainedModel, *more: str) -> Iterator[None]:
    """Within the block, `generate` uses only the special tokens of the model and the settings that `more` names."""
    saved = model.generation_config
    names = ("bos_token_id", "eos_token_id", "decoder_start_token_id", "pad_token_id", *more)
    model.generation_config = GenerationConfig(**{name: getattr(saved, name) for name in names})
    try:
        yield
    finally:
        model.generation_config = saved


def end_tokens(model: PreTrainedModel) -> list[int]:
    """The ids of the end tokens; empty if the model has none."""
    ends: Any = model.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [] if ends is None else [ends]


def until_end(tokens: list[int], ends: list[int]) -> list[int]:
    """The tokens before the first end token."""
    return tokens[: next((index for index, token in enumerate(tokens) if token in ends), len(tokens))]


def num_new_tokens(model: PreTrainedModel, rows: Rows) -> int:
    """The number of tokens to generate for each row: `NEW_TOKENS`, or fewer if the model has too few positions."""
    taken = 1 if model.config.is_encoder_decoder else max(map(len, rows))
    return max(1, min(NEW_TOKENS, model.config.max_position_embeddings - taken))


def generated(model: PreTrainedModel, row: list[int], num_new: int, num_beams: int = 1) -> list[int]:
    """The tokens that the model generates from one source or after one prompt, without the end token."""
    ids = torch.tensor([row], device=model.device)
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=num_new,
        num_beams=num_beams,
        early_stopping=num_beams > 1,
    )
    start = 1 if model.config.is_encoder_decoder else len(row)
    return until_end(output[0, start:].tolist(), end_tokens(model))
