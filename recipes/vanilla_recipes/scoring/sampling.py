"""Continues texts by sampling, also beyond the maximum number of tokens that the model can read."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from vanilla_recipes.errors import UserError
from vanilla_recipes.settings.experiment import Problem
from vanilla_transformers.text.answers import NO_LIMIT, num_positions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SamplingConfig:
    """Settings of sampling; saved with the model as its generation config.

    Attributes:
        prompts: prompts of the samples at the end of a run; by default the beginnings of some validation rows.
        max_new_tokens: maximum number of new tokens of a sample.
        temperature: temperature of the softmax; 0 for greedy decoding.
        top_k: sample from the `top_k` most likely tokens; null for all tokens.
        top_p: sample from the most likely tokens whose probabilities add up to `top_p`; null for all tokens.
    """

    prompts: list[str] = field(default_factory=list)
    max_new_tokens: int = 200
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None

    def problems(self) -> Iterator[Problem]:
        if not all(prompt.strip() for prompt in self.prompts):
            yield "prompts", "must not be blank; without prompts validation rows are continued"
        if self.max_new_tokens < 1:
            yield "max_new_tokens", "must be 1 or greater"
        if not 0 <= self.temperature <= 100:
            yield "temperature", "must be between 0, which always takes the most likely token, and 100"
        if self.top_k is not None and self.top_k < 1:
            yield "top_k", "must be 1 or greater, or null for all tokens"
        if self.top_p is not None and not 0 < self.top_p <= 1:
            yield "top_p", "must be greater than 0 and at most 1, or null for all tokens"


def generation_config(
    sampling: SamplingConfig, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, ends: bool
) -> GenerationConfig:
    """Returns the generation config that is saved with the model.

    Args:
        sampling: settings of sampling.
        config: configuration of the model.
        tokenizer: tokenizer of the model.
        ends: whether the training rows have an end-of-text token. If false, generation suppresses this token, because
            its probability is arbitrary.
    """
    draw = {"temperature": sampling.temperature, "top_k": sampling.top_k or 0, "top_p": sampling.top_p or 1.0}
    limits = {"max_new_tokens": sampling.max_new_tokens}
    most = num_positions(config)
    if most < NO_LIMIT:  # the position table limits prompt and new tokens together
        limits = {"max_length": most}
    no_text = {tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id} - {None}
    if ends:
        no_text -= {tokenizer.eos_token_id}
    pad_token_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return GenerationConfig(
        do_sample=sampling.temperature > 0,
        **draw if sampling.temperature else {},  # transformers does not save sampling settings with greedy search
        **limits,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=pad_token_id,
        suppress_tokens=sorted(no_text) or None,
    )


def encode_prompts(prompts: Sequence[str], tokenizer: PreTrainedTokenizerFast, context: int) -> list[list[int]]:
    """Encodes prompts without truncation; the number of prompts longer than `context` tokens is logged.

    Raises:
        UserError: If the tokenizer has no token for a part of a prompt.
    """
    found = [tokenizer(prompt, verbose=False)["input_ids"] for prompt in prompts]
    unknown = {tokenizer.unk_token_id} - {None, tokenizer.eos_token_id}
    for prompt, ids in zip(prompts, found, strict=True):
        if unknown & set(ids):
            raise UserError(
                f"generation.prompts: the tokenizer has no token for a part of {prompt!r}, which the training text "
                "lacks; change the prompt, or continue validation rows with generation.prompts=[]"
            )
    num_long = sum(len(ids) > context for ids in found)
    if num_long:
        logger.warning(
            "%d of %d generation.prompts are longer than data.block_size=%d tokens: the model reads only their ends",
            num_long, len(found), context,
        )  # fmt: skip
    return found


def draw_samples(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    context: int,
    seed: int,
) -> list[str]:
    """Samples a continuation of each prompt.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompts: token ids of the prompts, at least one token each.
        max_new_tokens: maximum number of new tokens.
        context: see `continue_ids`.
        seed: random seed of the first sample; every further sample adds 1.

    Returns:
        Texts of prompt and continuation, below a heading with the number of the sample and the prompt.
    """
    samples = []
    for number, ids in enumerate(prompts):
        torch.manual_seed(seed + number)
        known = [*ids, *continue_ids(model, ids, max_new_tokens, context)]
        prompt, text = tokenizer.batch_decode([list(ids), known], skip_special_tokens=True)
        samples.append(f"=== {number + 1}, after {json.dumps(prompt, ensure_ascii=False)}\n{text}\n")
    return samples


@torch.inference_mode()
def continue_ids(model: PreTrainedModel, ids: Sequence[int], max_new_tokens: int, context: int) -> list[int]:
    """Returns new tokens that follow `ids`, sampled with the generation config of the model.

    Sampling stops after an end-of-text token or `max_new_tokens` tokens.

    Args:
        model: a causal language model.
        ids: token ids of the prompt, at least one.
        max_new_tokens: maximum number of new tokens.
        context: maximum number of tokens that the model reads. When the text has `context` tokens, generation
            continues from the last half of these tokens.
    """
    eos_token_id = model.generation_config.eos_token_id
    ends = eos_token_id if isinstance(eos_token_id, list) else [eos_token_id]
    known = list(ids)
    end = len(known) + max_new_tokens
    while len(known) < end:
        window = known[-context // 2 :] if len(known) >= context else known
        length = min(context, len(window) + end - len(known))
        inputs = torch.tensor([window], device=model.device)
        settings = {"attention_mask": torch.ones_like(inputs), "max_length": length, "max_new_tokens": None}
        output = model.generate(inputs, **settings)
        known += output[0, len(window) :].tolist()
        if known[-1] in ends:
            break
    return known[len(ids) :]
