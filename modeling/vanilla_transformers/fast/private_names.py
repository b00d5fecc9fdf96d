"""Private names of torch and transformers, each looked up once, here.

A later release may remove any of these names. No name is required at import. If a name is missing, the function of this
file that uses it reports that the fast code cannot be used. Its callers then use public functions, which take more time
and give the same result.

Shapes: M rows, K inputs, N outputs.
"""

import inspect
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, GenerationMixin

from vanilla_transformers.model.compatibility import find

_dispatch_mode = find("torch.utils._python_dispatch", "_get_current_dispatch_mode")
_functorch_level = find("torch._C", "_functorch", "peek_interpreter_stack")
_forward_ad = find("torch.autograd.forward_ad")
_linear_pointwise = find("torch", "ops", "mkldnn", "_linear_pointwise")
_add_pointwise = find("torch", "ops", "mkldnn", "_linear_pointwise", "binary")
_pack = find("torch", "ops", "mkldnn", "_reorder_linear_weight")
_has_bf16 = find("torch", "ops", "mkldnn", "_is_mkldnn_bf16_supported")
_has_global_hook = find("torch.nn.modules.module", "_has_any_global_hook")
varlen_attn: Any = find("torch.nn.attention.varlen", "varlen_attn")

_TELLS_INTERCEPTION = None not in (_dispatch_mode, _functorch_level, getattr(_forward_ad, "_current_level", None))

HAS_ONEDNN_LINEAR = _linear_pointwise is not None
"""Whether torch has oneDNN's linear operator for fp32."""
HAS_PACKED_LINEAR = None not in (_linear_pointwise, _add_pointwise, _pack)
"""Whether torch has oneDNN's linear operators with packed weights."""
_SEARCH_PARAMETERS = ["self", "input_ids", "logits_processor", "stopping_criteria", "generation_config"]
HAS_KNOWN_SEARCHES = all(
    list(inspect.signature(search).parameters)[:5] == _SEARCH_PARAMETERS
    for search in (getattr(GenerationMixin, name, None) for name in ("_sample", "_beam_search"))
    if search is not None
)
"""Whether the search methods of transformers take the arguments that our searches take. A method that transformers
does not have is ignored, because `generate` never calls it."""


def operators_are_intercepted() -> bool:
    """Whether a dispatch mode, forward-mode derivatives or a functorch transform intercepts operators.

    Also true if torch offers no way to find out.
    """
    return (
        not _TELLS_INTERCEPTION
        or _dispatch_mode() is not None
        or vars(_forward_ad)["_current_level"] >= 0
        or _functorch_level() is not None
    )


def has_packed_bf16() -> bool:
    """Whether oneDNN's linear operators with packed weights are available in bf16 on this processor."""
    return HAS_PACKED_LINEAR and _has_bf16 is not None and _has_bf16()


def onednn_linear(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: tuple[str, str] = ("none", ""),
) -> torch.Tensor:
    """activation(input @ weight.T + bias) of (M, K), (N, K) and (N,) -> (M, N), if `HAS_ONEDNN_LINEAR`.

    Args:
        activation: oneDNN's names of the activation and of its algorithm.
    """
    return _linear_pointwise(input, weight, bias, activation[0], [], activation[1])


def onednn_linear_plus(
    input: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """input @ weight.T + bias + residual (M, N), if `HAS_PACKED_LINEAR`."""
    return _add_pointwise(input, residual, weight, bias, "add")


def onednn_packed(weight: torch.Tensor, num_rows: int) -> torch.Tensor:
    """A weight (N, K), packed by oneDNN for inputs of about `num_rows` rows, if `HAS_PACKED_LINEAR`."""
    return _pack(weight, num_rows)


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether a module has forward hooks; also true if torch offers no way to find out."""
    return _any_of(module, "_forward_hooks", "_forward_pre_hooks")


def has_backward_hooks(module: nn.Module) -> bool:
    """Whether a module has backward hooks; also true if torch offers no way to find out."""
    return _any_of(module, "_backward_hooks", "_backward_pre_hooks")


def has_hooks_with_kwargs(module: nn.Module) -> bool:
    """Whether a forward pre-hook reads keyword arguments; also true if torch offers no way to find out."""
    return _any_of(module, "_forward_pre_hooks_with_kwargs")


def has_global_hooks() -> bool:
    """Whether there are hooks on all modules; also true if torch offers no way to find out."""
    return _has_global_hook is None or _has_global_hook()


def _any_of(module: nn.Module, *names: str) -> bool:
    """Whether one of a module's hook tables has an entry or is missing."""
    return any(getattr(module, name, True) for name in names)


def is_callers_cache(cache: Any) -> bool:
    """Whether transformers has marked a cache as made by the caller of `generate`."""
    return bool(getattr(cache, "_is_user_defined", False))


def special_tokens(config: GenerationConfig) -> tuple[torch.Tensor | None, torch.Tensor | None] | None:
    """The padding id and the end ids that `generate` has prepared, each a tensor or `None`; `None` if not available."""
    names = ("_pad_token_tensor", "_eos_token_tensor")
    if not all(hasattr(config, name) for name in names):
        return None
    pad, end = (getattr(config, name) for name in names)
    return pad, end
