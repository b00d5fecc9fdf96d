"""Checks whether a model class from elsewhere generates the same tokens with a cache as without.

transformers 5.24 renamed the cache argument (see `model/caches.py`). A class that uses only the old name and accepts
unknown keyword arguments loses its cache without an error, and generates nonsense. Tests cover the classes of this
package and of transformers. A model of any other class is checked once, when it is loaded.
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
# Largest allowed difference of the logits of a step, divided by the largest absolute logit.
_TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-3}
_TOLERANCE = 5e-2  # for dtypes of 16 bits or fewer: a cache changes the order of sums, and so the rounding
_SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_CHECKED = "has_checked_cache_of_vanilla_transformers"


def with_right_cache(model: PreTrainedModel) -> PreTrainedModel:
    """Turns the cache of a model off, with a warning, if the model generates wrong tokens with a cache.

    The check costs eight forward passes of at most eight tokens. It runs once for each model whose class is neither
    from this package nor from transformers.

    Returns:
        The same model.
    """
    if _is_known(model) or hasattr(model, _CHECKED):
        return model
    setattr(model, _CHECKED, True)
    if model.generation_config.use_cache is not False and not _cache_is_right(model):
        model.generation_config.use_cache = False
        logger.warning(
            "%s generates other tokens with a cache than without, under transformers %s, which passes the cache as %r: "
            "the model runs without a cache, correctly but slowly; ask the author of its code to support this name",
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
    """Whether the next tokens have the same logits with a cache as without.

    True, with a warning, if the model cannot generate without a cache either.
    """
    try:
        expected, logits = _continued(model, use_cache=False)
    except Exception as error:  # the code of a model class from elsewhere may raise any exception
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
        # If two tokens are almost equally likely, the texts may differ from here on. Later logits are not comparable.
        if expected[step] != found[step]:
            return True
    return True


@contextmanager
def _only_its_tokens(model: Any) -> Iterator[None]:
    """Context in which `generate` uses only the special tokens of the model: no beams, sampling or stop strings."""
    own = model.generation_config
    model.generation_config = GenerationConfig(**{name: getattr(own, name, None) for name in _SPECIAL_TOKENS})
    try:
        yield
    finally:
        model.generation_config = own


@torch.inference_mode()
def _continued(model: Any, use_cache: bool) -> tuple[list[int], list[torch.Tensor]]:
    """Generates some tokens after a fixed prompt. Returns their ids and the logits (V,) of each step."""
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
