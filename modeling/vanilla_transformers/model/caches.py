"""The name of the cache, which transformers changed: `past_key_values` up to 5.23, `cache` since 5.24.

`generate` hands the cache to `forward` under that name and looks for it under the same name in the outputs. A model
that knows another name than the installed transformers loses its cache without an error, and generates nonsense.
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

# What the outputs have, not a version number: it holds for development versions and for backports too.
CACHE = "cache" if any(field.name == "cache" for field in fields(BaseModelOutputWithPast)) else "past_key_values"
"""The name under which the installed transformers passes a cache and finds it in the outputs."""

NAMES = ("past_key_values", "cache")
"""Both names, for lists of what is no tensor of a batch."""


def under_its_name(cache: Cache | None) -> dict[str, Any]:
    """The cache as a keyword argument of a layer, a model or an output; no argument where there is none."""
    return {} if cache is None else {CACHE: cache}


def takes_cache(forward: Forward) -> Forward:
    """Lets callers of a `forward` with the parameter `past_key_values` use either name; its signature shows `CACHE`.

    Stands above all other decorators, which read keyword arguments too.

    Raises:
        ValueError: Both names are given.
    """

    @functools.wraps(forward)
    def wrapped(*args, **kwargs):
        # transformers 5.23 passes pages (continuous batching) as `cache` beside a cache: these are for the kernel.
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
    """Puts the cache among keyword arguments under the parameter's name."""
    names_both = "cache" in kwargs
    new, old = kwargs.pop("cache", None), kwargs.get("past_key_values")
    if old is None:
        if new is not None:
            kwargs["past_key_values"] = new
        return
    if new is not None:
        raise ValueError("cache and past_key_values are two names of one argument: give one of them")
    # Who names both, one of them `None`, knows the new one: `prepare_inputs_for_generation` for an older PEFT.
    if CACHE == "cache" and not names_both and not torch.compiler.is_compiling():
        warnings.warn("`past_key_values` is deprecated: use `cache`", FutureWarning, stacklevel=3)


def refuse_unknown_cache(kwargs: dict[str, Any]) -> None:
    """Refuses a cache among keyword arguments that no signature names.

    One token without a cache is a legal input, so the next change of the name would not be noticed otherwise. Pages of
    continuous batching are no `Cache` and pass.

    Raises:
        ValueError: There is one.
    """
    for name, value in kwargs.items():
        if isinstance(value, Cache) and name not in NAMES:  # an encoder ignores it, as transformers' own do
            raise ValueError(
                f"transformers {transformers.__version__} passes the cache as {name!r}, but this code of "
                f"vanilla_transformers knows {' and '.join(NAMES)}, and would generate nonsense: install a newer "
                "vanilla_transformers and renew a saved folder's code with `vanilla update FOLDER`, or generate with "
                "use_cache=False"
            )
