"""Translates sentences with beam search, in batches of similar length."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from vanilla_transformers import VanillaSeq2SeqConfig
from vanilla_transformers.recipes.data.readers import is_unicode
from vanilla_transformers.recipes.engine.experiment import Problem
from vanilla_transformers.recipes.engine.plan import length_sorted_batches
from vanilla_transformers.recipes.errors import UserError, one_line

logger = logging.getLogger(__name__)

NO_LIMIT = 1_000_000  # a tokenizer without `model_max_length` says 1e30 instead


@dataclass(frozen=True)
class BeamSearchConfig:
    """How translations are searched; saved with the model as its generation config."""

    num_beams: int = 4
    length_penalty: float = 1.0
    early_stopping: bool = True

    def problems(self) -> Iterator[Problem]:
        if self.num_beams < 1:
            yield "num_beams", "must be 1 or greater"
        if not -100 <= self.length_penalty <= 100:
            yield "length_penalty", "must be between -100 and 100: lengths are raised to its power"


def generation_config(search: BeamSearchConfig, config: VanillaSeq2SeqConfig, max_length: int) -> GenerationConfig:
    """The settings as the model is saved with them.

    Args:
        search: how translations are searched.
        config: that of the model.
        max_length: tokens of a translation at most.
    """
    beam_settings = {"length_penalty": search.length_penalty, "early_stopping": search.early_stopping}
    return GenerationConfig(
        num_beams=search.num_beams,
        **beam_settings if search.num_beams > 1 else {},  # greedy search refuses them
        max_length=max_length,
        decoder_start_token_id=config.decoder_start_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        bad_words_ids=[[config.pad_token_id]],
    )


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
        sentences: one a row; longer ones than the tokenizer's `model_max_length` or the model's learned positions are
            cut, and their number logged.
        num_beams: 1 for greedy search; None for what the generation config says.
        batch_tokens: padded source tokens translated at once; None takes 1,024 on a CPU, where twice as many are
            slower, and 16,384 elsewhere.

    Raises:
        UserError: a sentence is no Unicode text, or the generation settings of the model do not work.
    """
    for number, text in enumerate(sentences, start=1):
        if not is_unicode(text):
            raise UserError(f"sentence {number}, {text!r}: it is not UTF-8; convert it first, for instance with iconv")
    texts = [(row, text) for row, text in enumerate(sentences) if text.strip()]
    translations = [""] * len(sentences)
    if not texts:
        return translations
    num_positions = _num_positions(model)
    ids = _source_ids(tokenizer, [text for _, text in texts], num_positions)
    search = {} if num_beams is None else {"num_beams": num_beams, "early_stopping": num_beams > 1}
    if batch_tokens is None:
        batch_tokens = 1024 if model.device.type == "cpu" else 16_384
    for batch in length_sorted_batches([len(row) for row in ids], batch_tokens):
        inputs = tokenizer.pad({"input_ids": [ids[row] for row in batch]}, return_tensors="pt").to(model.device)
        limit = min(num_positions, _length_limit(model.generation_config, inputs["input_ids"].shape[1]))
        output = _generate(model, inputs, max_length=limit, max_new_tokens=None, **search)
        for row, text in zip(batch, tokenizer.batch_decode(output, skip_special_tokens=True), strict=True):
            translations[texts[row][0]] = text
    return translations


def _num_positions(model: PreTrainedModel) -> int:
    """The most tokens that a table of learned positions has room for; no limit for models without one of ours."""
    learned = getattr(model.config, "position_embedding_type", None) == "learned"
    return model.config.max_position_embeddings if learned else NO_LIMIT


def _source_ids(tokenizer: PreTrainedTokenizerFast, texts: list[str], num_positions: int) -> list[list[int]]:
    limit = min(tokenizer.model_max_length, num_positions)
    if not 0 < limit < NO_LIMIT:
        return tokenizer(texts, return_attention_mask=False)["input_ids"]
    ids = tokenizer(texts, truncation=True, max_length=limit, return_attention_mask=False)["input_ids"]
    num_full = sum(len(row) >= limit for row in ids)
    if num_full:
        whose = "model" if limit < tokenizer.model_max_length else "tokenizer"
        logger.warning("%d of %d sentences fill the %d tokens that the %s allows", num_full, len(texts), limit, whose)
    return ids


def _generate(model: PreTrainedModel, inputs: Mapping[str, Any], **settings: Any) -> torch.Tensor:
    """The tokens of one translation for each row of the inputs, whatever the model was saved to return."""
    settings |= {"num_return_sequences": 1, "return_dict_in_generate": False}
    try:
        return model.generate(**inputs, **settings)  # type: ignore[operator]
    except torch.OutOfMemoryError as error:
        raise UserError(f"out of memory: {one_line(str(error))}; lower the batch tokens or the beams") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        name = model.name_or_path or type(model).__name__
        raise UserError(
            f"{name}: the model cannot translate: {one_line(str(error))}; "
            "the settings in its generation_config.json may be at fault"
        ) from error


def _length_limit(settings: GenerationConfig, source_length: int) -> int:
    """No translation is twice as long as its source; an untrained model would otherwise fill `max_length`."""
    most = settings.max_length if settings.max_new_tokens is None else settings.max_new_tokens + 1  # and the start
    limit = 2 * source_length + 20
    return limit if most is None else min(most, limit)
