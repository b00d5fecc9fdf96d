"""Generates answers to batches of texts with an encoder-decoder, and computes their log-probabilities."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from vanilla_transformers.model.losses import IGNORE_INDEX

NO_LIMIT = 1_000_000
"""The number of tokens that means "no limit". A tokenizer without `model_max_length` reports 1e30 instead."""

_SCORED_AT_ONCE = 1 << 26  # maximum number of logits of a forward pass that scores answers: 256 MiB in fp32
_UNLIMITED = ("sinusoidal", "none")  # values of position_embedding_type that do not limit the length
# Model types whose first position is pad_token_id + 1.
_BEHIND_PADDING = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "mpnet",
)


class Answer(NamedTuple):
    """An answer of a model.

    Attributes:
        text: the answer without special tokens.
        log_probability: the sum of the log-probabilities of its tokens in nats; 0 if it was not computed. The end token
            counts, a forced first token does not.
        num_tokens: the number of tokens in the sum.
    """

    text: str
    log_probability: float = 0.0
    num_tokens: int = 0

    @property
    def score(self) -> float:
        """The mean log-probability of a token in nats; 0 for an answer without tokens."""
        return self.log_probability / max(1, self.num_tokens)


def num_positions(config: PreTrainedConfig) -> int:
    """The largest number of tokens for which a model has positions, or `NO_LIMIT`."""
    config = getattr(config, "encoder", config)  # an EncoderDecoderModel has a config for each side
    num_rows = getattr(config, "max_position_embeddings", None)
    if num_rows is None or getattr(config, "position_embedding_type", None) in _UNLIMITED:
        return NO_LIMIT
    return num_rows - (config.pad_token_id + 1 if config.model_type in _BEHIND_PADDING else 0)


def longest_input(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The largest number of tokens of an input text, special tokens included."""
    limit = tokenizer.model_max_length or NO_LIMIT
    return int(min(limit, num_positions(model.config), NO_LIMIT))


def default_batch_tokens(model: PreTrainedModel) -> int:
    """The default number of tokens of a batch, padding included. On a CPU, larger batches are not faster."""
    return 2048 if model.device.type == "cpu" else 16_384


def longest_answer(
    model: PreTrainedModel, settings: Mapping[str, Any], input_length: int, is_translation: bool
) -> dict[str, int | None]:
    """The length limit of the answers as settings of `generate`; empty if `settings` has a limit.

    Args:
        model: an encoder-decoder, whose generation config may have a limit.
        settings: the settings that `generate` is called with.
        input_length: the number of tokens of the longest text of the batch.
        is_translation: whether answers are also limited to twice the input length plus 20 tokens. Translations are not
            longer than that, and an untrained model would otherwise always generate up to the limit of the model. If
            the generation config has no limit, this limit applies to all tasks.
    """
    if {"max_length", "max_new_tokens"} & set(settings):
        return {}
    saved = model.generation_config
    # max_length counts the start token, max_new_tokens does not.
    most = saved.max_length if saved.max_new_tokens is None else saved.max_new_tokens + 1
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
    """Generates `num_return_sequences` answers to each row.

    Args:
        model: an encoder-decoder.
        tokenizer: the tokenizer of the model.
        rows: the token ids of each text, special tokens included.
        settings: settings of `generate`. If `num_return_sequences` is missing, it is 1, even if the generation
            config sets another number.
        return_scores: whether the log-probabilities are computed, which takes another forward pass.

    Returns:
        A list of answers for each row.
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
    """The log-probability of each sequence given its input, in nats, and the number of tokens in the sum.

    The logits are computed again in one forward pass. Keeping them during `generate` would store the logits of every
    step for every beam.

    Args:
        model: an encoder-decoder.
        inputs: `input_ids`, `attention_mask` and other inputs, (B, S).
        sequences: (B * n, T), n sequences for each input. A sequence begins with the start token of the decoder.
        skips_first: whether the token after the start token was forced, and is left out of the sum.

    Returns:
        A pair for each sequence: the log-probability and the number of tokens.
    """
    labels = sequences[:, 1:].clone()
    eos = model.generation_config.eos_token_id
    if eos is not None:
        is_end = torch.isin(labels, torch.as_tensor(eos, device=labels.device))
        labels[is_end.cumsum(1) - is_end.long() > 0] = IGNORE_INDEX  # all tokens after the end token are padding
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
