"""Private names of torch and transformers, each asked for once, here.

A release may take any of them away. No name is needed at import: where one is missing, a function answers that what it
stands for is not available, and its callers go the public way, which takes more time and gives the same result.

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
"""Whether torch gives oneDNN's product of fp32."""
HAS_PACKED_LINEAR = None not in (_linear_pointwise, _add_pointwise, _pack)
"""Whether torch gives oneDNN's products with weights that stay laid out for them."""
_SEARCH_PARAMETERS = ["self", "input_ids", "logits_processor", "stopping_criteria", "generation_config"]
HAS_KNOWN_SEARCHES = all(
    list(inspect.signature(search).parameters)[:5] == _SEARCH_PARAMETERS
    for search in (getattr(GenerationMixin, name, None) for name in ("_sample", "_beam_search"))
    if search is not None
)
"""Whether `generate` calls its loops with the arguments that ours take; one that is gone it does not call at all."""


def operators_are_intercepted() -> bool:
    """Whether something sees or changes each operator: a dispatch mode, forward derivatives, a functorch transform.

    True as well where torch does not tell.
    """
    return (
        not _TELLS_INTERCEPTION
        or _dispatch_mode() is not None
        or vars(_forward_ad)["_current_level"] >= 0
        or _functorch_level() is not None
    )


def has_packed_bf16() -> bool:
    """Whether oneDNN's products with packed weights are there and multiply in bf16 on this processor."""
    return HAS_PACKED_LINEAR and _has_bf16 is not None and _has_bf16()


def onednn_linear(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: tuple[str, str] = ("none", ""),
) -> torch.Tensor:
    """activation(input @ weight.T + bias) of (M, K), (N, K) and (N,) -> (M, N), if `HAS_ONEDNN_LINEAR`.

    Args:
        activation: oneDNN's name of it, and of its algorithm.
    """
    return _linear_pointwise(input, weight, bias, activation[0], [], activation[1])


def onednn_linear_plus(
    input: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """input @ weight.T + bias + residual, likewise, if `HAS_PACKED_LINEAR`; `residual` is (M, N)."""
    return _add_pointwise(input, residual, weight, bias, "add")


def onednn_packed(weight: torch.Tensor, num_rows: int) -> torch.Tensor:
    """A weight (N, K) laid out as oneDNN needs it for about `num_rows` rows, if `HAS_PACKED_LINEAR`."""
    return _pack(weight, num_rows)


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether a call of the module does more than its `forward`; true as well where torch does not tell."""
    return _any_of(module, "_forward_hooks", "_forward_pre_hooks")


def has_backward_hooks(module: nn.Module) -> bool:
    """The same of its gradients."""
    return _any_of(module, "_backward_hooks", "_backward_pre_hooks")


def has_hooks_with_kwargs(module: nn.Module) -> bool:
    """Whether something reads the keyword arguments of the module; true as well where torch does not tell."""
    return _any_of(module, "_forward_pre_hooks_with_kwargs")


def has_global_hooks() -> bool:
    """Whether something hooks the modules of all models; true as well where torch does not tell."""
    return _has_global_hook is None or _has_global_hook()


def _any_of(module: nn.Module, *names: str) -> bool:
    """Whether one of the module's tables has an entry or is not there."""
    return any(getattr(module, name, True) for name in names)


def is_callers_cache(cache: Any) -> bool:
    """Whether transformers' own mark says that the caller of `generate` has made a cache."""
    return bool(getattr(cache, "_is_user_defined", False))


def special_tokens(config: GenerationConfig) -> tuple[torch.Tensor | None, torch.Tensor | None] | None:
    """Padding id and end ids as `generate` has prepared them, each a tensor or `None`; `None` if it does not tell."""
    names = ("_pad_token_tensor", "_eos_token_tensor")
    if not all(hasattr(config, name) for name in names):
        return None
    pad, end = (getattr(config, name) for name in names)
    return pad, end
