"""Position-wise feed-forward block (2017 paper, section 3.3)."""

import torch
from torch import nn
from transformers.activations import ACT2FN

from .operations import Linear


class FeedForward(nn.Module):
    """act(x W1 + b1) W2 + b2 (equation 2), applied to each position separately.

    Args:
        config: A vanilla configuration; `hidden_act` is the activation, ReLU in the paper.
    """

    def __init__(self, config):
        super().__init__()
        self.up_proj = Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.down_proj(self.activation(self.up_proj(hidden_states)))
