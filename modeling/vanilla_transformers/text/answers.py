"""Answers texts with an encoder-decoder, a batch at a time, and says how likely it finds its answers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from vanilla_transformers.model.losses import IGNORE_INDEX

NO_LIMIT = 1_000_000
"""Tokens without a limit; a tokenizer without `model_max_length` says 1e30 instead."""

_SCORED_AT_ONCE = 1 << 26  # logits
_UNLIMITED = ("sinusoidal", "none")  # position embeddings of this package that no table bounds
_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")  # their positions begin there


class Answer(NamedTuple):
    """What a model answered.

    Attributes:
        text: without special tokens.
        log_probability: that of all its tokens together, the end token included; 0 where nobody asked for it.
        num_tokens: how many these are.
    """

    text: str
    log_probability: float = 0.0
    num_tokens: int = 0

    @property
    def score(self) -> float:
        """Mean log-probability of a token; 0 for an answer without tokens."""
        return self.log_probability / max(1, self.num_tokens)


def num_positions(config: PreTrainedConfig) -> int:
    """Tokens that the positions of a model are made for."""
    config = getattr(config, "encoder", config)  # of a model that is made of two
    num_rows = getattr(config, "max_position_embeddings", None)
    if num_rows is None or getattr(config, "position_embedding_type", None) in _UNLIMITED:
        return NO_LIMIT
    return num_rows - (config.pad_token_id + 1 if config.model_type in _BEHIND_PADDING else 0)


def longest_input(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of a text at most, special ones included."""
    limit = tokenizer.model_max_length or NO_LIMIT
    return int(min(limit, num_positions(model.config), NO_LIMIT))


def default_batch_tokens(model: PreTrainedModel) -> int:
    """Padded tokens of a batch: on a CPU more are no faster."""
    return 2048 if model.device.type == "cpu" else 16_384


def longest_answer(
    model: PreTrainedModel, settings: Mapping[str, Any], input_length: int, is_translation: bool
) -> dict[str, int | None]:
    """How long answers may be, as `generate` takes it; nothing if the settings say so already.

    Args:
        model: its generation config may have a limit.
        settings: what `generate` is called with.
        input_length: tokens of the longest text of the batch.
        is_translation: no translation is twice as long as its source; an untrained model would otherwise fill what the
            model allows.
    """
    if {"max_length", "max_new_tokens"} & set(settings):
        return {}
    saved = model.generation_config
    most = saved.max_length if saved.max_new_tokens is None else saved.max_new_tokens + 1  # and the start token
    guess = 2 * input_length + 20
    limit = guess if most is None else min(most, guess) if is_translation else most
    return {"max_length": min(limit, num_positions(model.config)), "max_new_tokens": None}


@torch.inference_mode()
def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[list[int]],
    settings: Mapping[str, Any],
    return_scores: bool,
) -> list[list[Answer]]:
    """The answers to each of the rows, `num_return_sequences` of them.

    Args:
        model: an encoder-decoder.
        tokenizer: its tokenizer.
        rows: token ids, special ones included.
        settings: for `generate`; one answer a row unless they say otherwise, whatever the model was saved with.
        return_scores: whether the log-probabilities are computed, which takes one more pass.
    """
    settings = {"num_return_sequences": 1} | dict(settings) | {"return_dict_in_generate": False}
    inputs = tokenizer.pad({"input_ids": rows}, return_tensors="pt").to(model.device)
    sequences = model.generate(**inputs, **settings)
    texts = tokenizer.batch_decode(sequences, skip_special_tokens=True)
    answers = [Answer(text) for text in texts]
    if return_scores:
        forced = settings.get("forced_bos_token_id", model.generation_config.forced_bos_token_id)
        scores = sequence_log_probabilities(model, inputs, sequences, skips_first=forced is not None)
        answers = [Answer(text, *score) for text, score in zip(texts, scores, strict=True)]
    count = len(answers) // len(rows)
    return [answers[start : start + count] for start in range(0, len(answers), count)]


def sequence_log_probabilities(
    model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], sequences: torch.Tensor, skips_first: bool
) -> list[tuple[float, int]]:
    """The log-probability of each sequence given its input, and the number of tokens that it is the sum over.

    That `generate` keeps the scores of every step instead would take the memory of as many logits for each beam.

    Args:
        model: an encoder-decoder.
        inputs: `input_ids` and what belongs to them, (B, S).
        sequences: (B * n, T), n for each input, each behind the start token of the decoder.
        skips_first: whether the first token behind the start was forced, and is not counted.
    """
    labels = sequences[:, 1:].clone()
    eos = model.generation_config.eos_token_id
    if eos is not None:
        is_end = torch.isin(labels, torch.as_tensor(eos, device=labels.device))
        labels[is_end.cumsum(1) - is_end.long() > 0] = IGNORE_INDEX  # padding behind the end
    if skips_first:
        labels[:, 0] = IGNORE_INDEX
    owners = torch.arange(len(sequences), device=labels.device) // (len(sequences) // len(inputs["input_ids"]))
    num_rows = max(1, _SCORED_AT_ONCE // (labels.shape[1] * model.get_output_embeddings().weight.shape[0]))
    scores: list[tuple[float, int]] = []
    for rows in torch.arange(len(sequences), device=labels.device).split(num_rows):
        batch = {name: tensor[owners[rows]] for name, tensor in inputs.items()}
        logits = model(**batch, decoder_input_ids=sequences[rows, :-1], use_cache=False).logits
        losses = nn.functional.cross_entropy(
            logits.float().transpose(1, 2), labels[rows], ignore_index=IGNORE_INDEX, reduction="none"
        )
        counts = labels[rows].ne(IGNORE_INDEX).sum(1).tolist()
        scores += zip((-losses.double().sum(1)).tolist(), counts, strict=True)
    return scores
