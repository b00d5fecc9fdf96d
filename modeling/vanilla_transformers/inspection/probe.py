"""Looks into the attention of a model and switches heads off, while all of it runs on sdpa. It never goes to the Hub.

For every class that goes through transformers' attention interface, of this package or not.

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
"""Self attention of an encoder, that of a decoder, and a decoder's attention to its encoder."""

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
_CROSS = re.compile(r"cross_?att|encoder_attn|EncDecAttention")
_NUM_HEADS = ("num_heads", "num_attention_heads", "n_heads")


class AttentionMapError(ValueError):
    """A model, a text or a choice of heads that has no attention maps, with the way out in one line."""


class Head(NamedTuple):
    """A head: `kind` is "encoder", "decoder" or "cross"; layers and heads count from 0."""

    kind: str
    layer: int
    head: int


class Site(NamedTuple):
    """Where a model attends.

    Attributes:
        kind: one of `KINDS`.
        layer: its number, from 0.
        num_heads: H.
        module: what calls the attention function.
    """

    kind: str
    layer: int
    num_heads: int
    module: nn.Module


@dataclass(eq=False)
class Probe:
    """What is wanted of one attention module in a forward pass.

    Attributes:
        heads: those whose weights are computed.
        off: (B, H), true where a head gives zeros instead of the values that it attends to; or `None`.
        weights: (B, len(heads), T, S) in fp32, after the pass.
    """

    heads: Sequence[int] = ()
    off: torch.Tensor | None = None
    weights: torch.Tensor | None = None


_PROBES: WeakKeyDictionary[nn.Module, Probe] = WeakKeyDictionary()


def attention_sites(model: PreTrainedModel) -> list[Site]:
    """Every attention module of the layers of a model, in the order of `KINDS` and of the layers.

    Raises:
        AttentionMapError: the class does not go through transformers' attention interface.
    """
    submodels = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    names = {name: module for name, module in model.named_modules() if _is_attention(module) and _LAYER.search(name)}
    if not names or not all(map(_lets_kernels_be_set, submodels)):
        raise AttentionMapError(
            f"{type(model).__name__} has no layers that go through transformers' attention interface, by which maps "
            "are made; `vanilla import` makes one of our models of many that do not"
        )
    sites = [
        Site(_kind(name, module), int(_LAYER.search(name)[1]), _num_heads(module), module)  # type: ignore[index]
        for name, module in names.items()
    ]
    return sorted(sites, key=lambda site: (KINDS.index(site.kind), site.layer))


def _lets_kernels_be_set(model: PreTrainedModel) -> bool:
    """Whether the class says so; where transformers does not ask it, [`probing`] finds out."""
    return getattr(model, "_can_set_attn_implementation", lambda: True)()


def _is_attention(module: nn.Module) -> bool:
    """The innermost one: `BertAttention` holds `BertSelfAttention`."""
    named = [part for part in module.modules() if "Attention" in type(part).__name__]
    return named == [module]


def _kind(name: str, module: nn.Module) -> str:
    if _CROSS.search(name):
        return "cross"
    # As sdpa has it, what does not say otherwise is causal.
    return "decoder" if getattr(module, "is_causal", True) or "decoder" in name.split(".") else "encoder"


def _num_heads(module: nn.Module) -> int:
    owners = (module, getattr(module, "config", None))
    return next(getattr(owner, name) for owner in owners for name in _NUM_HEADS if hasattr(owner, name))


@contextmanager
def probing(model: PreTrainedModel, probes: Mapping[nn.Module, Probe]) -> Iterator[None]:
    """Runs the model on sdpa within the block, with the probes at their modules; the model is afterwards as before.

    Raises:
        AttentionMapError: after the block, a module whose weights were asked for did not attend.
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
                "interface, by which maps are made"
            )


def _configs(model: PreTrainedModel) -> list[PreTrainedConfig]:
    """The configurations of a model and its parts, each once, outer ones first: setting these sets the inner ones."""
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
    """sdpa, and what the module's probe asks for beside it.

    Args:
        query: (B, H, T, K).
        key, value: (B, H or a part of it, S, K).
        attention_mask: as sdpa takes it.

    Returns:
        The values (B, T, H, K), and no weights: these are left in the probe.
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
            f"one {type(module).__name__} serves several layers of this model, whose maps would replace one another"
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
    """softmax(Q K^T x scaling + mask) of some heads, (B, len(heads), T, S), as the eager implementations compute it.

    Args:
        query: (B, H, T, K).
        key: (B, H or a part of it, S, K).
        attention_mask: boolean, true where a key is seen, or added to the scores; (B, 1 or H, T, S) or `None`.
        position_bias: added to the scores, (B or 1, H, T, S).
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
