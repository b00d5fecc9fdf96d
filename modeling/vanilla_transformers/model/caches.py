"""The name of the cache argument: `past_key_values` up to transformers 5.23, `cache` since transformers 5.24.

`generate` passes the cache to `forward` under this name, and reads it from the outputs under the same name. A model
that uses another name than the installed transformers loses its cache without an error, and generates nonsense.
"""

import functools
import inspect
import warnings
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import torch
import transformers
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast

Forward = TypeVar("Forward", bound=Callable[..., Any])

# The name is read from the output class, because a version number may mislead for development versions and backports.
CACHE = "cache" if any(field.name == "cache" for field in fields(BaseModelOutputWithPast)) else "past_key_values"
"""The name of the cache in the installed transformers."""

NAMES = ("past_key_values", "cache")
"""Both names of the cache, for lists of arguments that are not moved to a device with the tensors of a batch."""


def under_its_name(cache: Cache | None) -> dict[str, Any]:
    """Keyword arguments that pass the cache to a layer, a model or an output; empty if `cache` is `None`."""
    return {} if cache is None else {CACHE: cache}


def takes_cache(forward: Forward) -> Forward:
    """Decorator that lets callers use either name for the parameter `past_key_values`; the signature shows `CACHE`.

    It must be the outermost decorator, because the other decorators read keyword arguments too.

    Raises:
        ValueError: If both names are given.
    """

    @functools.wraps(forward)
    def wrapped(*args, **kwargs):
        # In transformers 5.23 `cache` may be the paged cache of continuous batching, which only the kernel reads.
        if CACHE == "cache" or isinstance(kwargs.get("cache"), Cache):
            _take_either(kwargs)
        return forward(*args, **kwargs)

    signature = inspect.signature(forward)
    wrapped.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            parameter.replace(name=CACHE) if parameter.name == "past_key_values" else parameter
            for parameter in signature.parameters.values()
        ]
    )
    return wrapped  # type: ignore[return-value]


def _take_either(kwargs: dict[str, Any]) -> None:
    """Move the cache among keyword arguments to `past_key_values`."""
    names_both = "cache" in kwargs
    new, old = kwargs.pop("cache", None), kwargs.get("past_key_values")
    if old is None:
        if new is not None:
            kwargs["past_key_values"] = new
        return
    if new is not None:
        raise ValueError("cache and past_key_values are two names of one argument: give one of them")
    # `prepare_inputs_for_generation` gives both names for PEFT < 0.22, one of them as `None`. That needs no warning.
    if CACHE == "cache" and not names_both and not torch.compiler.is_compiling():
        warnings.warn("`past_key_values` is deprecated: use `cache`", FutureWarning, stacklevel=3)


def refuse_unknown_cache(kwargs: dict[str, Any]) -> None:
    """Refuse a cache that is passed under an unknown keyword.

    A single token without a cache is a valid input, so without this check the next change of the name would not be
    noticed. The paged cache of continuous batching is not a `Cache` and is let through.

    Raises:
        ValueError: If a cache has a name that is not in `NAMES`.
    """
    for name, value in kwargs.items():
        if isinstance(value, Cache) and name not in NAMES:  # encoders accept a known name, as in transformers
            raise ValueError(
                f"transformers {transformers.__version__} passes the cache as {name!r}, but this code of "
                f"vanilla_transformers accepts {' and '.join(NAMES)}, and would generate nonsense: install a newer "
                "vanilla_transformers and renew a saved folder's code with `vanilla update FOLDER`, or generate with "
                "use_cache=False"
            )
