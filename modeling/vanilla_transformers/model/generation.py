"""`generate` of transformers, with what our models add to it."""

import functools
from importlib.metadata import version
from typing import Any

from packaging.version import Version
from transformers import GenerationMixin

from .caches import CACHE
from .operations import OPERATIONS


class VanillaGenerationMixin(GenerationMixin):
    """transformers' `generate`; `OPERATIONS.search` may find the tokens in less time than its loops."""

    @functools.wraps(GenerationMixin.generate)
    def generate(self: Any, *args, **kwargs):
        OPERATIONS.before_generate(kwargs)
        return super().generate(*args, **kwargs)

    # As of transformers' own: whoever needs gradients calls what stands below its `torch.no_grad`.
    generate.__wrapped__ = getattr(GenerationMixin.generate, "__wrapped__", GenerationMixin.generate)

    @functools.wraps(GenerationMixin.prepare_inputs_for_generation)  # `generate` looks arguments up in its signature
    def prepare_inputs_for_generation(self: Any, *args, **kwargs):
        inputs = super().prepare_inputs_for_generation(*args, **kwargs)
        if CACHE in inputs and is_prompted_by_old_peft(self):
            inputs["past_key_values"], inputs[CACHE] = inputs[CACHE], None
        return inputs

    def _sample(self: Any, *args, **kwargs):
        return OPERATIONS.search(self, super()._sample, *args, **kwargs)

    def _beam_search(self: Any, *args, **kwargs):
        return OPERATIONS.search(self, super()._beam_search, *args, **kwargs)


def is_prompted_by_old_peft(model: Any) -> bool:
    """Whether a PEFT that knows the cache as `past_key_values` alone puts learned prompts before a decoder's input.

    Without the cache it takes each step for the first, and puts them before each new token. This can go when no PEFT
    below 0.22 is allowed.
    """
    if CACHE == "past_key_values":
        return False
    peft_model = getattr(vars(model).get("prepare_inputs_for_generation"), "__self__", None)
    is_prompted = getattr(getattr(peft_model, "active_peft_config", None), "is_prompt_learning", False)
    return is_prompted and Version(version("peft")) < Version("0.22")
