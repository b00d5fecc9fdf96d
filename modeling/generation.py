"""`generate` with searches of our own behind it, which find the tokens that transformers' loops find in less time."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import logits_process
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria

from .search import SearchSettings, beam_search, token_search
from .step_decoder import StepDecoder

# What looks at each sequence by itself: a sequence may leave the batch, and beams stand alone at first.
_PROCESSORS = (
    logits_process.MinLengthLogitsProcessor,
    logits_process.MinNewTokensLengthLogitsProcessor,
    logits_process.RepetitionPenaltyLogitsProcessor,
    logits_process.NoRepeatNGramLogitsProcessor,
    logits_process.SequenceBiasLogitsProcessor,
    logits_process.NoBadWordsLogitsProcessor,
    logits_process.ForcedBOSTokenLogitsProcessor,
    logits_process.ForcedEOSTokenLogitsProcessor,
    logits_process.InfNanRemoveLogitsProcessor,
    logits_process.ExponentialDecayLengthPenalty,
    logits_process.SuppressTokensLogitsProcessor,
    logits_process.SuppressTokensAtBeginLogitsProcessor,
    logits_process.TemperatureLogitsWarper,
    logits_process.TopKLogitsWarper,
    logits_process.TopPLogitsWarper,
    logits_process.MinPLogitsWarper,
    logits_process.TypicalLogitsWarper,
    logits_process.EpsilonLogitsWarper,
    logits_process.EtaLogitsWarper,
)
_INPUTS = {"attention_mask", "logits_to_keep", "past_key_values", "use_cache"}
_ATTENTION = ("eager", "sdpa")


class VanillaGenerationMixin(GenerationMixin):
    """transformers' `generate`, whose loops are ours unless something is asked that only its own do.

    These are: beams that are drawn, streaming, scores or attentions beside the tokens, stopping by anything but length
    and end token, processors of logits that see several sequences at once, a cache of the caller's, flash and flex
    attention, and models that are spread over devices.
    """

    def _sample(self: Any, *args, **kwargs):
        return find_tokens(self, super()._sample, *args, **kwargs)  # type: ignore[misc]

    def _beam_search(self: Any, *args, **kwargs):
        return find_tokens(self, super()._beam_search, *args, **kwargs)  # type: ignore[misc]


def find_tokens(
    model: Any,
    stock_search: Callable[..., Any],
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """What `generate` has prepared, searched here or else by transformers.

    Args:
        model: an encoder-decoder or a decoder with a language-model head.
        stock_search: transformers' method, which takes what follows.
    """
    prepared = (input_ids, logits_processor, stopping_criteria, generation_config, *args)
    if not is_plain(model, *prepared, **kwargs):
        return stock_search(*prepared, **kwargs)
    processors, banned = logits_processor, None
    if not generation_config.do_sample:
        processors, banned = without_banned(logits_processor, model.config.vocab_size, input_ids.device)
    settings = search_settings(stopping_criteria, generation_config, banned)
    num_steps = settings.max_length - input_ids.shape[1]
    decoder = step_decoder(model, input_ids.long(), settings.num_beams, num_steps, **kwargs)
    return (beam_search if settings.num_beams > 1 else token_search)(decoder, processors, settings)


def step_decoder(model: Any, input_ids: torch.Tensor, num_beams: int, num_steps: int, **kwargs: Any) -> StepDecoder:
    """The decoder of what `generate` has prepared, one row of it for each of its `num_beams` equal ones."""
    mask, positions, encoded = (kwargs.get(name) for name in ("attention_mask", "position_ids", "encoder_outputs"))
    states = None if encoded is None else encoded[0]
    once = (None if tensor is None else tensor[::num_beams] for tensor in (mask, positions, states))
    return StepDecoder(model, input_ids[::num_beams], num_beams, num_steps, *once)


def search_settings(criteria: Any, config: GenerationConfig, banned: torch.Tensor | None) -> SearchSettings:
    """What is searched for, of what `generate` has prepared."""
    ends = next((each.eos_token_id for each in criteria if hasattr(each, "eos_token_id")), None)
    fill = config._pad_token_tensor
    if config.num_beams > 1 and not fill and ends is not None:
        fill = ends[0]  # to beam search in transformers a padding id of 0 is none
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
    """Processors that only ban some tokens make two copies of all scores; these tokens instead, where that is all."""
    if len(processors) != 1 or type(processors[0]) is not logits_process.NoBadWordsLogitsProcessor:
        return processors, None
    words = list(processors[0].sequence_bias)
    if any(len(word) > 1 or word[0] >= vocab_size for word in words):
        return processors, None
    return LogitsProcessorList(), torch.tensor([word[0] for word in words], device=device) if words else None


def is_plain(
    model: Any,
    input_ids: torch.Tensor,
    processors: LogitsProcessorList,
    criteria: Any,
    config: GenerationConfig,
    synced_gpus: bool = False,
    streamer: Any = None,
    **kwargs: Any,
) -> bool:
    """Whether the searches here do all that is asked."""
    given = {name for name, value in kwargs.items() if value is not None}
    # An encoder's positions are in what it has returned, and are not those of the targets.
    known = _INPUTS | {"encoder_outputs" if model.config.is_encoder_decoder else "position_ids"}
    cache = kwargs.get("past_key_values")
    num_ends = 0 if config._eos_token_tensor is None else len(config._eos_token_tensor)
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
        or (cache is not None and (cache.get_seq_length() > 0 or getattr(cache, "_is_user_defined", False)))
        or given - known
        or ("attention_mask" in given and kwargs["attention_mask"].ndim != 2)
        or input_ids.device != model.device
        or input_ids.shape[1] == 0
        or not _end_as_configured(criteria, config)
        or input_ids.shape[1] >= criteria.max_length
        or not all(map(_looks_at_rows, processors))
        or (num_ends + 2) * config.num_beams > model.config.vocab_size
        or model.config._attn_implementation not in _ATTENTION
        or model.training  # other shapes draw other numbers for dropout; gradient checkpointing drops the cache
        or _is_changed(model)
    )


def _looks_at_rows(processor: Any) -> bool:
    """Whether a processor looks at each sequence by itself, and keeps nothing of any."""
    kept = getattr(processor, "prompt_ignore_length", None)
    return type(processor) in _PROCESSORS and not torch.is_tensor(kept)


def _end_as_configured(criteria: StoppingCriteriaList, config: GenerationConfig) -> bool:
    """Whether nothing but one length and the configured end tokens ends a sequence."""
    kinds = sorted(type(each).__name__ for each in criteria)
    if config._eos_token_tensor is None:
        return kinds == [MaxLengthCriteria.__name__]
    ends = [each.eos_token_id for each in criteria if isinstance(each, EosTokenCriteria)]
    return kinds == [EosTokenCriteria.__name__, MaxLengthCriteria.__name__] and torch.equal(
        ends[0].cpu(), config._eos_token_tensor.cpu()
    )


def _is_changed(model: Any) -> bool:
    """Whether something acts where the searches do not pass, or on rows that they take away.

    That is a method of a subclass or an instance, as PEFT's prompts have it, a shard, a hook of what is not called
    here, or one that reads keyword arguments, as those of PEFT that give each row an adapter of its own.
    """
    passed_by = [model, model.model, model.lm_head]
    if model.config.is_encoder_decoder:
        passed_by.append(model.model.decoder)
    return (
        VanillaGenerationMixin not in type(model).__bases__
        or any(map(_has_own_ways, passed_by))
        or any(module._forward_pre_hooks_with_kwargs for module in model.modules())
        or _is_rearranged(passed_by[-1] if model.config.is_encoder_decoder else model.model)
    )


def _is_rearranged(stack: Any) -> bool:
    """Whether layers were taken out or exchanged, and do not stand where their caches are."""
    return any(
        attention.layer_idx != number
        for number, layer in enumerate(stack.layers)
        for name, attention in layer.named_children()
        if name in ("self_attn", "cross_attn")
    )


def _has_own_ways(module: Any) -> bool:
    methods = {
        "forward",
        "decode",
        "embed",
        "prepare_inputs_for_generation",
        "_update_model_kwargs_for_generation",
        "_hf_hook",
    }
    return bool(module._forward_hooks or module._forward_pre_hooks or methods & vars(module).keys())
