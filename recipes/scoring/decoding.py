"""Translates sentences with beam search, in batches of similar length."""

import logging
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from vanilla_transformers.recipes.engine.plan import length_sorted_batches

logger = logging.getLogger(__name__)


@torch.inference_mode()
def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[str],
    num_beams: int | None = None,
    batch_tokens: int | None = None,
) -> list[str]:
    """Translations of the sentences, in their order; a blank sentence stays blank.

    Args:
        model: an encoder-decoder; its generation config decides what is not given here.
        tokenizer: its tokenizer.
        sentences: one a row; longer ones than the tokenizer's `model_max_length` are cut, and their number logged.
        num_beams: 1 for greedy search; None for what the generation config says.
        batch_tokens: padded source tokens translated at once; None takes 1,024 on a CPU, where twice as many are
            slower, and 16,384 elsewhere.
    """
    texts = [(row, text) for row, text in enumerate(sentences) if text.strip()]
    translations = [""] * len(sentences)
    if not texts:
        return translations
    ids = _source_ids(tokenizer, [text for _, text in texts])
    search = {} if num_beams is None else {"num_beams": num_beams, "early_stopping": num_beams > 1}
    if batch_tokens is None:
        batch_tokens = 1024 if model.device.type == "cpu" else 16_384
    for batch in length_sorted_batches([len(row) for row in ids], batch_tokens):
        inputs = tokenizer.pad({"input_ids": [ids[row] for row in batch]}, return_tensors="pt").to(model.device)
        limit = _length_limit(model.generation_config.max_length, inputs["input_ids"].shape[1])
        output = model.generate(**inputs, max_length=limit, **search)  # type: ignore[operator]
        for row, text in zip(batch, tokenizer.batch_decode(output, skip_special_tokens=True), strict=True):
            translations[texts[row][0]] = text
    return translations


def _source_ids(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    limit = tokenizer.model_max_length
    ids = tokenizer(texts, truncation=True, max_length=limit, return_attention_mask=False)["input_ids"]
    num_full = sum(len(row) >= limit for row in ids)
    if num_full:
        logger.warning("%d of %d sentences fill the %d tokens that the tokenizer allows", num_full, len(texts), limit)
    return ids


def _length_limit(max_length: int | None, source_length: int) -> int:
    """No translation is twice as long as its source; an untrained model would otherwise fill `max_length`."""
    limit = 2 * source_length + 20
    return limit if max_length is None else min(max_length, limit)
