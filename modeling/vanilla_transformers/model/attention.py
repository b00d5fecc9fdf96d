"""Multi-head attention (2017 paper, section 3.2): one module for self, causal and cross attention."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .operations import OPERATIONS, Linear


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(scaling Q K^T) V (equation 1, with the scaling 1 / sqrt(head width)), and the attention weights.

    Args:
        query: (B, H, T, K).
        key, value: (B, H, S, K).
        attention_mask: (B, 1, T, S), added to the scores; or `None`.

    Returns:
        The attended values (B, T, H, K) and the attention weights (B, H, T, S).
    """
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling  # (B, H, T, S)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = OPERATIONS.softmax(scores).to(query.dtype)
    weights = OPERATIONS.dropout(weights, dropout, module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def attention_implementation(config: Any) -> str:
    """The name of a model's attention kernel; sdpa if transformers no longer keeps it in `_attn_implementation`."""
    return getattr(config, "_attn_implementation", "sdpa")


class MultiHeadAttention(nn.Module):
    """H attention heads over projected queries, keys and values (section 3.2.2).

    The kernel is any function registered with transformers' attention interface, such as eager or sdpa.

    Args:
        layer_idx: Index of the layer in its stack. A cache stores keys and values under this index.
        is_causal: Whether a query attends only to keys at its own and earlier positions; used if there is no mask.
    """

    def __init__(self, config, layer_idx: int, is_causal: bool = False):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = is_causal
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_probs_dropout_prob
        self.q_proj = Linear(config.hidden_size, config.hidden_size)
        self.k_proj = Linear(config.hidden_size, config.hidden_size)
        self.v_proj = Linear(config.hidden_size, config.hidden_size)
        self.o_proj = Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        key_value_states: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend from `hidden_states` (B, T, D) to themselves or, in cross attention, to `key_value_states` (B, S, D).

        Returns:
            The attended values (B, T, D), and the attention weights (B, H, T, S), or `None` if the kernel returns none.
        """
        query = self._split_heads(self.q_proj(hidden_states))
        key, value = self._keys_and_values(hidden_states, key_value_states, past_key_values, kwargs)
        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            attention_implementation(self.config), eager_attention_forward
        )
        attended, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        attended = attended.reshape(*hidden_states.shape[:-1], -1).contiguous()  # (B, T, D)
        return self.o_proj(attended), weights

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        # -1 stands for the number of heads, because under tensor parallelism a process holds only some of the heads.
        return states.view(*states.shape[:-1], -1, self.head_dim).transpose(1, 2)  # (B, H, T, K)

    def _keys_and_values(
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None,
        past_key_values: Cache | None,
        kwargs: dict[str, Any],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (B, H, S, K) of the past and the new tokens or, in cross attention, of the source tokens.

        A paged cache (continuous batching) writes the arguments of its kernel into `kwargs`.
        """
        is_cross = key_value_states is not None
        cache: Any = past_key_values
        if isinstance(cache, EncoderDecoderCache):
            if is_cross and cache.is_updated.get(self.layer_idx):
                cached: Any = cache.cross_attention_cache.layers[self.layer_idx]
                return cached.keys, cached.values
            cache = cache.cross_attention_cache if is_cross else cache.self_attention_cache

        states = key_value_states if is_cross else hidden_states
        key, value = self._split_heads(self.k_proj(states)), self._split_heads(self.v_proj(states))
        if cache is not None:
            paged = {} if isinstance(cache, Cache) else {"kwargs": kwargs}
            key, value = cache.update(key, value, self.layer_idx, **paged)
            if isinstance(past_key_values, EncoderDecoderCache) and is_cross:
                past_key_values.is_updated[self.layer_idx] = True
        return key, value
