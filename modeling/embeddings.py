"""What lies between the token table and the first layer (2017 paper, sections 3.4 and 3.5).

Shapes: B batch, T length, D width, P rows of a position table.
"""

import math

import torch
from torch import nn


class SinusoidalPositions(nn.Module):
    """Fixed positions: sines and cosines of wavelengths from 2 pi to 10000 x 2 pi (section 3.5).

    The table is a buffer that is not saved: [`VanillaPreTrainedModel`] fills it again after loading. A sequence longer
    than the table gets a longer one for the moment.

    Args:
        config: A vanilla configuration.
    """

    def __init__(self, config):
        super().__init__()
        self.width = config.hidden_size
        self.layout = config.sinusoidal_layout
        self.offset = config.position_offset
        self.num_positions = config.max_position_embeddings + config.position_offset
        self.register_buffer("table", self.compute(self.num_positions), persistent=False)

    def compute(self, num_positions: int) -> torch.Tensor:
        """The table (P, D) in fp32, computed in fp64."""
        exponents = torch.arange(0, self.width, 2, dtype=torch.float64) / self.width
        positions = torch.arange(num_positions, dtype=torch.float64)
        angles = positions[:, None] * 10000**-exponents  # (P, ceil(D / 2))
        sines, cosines = angles.sin(), angles.cos()[:, : self.width // 2]
        table = torch.cat((sines, cosines), dim=-1)  # (P, D), halves
        if self.layout == "interleaved":
            order = torch.cat((torch.arange(0, self.width, 2), torch.arange(1, self.width, 2)))
            table = table[:, order.argsort()]
        return table.float()

    def forward(self, position_ids: torch.Tensor, length: int) -> torch.Tensor:
        """(B or 1, T) below `length` -> (B or 1, T, D)."""
        if length + self.offset <= self.num_positions:
            table = self.table
        else:
            table = self.compute(length + self.offset).to(self.table)
        return nn.functional.embedding(position_ids + self.offset, table)


class LearnedPositions(nn.Embedding):
    """A trained table of positions (BERT, GPT-2); `position_offset` rows come before the first.

    Args:
        config: A vanilla configuration.
    """

    def __init__(self, config):
        super().__init__(config.max_position_embeddings + config.position_offset, config.hidden_size)
        self.offset = config.position_offset
        self.max_length = config.max_position_embeddings

    def forward(self, position_ids: torch.Tensor, length: int) -> torch.Tensor:
        """(B or 1, T) below `length` -> (B or 1, T, D).

        Raises:
            ValueError: The sequence is longer than the table.
        """
        if length > self.max_length:
            raise ValueError(
                f"the sequence has {length} positions, but the model learned max_position_embeddings="
                f"{self.max_length}: shorten the input (truncation=True in the tokenizer), or train with more positions"
            )
        return super().forward(position_ids + self.offset)


POSITIONS = {"sinusoidal": SinusoidalPositions, "learned": LearnedPositions, "none": None}


class InputEmbedding(nn.Module):
    """Scale token embeddings, add positions and token types, normalize, drop out; each as configured.

    Args:
        config: A vanilla configuration.
    """

    def __init__(self, config):
        super().__init__()
        self.scale = math.sqrt(config.hidden_size) if config.scale_embeddings else 1.0
        positions = POSITIONS[config.position_embedding_type]
        width = config.hidden_size
        self.positions = positions(config) if positions else None
        self.token_types = nn.Embedding(config.type_vocab_size, width) if config.type_vocab_size else None
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps) if config.embedding_norm else None
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        token_embeds: torch.Tensor,
        position_ids: torch.Tensor,
        length: int,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, T, D) -> (B, T, D).

        Args:
            token_embeds: (B, T, D).
            position_ids: (B or 1, T), all below `length`.
            length: Positions up to the last token, those in a cache included.
            token_type_ids: (B, T), zeros where `None`.
        """
        hidden_states = token_embeds * self.scale
        if self.token_types is not None:
            if token_type_ids is None:
                token_type_ids = torch.zeros_like(position_ids)
            hidden_states = hidden_states + self.token_types(token_type_ids)
        if self.positions is not None:
            hidden_states = hidden_states + self.positions(position_ids, length).to(hidden_states.dtype)
        if self.norm is not None:
            hidden_states = self.norm(hidden_states)
        return self.dropout(hidden_states)
