"""Reads attention weights and switches heads off while a model runs on sdpa. This code is not saved with models.

This works for every model class that uses transformers' attention interface, not only for classes of this package.

Shapes: B batch, T queries, S keys, H heads, K head width.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel

from vanilla_transformers.model.attention import attention_implementation

PROBED = "sdpa_probed"
KINDS = ("encoder", "decoder", "cross")
"""Kinds of attention: self attention of an encoder, self attention of a decoder, and cross attention."""

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
_CROSS = re.compile(r"cross_?att|encoder_attn|EncDecAttention")
_NUM_HEADS = ("num_heads", "num_attention_heads", "n_heads")


class AttentionMapError(ValueError):
    """A model, a text or a choice of heads has no attention maps. The message names the way out in one line."""


class Head(NamedTuple):
    """An attention head. `kind` is one of `KINDS`; `layer` and `head` count from 0."""

    kind: str
    layer: int
    head: int


class Site(NamedTuple):
    """An attention module of a layer.

    Attributes:
        kind: one of `KINDS`.
        layer: the number of the layer, from 0.
        num_heads: the number of heads, H.
        module: the module that calls the attention function.
    """

    kind: str
    layer: int
    num_heads: int
    module: nn.Module


@dataclass(eq=False)
class Probe:
    """A request to one attention module for a forward pass, and its result.

    Attributes:
        heads: the heads whose attention weights are computed.
        off: (B, H), true where the output of a head is replaced by zeros; or `None`.
        weights: the attention weights (B, len(heads), T, S) in fp32 after the pass; `None` before.
    """

    heads: Sequence[int] = ()
    off: torch.Tensor | None = None
    weights: torch.Tensor | None = None


_PROBES: WeakKeyDictionary[nn.Module, Probe] = WeakKeyDictionary()


def attention_sites(model: PreTrainedModel) -> list[Site]:
    """The attention modules in the layers of a model, sorted by kind (in the order of `KINDS`) and layer.

    Raises:
        AttentionMapError: If the class does not use transformers' attention interface.
    """
    submodels = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    names = {name: module for name, module in model.named_modules() if _is_attention(module) and _LAYER.search(name)}
    if not names or not all(map(_lets_kernels_be_set, submodels)):
        raise AttentionMapError(
            f"{type(model).__name__} has no layers that go through transformers' attention interface, which the "
            "maps need; `vanilla import` converts many such models to models of this package"
        )
    sites = [
        Site(_kind(name, module), int(_LAYER.search(name)[1]), _num_heads(module), module)  # type: ignore[index]
        for name, module in names.items()
    ]
    return sorted(sites, key=lambda site: (KINDS.index(site.kind), site.layer))


def _lets_kernels_be_set(model: PreTrainedModel) -> bool:
    """Whether transformers can set the attention implementation of the class.

    If the installed version of transformers cannot tell, the result is true, and `probing` detects a module that
    ignores the setting.
    """
    return getattr(model, "_can_set_attn_implementation", lambda: True)()


def _is_attention(module: nn.Module) -> bool:
    """Whether a module is an innermost attention module, such as `BertSelfAttention` inside `BertAttention`."""
    named = [part for part in module.modules() if "Attention" in type(part).__name__]
    return named == [module]


def _kind(name: str, module: nn.Module) -> str:
    if _CROSS.search(name):
        return "cross"
    # transformers' sdpa treats a module without `is_causal` as causal.
    return "decoder" if getattr(module, "is_causal", True) or "decoder" in name.split(".") else "encoder"


def _num_heads(module: nn.Module) -> int:
    owners = (module, getattr(module, "config", None))
    return next(getattr(owner, name) for owner in owners for name in _NUM_HEADS if hasattr(owner, name))


@contextmanager
def probing(model: PreTrainedModel, probes: Mapping[nn.Module, Probe]) -> Iterator[None]:
    """Runs the model on sdpa with probes within the block, and then restores its attention implementation.

    Args:
        model: the model.
        probes: the probe of each attention module.

    Raises:
        AttentionMapError: At the end of the block, if a module did not compute the weights that its probe requests.
    """
    before = [(config, attention_implementation(config)) for config in _configs(model)]
    _PROBES.update(probes)
    try:
        for config, _ in before:
            config._attn_implementation = PROBED
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name
        for module in probes:
            _PROBES.pop(module, None)
    for module, probe in probes.items():
        if probe.heads and probe.weights is None:
            raise AttentionMapError(
                f"{type(module).__name__} of {type(model).__name__} does not go through transformers' attention "
                "interface, which the maps need"
            )


def _configs(model: PreTrainedModel) -> list[PreTrainedConfig]:
    """The configs of a model and its submodels, outer configs first, because they also set their inner configs."""
    found: dict[int, PreTrainedConfig] = {}
    queue = [module.config for module in model.modules() if isinstance(module, PreTrainedModel)]
    while queue:
        config = queue.pop(0)
        if id(config) not in found:
            found[id(config)] = config
            parts = (getattr(config, name, None) for name in config.sub_configs)
            queue += [part for part in parts if part is not None]
    return list(found.values())


def probed_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Computes attention with sdpa, stores the requested weights in the module's probe, and switches heads off.

    Args:
        module: the attention module.
        query: (B, H, T, K).
        key, value: (B, H or a divisor of H, S, K).
        attention_mask: a mask in the format of sdpa, or `None`.
        scaling: the factor of the scores; by default 1 / sqrt(K).

    Returns:
        The attended values (B, T, H, K), and `None` instead of weights.

    Raises:
        AttentionMapError: If the attention is more than a softmax, or one module serves several layers.
    """
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise AttentionMapError(
            f"{type(module).__name__} attends by more than a softmax (softcap or sinks), which sdpa and the maps lack"
        )
    attended, _ = AttentionInterface()["sdpa"](module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    probe = _PROBES.get(module)
    if probe is None:
        return attended, None
    if probe.heads and probe.weights is not None:
        raise AttentionMapError(
            f"one {type(module).__name__} serves several layers of this model, so their maps would overwrite each other"
        )
    if probe.heads:
        probe.weights = head_weights(module, query, key, attention_mask, scaling, probe.heads, **kwargs)
    if probe.off is not None:
        attended = attended.masked_fill(probe.off[:, None, :, None], 0)
    return attended, None


def head_weights(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None,
    heads: Sequence[int],
    is_causal: bool | None = None,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> torch.Tensor:
    """The weights softmax(Q K^T * scaling + mask) of some heads, as the eager implementations compute them, in fp32.

    Args:
        module: the attention module, whose `is_causal` is used if the argument `is_causal` is `None`.
        query: (B, H, T, K).
        key: (B, H or a divisor of H, S, K).
        attention_mask: (B, 1 or H, T, S), boolean (true where a query sees a key) or added to the scores; or `None`.
        scaling: the factor of the scores; by default 1 / sqrt(K).
        heads: the heads to compute.
        is_causal: whether a causal mask is used if `attention_mask` is `None`.
        position_bias: (B or 1, H, T, S), added to the scores.

    Returns:
        The weights (B, len(heads), T, S).
    """
    chosen = torch.tensor(list(heads), device=query.device)
    queries_per_key = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query[:, chosen].float() @ key[:, chosen // queries_per_key].float().transpose(2, 3) * scale
    if position_bias is not None:
        scores = scores + position_bias[:, chosen]
    if attention_mask is None:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        if not causal or query.shape[2] == 1:
            return scores.softmax(-1)
        attention_mask = scores.new_ones(scores.shape[-2:], dtype=torch.bool).tril()[None, None]
    if attention_mask.shape[1] > 1:
        attention_mask = attention_mask[:, chosen]
    if attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    else:
        scores = scores + attention_mask
    return scores.softmax(-1)  # (B, len(heads), T, S)


AttentionInterface.register(PROBED, probed_attention_forward)
AttentionMaskInterface.register(PROBED, AttentionMaskInterface()["sdpa"])
