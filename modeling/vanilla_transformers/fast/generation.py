"""Chooses between the searches of this package and those of transformers for a call of `generate`.

Our searches find the same tokens in less time. The searches of transformers run for: beam sampling, streaming, scores
or attentions in the output, stopping criteria other than length and end tokens, logits processors that combine several
sequences, a cache that the caller passes, flash and flex attention, and models on several devices.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import Cache, GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from vanilla_transformers.fast.private_names import (
    HAS_KNOWN_SEARCHES,
    is_callers_cache,
    special_tokens,
)
from vanilla_transformers.fast.search import SearchSettings, beam_search, token_search
from vanilla_transformers.fast.step_decoder import StepDecoder
from vanilla_transformers.fast.untouched import is_untouched_model
from vanilla_transformers.model.attention import attention_implementation
from vanilla_transformers.model.caches import CACHE

# Logits processors that treat each sequence independently. Our searches accept only these processors, because
# finished sentences leave the batch, and the first step scores one beam for each sentence. The classes are given by
# name: if transformers moves or renames a class, the search loops of transformers run.
_PROCESSORS = {
    "MinLengthLogitsProcessor",
    "MinNewTokensLengthLogitsProcessor",
    "RepetitionPenaltyLogitsProcessor",
    "NoRepeatNGramLogitsProcessor",
    "SequenceBiasLogitsProcessor",
    "NoBadWordsLogitsProcessor",
    "ForcedBOSTokenLogitsProcessor",
    "ForcedEOSTokenLogitsProcessor",
    "InfNanRemoveLogitsProcessor",
    "ExponentialDecayLengthPenalty",
    "SuppressTokensLogitsProcessor",
    "SuppressTokensAtBeginLogitsProcessor",
    "TemperatureLogitsWarper",
    "TopKLogitsWarper",
    "TopPLogitsWarper",
    "MinPLogitsWarper",
    "TypicalLogitsWarper",
    "EpsilonLogitsWarper",
    "EtaLogitsWarper",
}
_INPUTS = {"attention_mask", "logits_to_keep", CACHE, "use_cache"}
_ATTENTION = ("eager", "sdpa")
_FROM_CALLER = "is_from_caller_of_vanilla_generate"
"""Attribute that marks a cache which the caller of `generate` passed. The caller expects `generate` to fill this cache,
so transformers' search runs."""


def mark_callers_caches(kwargs: Mapping[str, Any]) -> None:
    """Mark the caches among the arguments of `generate`."""
    for value in kwargs.values():
        if isinstance(value, Cache):
            setattr(value, _FROM_CALLER, True)


def find_tokens(model: Any, stock_search: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Find the token ids (rows, longest length) by our search if it supports the call, else by transformers' search.

    Args:
        model: An encoder-decoder or a decoder with a language-model head.
        stock_search: The search method of transformers, which takes `args` and `kwargs`.
        args, kwargs: The arguments that `generate` has prepared for this method.
    """
    if not HAS_KNOWN_SEARCHES or not can_search(model, *args, **kwargs):
        return stock_search(*args, **kwargs)
    return find_tokens_here(model, *args, **kwargs)


def find_tokens_here(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    *_: Any,
    **kwargs: Any,
) -> torch.Tensor:
    """Find the token ids (rows, longest length) by our search."""
    processors, banned = logits_processor, None
    if not generation_config.do_sample:
        processors, banned = without_banned(logits_processor, model.config.vocab_size, input_ids.device)
    settings = search_settings(stopping_criteria, generation_config, banned)
    num_steps = settings.max_length - input_ids.shape[1]
    decoder = step_decoder(model, input_ids.long(), settings.num_beams, num_steps, **kwargs)
    return (beam_search if settings.num_beams > 1 else token_search)(decoder, processors, settings)


def step_decoder(model: Any, input_ids: torch.Tensor, num_beams: int, num_steps: int, **kwargs: Any) -> StepDecoder:
    """The decoder for inputs that `generate` has prepared: one row for each sentence instead of `num_beams` rows."""
    mask, positions, encoded = (kwargs.get(name) for name in ("attention_mask", "position_ids", "encoder_outputs"))
    states = None if encoded is None else encoded[0]
    once = (None if tensor is None else tensor[::num_beams] for tensor in (mask, positions, states))
    return StepDecoder(model, input_ids[::num_beams], num_beams, num_steps, *once)


def search_settings(criteria: Any, config: GenerationConfig, banned: torch.Tensor | None) -> SearchSettings:
    """The settings of our search for arguments that `generate` has prepared."""
    ends = next((each.eos_token_id for each in criteria if hasattr(each, "eos_token_id")), None)
    fill = (special_tokens(config) or (None, None))[0]
    if config.num_beams > 1 and not fill and ends is not None:
        fill = ends[0]  # transformers' beam search treats a padding id of 0 as missing
    return SearchSettings(
        max_length=criteria.max_length,
        ends=ends,
        fill=-1 if fill is None else int(fill),
        banned=banned,
        num_beams=config.num_beams,
        do_sample=config.do_sample,
        num_results=config.num_return_sequences,
        length_penalty=config.length_penalty,
        early_stopping=config.early_stopping,
    )


def without_banned(
    processors: LogitsProcessorList, vocab_size: int, device: torch.device
) -> tuple[LogitsProcessorList, torch.Tensor | None]:
    """If the only processor bans single tokens, replace it by the ids of these tokens.

    Our searches set the scores of banned ids to minus infinity. This avoids two copies of all scores.

    Returns:
        The processors that remain, and the ids of the banned tokens or `None`.
    """
    if len(processors) != 1 or _name(processors[0]) != "NoBadWordsLogitsProcessor":
        return processors, None
    words = list(processors[0].sequence_bias)
    if any(len(word) > 1 or word[0] >= vocab_size for word in words):
        return processors, None
    return LogitsProcessorList(), torch.tensor([word[0] for word in words], device=device) if words else None


def can_search(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: Any,
    generation_config: GenerationConfig,
    synced_gpus: bool = False,
    streamer: Any = None,
    **kwargs: Any,
) -> bool:
    """Whether our searches support all settings of a call of `generate`."""
    given = {name for name, value in kwargs.items() if value is not None}
    # In an encoder-decoder `position_ids` are the positions of the source, not of the new tokens. So our searches
    # accept `position_ids` for a decoder only.
    known = _INPUTS | {"encoder_outputs" if model.config.is_encoder_decoder else "position_ids"}
    cache = kwargs.get(CACHE)
    config, criteria = generation_config, stopping_criteria
    tokens = special_tokens(config)
    if tokens is None:
        return False
    num_ends = 0 if tokens[1] is None else len(tokens[1])
    return not (
        synced_gpus
        or (config.do_sample and config.num_beams > 1)
        or streamer is not None
        or config.return_dict_in_generate
        or config.is_assistant
        or config.low_memory
        or config.prefill_chunk_size
        or config.cache_implementation is not None
        or not config.use_cache
        or (
            cache is not None
            and (cache.get_seq_length() > 0 or hasattr(cache, _FROM_CALLER) or is_callers_cache(cache))
        )
        or given - known
        or ("attention_mask" in given and kwargs["attention_mask"].ndim != 2)
        or input_ids.device != model.device
        or input_ids.shape[1] == 0
        or not _end_as_configured(criteria, tokens[1])
        or input_ids.shape[1] >= criteria.max_length
        or not all(map(_looks_at_rows, logits_processor))
        or (num_ends + 2) * config.num_beams > model.config.vocab_size
        or attention_implementation(model.config) not in _ATTENTION
        or model.training  # dropout would draw other random numbers; gradient checkpointing turns the cache off
        or not is_untouched_model(model)
    )


def _looks_at_rows(processor: Any) -> bool:
    """Whether a processor treats each sequence independently, and stores no sequence."""
    kept = getattr(processor, "prompt_ignore_length", None)
    return _name(processor) in _PROCESSORS and not torch.is_tensor(kept)


def _name(part: Any) -> str | None:
    """The class name of a part of transformers' generation; `None` for any other object."""
    return type(part).__name__ if type(part).__module__.startswith("transformers.generation.") else None


def _end_as_configured(criteria: StoppingCriteriaList, ends: torch.Tensor | None) -> bool:
    """Whether only the maximum length and the configured end tokens end a sequence."""
    kinds = {_name(each): each for each in criteria}
    expected = {"MaxLengthCriteria"} if ends is None else {"MaxLengthCriteria", "EosTokenCriteria"}
    if set(kinds) != expected or len(criteria) != len(expected):
        return False
    return ends is None or torch.equal(kinds["EosTokenCriteria"].eos_token_id.cpu(), ends.cpu())
