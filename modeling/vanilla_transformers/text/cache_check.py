"""Whether a model of somebody else generates with a cache what it generates without.

transformers 5.24 renamed the cache. A class that was written before, and takes keyword arguments that it does not know,
loses its cache without an error and generates nonsense (see `caches`). Our classes and transformers' own are tested;
any other class is asked once, when it is loaded.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from transformers import GenerationConfig, PreTrainedModel

from vanilla_transformers.model.caches import CACHE

logger = logging.getLogger(__name__)

_NUM_TOKENS = 4
_PROMPT_LENGTH = 5
_TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-3}
_TOLERANCE = 5e-2  # of 16 bits and fewer, where a cache changes the order of sums
_SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_CHECKED = "has_checked_cache_of_vanilla_transformers"


def with_right_cache(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, which generates without a cache from now on if it is wrong with one; that is told in a line.

    Costs eight forward passes of five to eight tokens, once for each model of a class that is neither ours nor
    transformers' own.
    """
    if _is_known(model) or hasattr(model, _CHECKED):
        return model
    setattr(model, _CHECKED, True)
    if model.generation_config.use_cache is not False and not _cache_is_right(model):
        model.generation_config.use_cache = False
        logger.warning(
            "%s generates other tokens with a cache than without, under transformers %s, which passes the cache as %r: "
            "it is used without one, which is right but slow; ask its author for code that knows the name",
            *(_name(model), transformers.__version__, CACHE),
        )
    return model


def _is_known(model: PreTrainedModel) -> bool:
    return (
        type(model).__module__.startswith(("transformers.models.", "vanilla_transformers.")) or not model.can_generate()
    )


def _name(model: PreTrainedModel) -> str:
    return f"{type(model).__name__} ({type(model).__module__})"


def _cache_is_right(model: Any) -> bool:
    """Whether both ways score the next tokens alike; true where the model cannot be asked, which is told."""
    try:
        expected, logits = _continued(model, use_cache=False)
    except Exception as error:  # of code that nobody here has seen
        logger.warning("%s: its cache could not be checked (%s: %s)", _name(model), type(error).__name__, error)
        return True
    try:
        found, with_cache = _continued(model, use_cache=True)
    except Exception:
        return False
    tolerance = _TOLERANCES.get(model.dtype, _TOLERANCE)
    for step, (right, other) in enumerate(zip(logits, with_cache, strict=False)):
        if not bool((right - other).abs().max() <= tolerance * right.abs().max().clamp(min=1e-6)):
            return False
        if expected[step] != found[step]:  # two tokens that are equally likely; from here on the texts differ
            return True
    return True


@contextmanager
def _only_its_tokens(model: Any) -> Iterator[None]:
    """Within, the model's own settings of generation, such as beams or strings that end a text, do not count."""
    own = model.generation_config
    model.generation_config = GenerationConfig(**{name: getattr(own, name, None) for name in _SPECIAL_TOKENS})
    try:
        yield
    finally:
        model.generation_config = own


@torch.inference_mode()
def _continued(model: Any, use_cache: bool) -> tuple[list[int], list[torch.Tensor]]:
    """Some tokens after a prompt, and the logits (V,) of each."""
    size = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(1, _PROMPT_LENGTH + 1, device=model.device)[None] * 7919 % size
    with _only_its_tokens(model):
        outputs = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=_NUM_TOKENS,
            min_new_tokens=_NUM_TOKENS,
            do_sample=False,
            use_cache=use_cache,
            return_dict_in_generate=True,
            output_logits=True,
        )
    return outputs.sequences[0, -_NUM_TOKENS:].tolist(), [logits[0].float() for logits in outputs.logits]
