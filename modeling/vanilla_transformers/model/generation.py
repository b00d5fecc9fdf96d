"""`generate` of transformers, with hooks for faster searches and for older releases of PEFT."""

import functools
from importlib.metadata import version
from typing import Any

from packaging.version import Version
from transformers import GenerationMixin

from .caches import CACHE
from .operations import OPERATIONS


class VanillaGenerationMixin(GenerationMixin):
    """transformers' `generate`, whose search loops may be replaced by `OPERATIONS.search`."""

    @functools.wraps(GenerationMixin.generate)
    def generate(self: Any, *args, **kwargs):
        OPERATIONS.before_generate(kwargs)
        return super().generate(*args, **kwargs)

    # As in transformers, `__wrapped__` is the function without `torch.no_grad`, for callers that need gradients.
    generate.__wrapped__ = getattr(GenerationMixin.generate, "__wrapped__", GenerationMixin.generate)

    @functools.wraps(GenerationMixin.prepare_inputs_for_generation)  # `generate` inspects this signature
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
    """Whether PEFT < 0.22 adds learned prompts (prefix, prompt or P-tuning) to a decoder's input.

    These versions look for the cache as `past_key_values`. Without it they treat each step as the first step, and add
    the prompts before each new token. Can be removed when PEFT < 0.22 is no longer allowed.
    """
    if CACHE == "past_key_values":
        return False
    peft_model = getattr(vars(model).get("prepare_inputs_for_generation"), "__self__", None)
    is_prompted = getattr(getattr(peft_model, "active_peft_config", None), "is_prompt_learning", False)
    return is_prompted and Version(version("peft")) < Version("0.22")
