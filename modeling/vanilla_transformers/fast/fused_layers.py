"""One decoding step, computed from the weights directly.

A step has one row for each sentence or beam. With few rows, calling modules and changing the memory layout of weights
take longer than the matrix products. Therefore oneDNN packs the weights once for each search, one product computes
queries, keys and values, and activations and residual sums are fused into products.

Shapes: B sentences, K alternatives (beams) of a sentence, N slots of the cache, S source length, D width, H heads,
W head width, M = B x K rows.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vanilla_transformers.fast.linear import linear, onednn_is_faster, row_count
from vanilla_transformers.fast.private_names import (
    HAS_PACKED_LINEAR,
    has_global_hooks,
    has_packed_bf16,
    onednn_linear,
    onednn_linear_plus,
    onednn_packed,
    operators_are_intercepted,
)
from vanilla_transformers.fast.softmax import softmax
from vanilla_transformers.fast.untouched import is_called_alone, is_untouched_module
from vanilla_transformers.model.attention import attention_implementation, eager_attention_forward
from vanilla_transformers.model.layers import VanillaLayer

# Row count for which oneDNN packs the weights. Products of any row count use these weights: with weights packed for one
# row, products of many rows would be slower.
_ROWS_PACKED_FOR = 32
_EXACT_ROWS = 16  # row counts above 16 are rounded up by `row_count`, so that oneDNN compiles few kernels

_MOST_COPIED = 2**28
"""Largest number of weights of a model whose weights are copied and packed: 1 GB in fp32."""

_MANY_HEADS = 64
"""Batch size times number of heads from which two batched matrix products are faster than sdpa on a CPU."""

_KERNELS = (eager_attention_forward, ALL_ATTENTION_FUNCTIONS["sdpa"])
# The classes are given by name. If transformers moves or renames a class, only its fusion is lost.
_FUSED_ACTIVATIONS = {
    "torch.nn.modules.activation.ReLU": ("relu", ""),
    "transformers.activations.GELUActivation": ("gelu", "none"),
    "transformers.activations.GELUTanh": ("gelu", "tanh"),
}


class Product:
    """One or more linear layers with the same input, computed as one matrix product.

    Args:
        linears: The linear layers.
        activation: The activation of the outputs, or `None`.
        is_packed: Whether oneDNN packs the weights.
    """

    def __init__(self, *linears: Any, activation: nn.Module | None = None, is_packed: bool):
        weights, biases = [each.weight for each in linears], [each.bias for each in linears]
        weight, self.bias = weights[0], biases[0]
        if len(linears) > 1:
            weight = torch.cat(weights)
            if any(bias is not None for bias in biases):
                self.bias = torch.cat(
                    [torch.zeros_like(w[:, 0]) if b is None else b for w, b in zip(weights, biases, strict=True)]
                )
        self.bias = None if self.bias is None else self.bias.contiguous()  # oneDNN needs a contiguous bias
        self.weight = onednn_packed(weight, _ROWS_PACKED_FOR) if is_packed else weight
        self.is_packed = is_packed
        self.activation = activation
        kind = type(activation)
        self.fused = _FUSED_ACTIVATIONS.get(f"{kind.__module__}.{kind.__qualname__}")

    def __call__(self, rows: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """(M, inputs) -> (M, outputs), plus `residual` (M, outputs) if given."""
        num_rows = len(rows)
        free = row_count(num_rows) - num_rows if self.is_packed and num_rows > _EXACT_ROWS else 0
        if not free:
            return self._of(rows, residual)
        if residual is not None:
            residual = functional.pad(residual, (0, 0, 0, free))
        return self._of(functional.pad(rows, (0, 0, 0, free)), residual)[:num_rows]

    def _of(self, rows: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        activation = self.activation
        if not self.is_packed:
            outputs = linear(rows, self.weight, self.bias)
        elif residual is not None:
            return onednn_linear_plus(rows, residual, self.weight, self.bias)
        elif self.fused:
            return onednn_linear(rows, self.weight, self.bias, self.fused)
        else:
            outputs = onednn_linear(rows, self.weight, self.bias)
        if activation is not None:
            outputs = activation(outputs)
        return outputs if residual is None else residual + outputs


class FusedLayers:
    """The layers and the head of a decoder for which `can_fuse` is true.

    Args:
        stack: The decoder.
        head: The projection to the vocabulary.
    """

    def __init__(self, stack: Any, head: Any):
        self.is_packed = _packs(head.weight)
        self.head = Product(head, is_packed=self.is_packed)
        self.layers = [_FusedLayer(layer, self.is_packed) for layer in stack.layers]

    def __call__(
        self,
        hidden_states: torch.Tensor,
        slots: list[Any],
        mask: torch.Tensor | None,
        source: list[Any],
        source_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """(B, K, D) -> (B, K, D).

        Args:
            hidden_states: Input of the first layer, for the newest tokens.
            slots: The cache of each layer, to which the keys and values of these tokens are appended.
            mask: (B, 1, K, N), added to the attention scores; or `None`.
            source: Keys and values (B, H, S, W) of the source for each layer; empty for a decoder.
            source_mask: (B, 1, 1, S), added to the scores of cross attention; or `None`.
        """
        shape = hidden_states.shape
        rows = hidden_states.flatten(0, 1)
        for number, layer in enumerate(self.layers):
            rows = layer.attend(rows, shape[1], slots[number], mask)
            if source:
                rows = layer.attend_to_source(rows, shape[1], source[number], source_mask)
            rows = layer.feed_forward(rows)
        return rows.view(shape)


class _FusedLayer:
    """One layer of `FusedLayers`: self attention, feed-forward and, with an encoder, cross attention."""

    def __init__(self, layer: Any, is_packed: bool):
        attention, feed_forward = layer.self_attn, layer.feed_forward
        self.attention, self.residual = attention, layer.self_attn_residual
        self.project = Product(attention.q_proj, attention.k_proj, attention.v_proj, is_packed=is_packed)
        self.combine = Product(attention.o_proj, is_packed=is_packed)
        self.up = Product(feed_forward.up_proj, activation=feed_forward.activation, is_packed=is_packed)
        self.down = Product(feed_forward.down_proj, is_packed=is_packed)
        self.feed_forward_residual = layer.feed_forward_residual
        if hasattr(layer, "cross_attn"):
            self.source_attention, self.source_residual = layer.cross_attn, layer.cross_attn_residual
            self.ask_source = Product(layer.cross_attn.q_proj, is_packed=is_packed)
            self.combine_source = Product(layer.cross_attn.o_proj, is_packed=is_packed)

    def attend(self, rows: torch.Tensor, num_alternatives: int, slots: Any, mask: torch.Tensor | None) -> torch.Tensor:
        """Self attention, (M, D) -> (M, D)."""
        projected = self.project(_before(rows, self.residual))
        heads = projected.view(-1, num_alternatives, 3, *self._heads(rows, self.attention))
        query, key, value = heads.transpose(1, 3).unbind(2)  # (B, H, K, W) each
        keys, values = slots.update(key, value)
        attended = attention(query, keys, values, mask, self.attention.scaling)
        return _after(self.combine(attended, rows), self.residual)

    def attend_to_source(
        self, rows: torch.Tensor, num_alternatives: int, source: Any, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Cross attention, (M, D) -> (M, D)."""
        query = self.ask_source(_before(rows, self.source_residual))
        heads = query.view(-1, num_alternatives, *self._heads(rows, self.source_attention))
        attended = attention(heads.transpose(1, 2), source.keys, source.values, mask, self.source_attention.scaling)
        return _after(self.combine_source(attended, rows), self.source_residual)

    def feed_forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(M, D) -> (M, D)."""
        inner = self.up(_before(rows, self.feed_forward_residual))
        return _after(self.down(inner, rows), self.feed_forward_residual)

    def _heads(self, rows: torch.Tensor, attention: Any) -> tuple[int, int]:
        return rows.shape[-1] // attention.head_dim, attention.head_dim


def _before(rows: torch.Tensor, residual: Any) -> torch.Tensor:
    return _normalized(rows, residual.norm) if residual.is_pre_norm else rows


def _after(rows: torch.Tensor, residual: Any) -> torch.Tensor:
    return rows if residual.is_pre_norm else _normalized(rows, residual.norm)


def attention(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """softmax(Q K^T x scaling + mask) V of queries (B, H, K, W) -> (B x K, H x W), computed in the dtype of keys."""
    dtype, query = query.dtype, query.to(keys.dtype)
    num_heads = query.shape[0] * query.shape[1]
    if query.device.type != "cpu" or (num_heads < _MANY_HEADS and keys.dtype != torch.bfloat16):
        attended = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scaling)
    else:
        scores = torch.matmul(query, keys.transpose(2, 3)).mul_(scaling)
        if mask is not None:
            scores += mask
        attended = torch.matmul(softmax(scores).to(values.dtype), values)
    return attended.transpose(1, 2).flatten(2).flatten(0, 1).to(dtype)


def can_fuse(stack: Any, head: Any) -> bool:
    """Whether the layers and the head are untouched, in evaluation mode and small enough to copy and pack."""
    dtype = head.weight.dtype
    modules = [head, *stack.layers.modules()]
    modules.remove(stack.layers)
    activations = {layer.feed_forward.activation for layer in stack.layers if type(layer) is VanillaLayer}
    return (
        sum(each.numel() for each in (*stack.layers.parameters(), *head.parameters())) <= _MOST_COPIED
        and not torch.is_autocast_enabled(head.weight.device.type)
        and not operators_are_intercepted()
        and not has_global_hooks()
        and _kernel(stack.config) in _KERNELS
        and not any(module.training for module in modules)
        and all(is_called_alone(module, dtype) for module in activations)
        and all(is_untouched_module(module, dtype) for module in modules if module not in activations)
    )


def _kernel(config: Any) -> Any:
    return ALL_ATTENTION_FUNCTIONS.get_interface(attention_implementation(config), eager_attention_forward)


def _packs(weight: torch.Tensor) -> bool:
    """Whether products with packed weights are faster on this processor."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.enabled or not HAS_PACKED_LINEAR:
        return False
    if weight.dtype == torch.float32:
        return onednn_is_faster()
    return weight.dtype == torch.bfloat16 and has_packed_bf16()


def _normalized(rows: torch.Tensor, norm: Any) -> torch.Tensor:
    return functional.layer_norm(rows, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
