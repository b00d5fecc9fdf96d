"""The residual sub-layer, and the layer of two or three sub-layers (2017 paper, section 3.1)."""

from collections.abc import Callable

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import MultiHeadAttention
from .caches import takes_cache
from .feed_forward import FeedForward
from .operations import Dropout

# Kernel arguments for packed rows in self attention. Cross attention must not get them: its keys are in other rows.
SELF_ATTENTION_KWARGS = ("position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")


class Residual(nn.Module):
    """Residual connection, dropout and layer norm around a sub-layer.

    `norm_position="post"`: norm(x + dropout(sublayer(x))), section 5.4 of the 2017 paper.
    `norm_position="pre"`: x + dropout(sublayer(norm(x))), section 2.3 of the GPT-2 paper."""

    def __init__(self, config):
        super().__init__()
        self.is_pre_norm = config.norm_position == "pre"
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, sublayer: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """(B, T, D) -> (B, T, D)."""
        if self.is_pre_norm:
            return hidden_states + self.dropout(sublayer(self.norm(hidden_states)))
        return self.norm(hidden_states + self.dropout(sublayer(hidden_states)))


class VanillaLayer(GradientCheckpointingLayer):
    """Self attention, cross attention (in the decoder of an encoder-decoder) and feed-forward, as residual sub-layers.

    Args:
        layer_idx: Index of the layer in its stack.
        is_causal: Whether a token attends only to itself and the tokens before it (decoders).
        has_cross_attention: Whether the layer attends to an encoder's states.
    """

    def __init__(self, config, layer_idx: int, is_causal: bool = False, has_cross_attention: bool = False):
        super().__init__()
        self.self_attn = MultiHeadAttention(config, layer_idx, is_causal=is_causal)
        self.self_attn_residual = Residual(config)
        if has_cross_attention:
            self.cross_attn = MultiHeadAttention(config, layer_idx)
            self.cross_attn_residual = Residual(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_residual = Residual(config)

    @takes_cache
    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """(B, T, D) -> (B, T, D). `encoder_hidden_states` is (B, S, D); masks are in the form of the kernel."""
        hidden_states = self.self_attn_residual(
            hidden_states,
            lambda states: self.self_attn(states, attention_mask, past_key_values=past_key_values, **kwargs)[0],
        )
        if encoder_hidden_states is not None:
            cross_kwargs = {name: value for name, value in kwargs.items() if name not in SELF_ATTENTION_KWARGS}
            hidden_states = self.cross_attn_residual(
                hidden_states,
                lambda states: self.cross_attn(
                    states, encoder_attention_mask, encoder_hidden_states, past_key_values, **cross_kwargs
                )[0],
            )
        # The argument is a lambda, because the hooks of an offloaded model would move a module that is an argument.
        return self.feed_forward_residual(hidden_states, lambda states: self.feed_forward(states))
