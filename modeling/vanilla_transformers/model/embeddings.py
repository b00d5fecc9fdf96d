"""Input embedding: token embeddings, positions and token types (2017 paper, sections 3.4 and 3.5)."""

import math

import torch
from torch import nn

from .operations import Dropout


class SinusoidalPositions(nn.Module):
    """Fixed positions: sines and cosines of wavelengths from 2 pi to 10000 x 2 pi (section 3.5).

    The table is a buffer that is not saved; `VanillaPreTrainedModel` fills it again after loading. Positions that
    are, or may be, beyond the table are computed on the fly and not stored."""

    table: torch.Tensor

    def __init__(self, config):
        super().__init__()
        self.width = config.hidden_size
        self.layout = config.sinusoidal_layout
        self.frequency = config.sinusoidal_frequency
        self.offset = config.position_offset
        self.num_positions = config.max_position_embeddings + config.position_offset
        self.register_buffer("table", self.compute(torch.arange(self.num_positions)), persistent=False)

    def compute(self, positions: torch.Tensor) -> torch.Tensor:
        """Position vectors (..., D) in fp32 of positions (...) that include the offset."""
        angles = positions[..., None] * self._frequencies(positions.device)  # (..., ceil(D / 2))
        sines, cosines = angles.sin(), angles.cos()[..., : self.width // 2]
        rows = torch.cat((sines, cosines), dim=-1)  # (..., D), in the layout "halves"
        if self.layout == "interleaved":
            order = torch.cat((torch.arange(0, self.width, 2), torch.arange(1, self.width, 2)))
            rows = rows[..., order.argsort().to(rows.device)]
        return rows.float()

    def _frequencies(self, device: torch.device) -> torch.Tensor:
        """Angular frequencies (ceil(D / 2),), from 1 to about 1 / 10000."""
        if self.frequency == "paper":
            even = torch.arange(0, self.width, 2, device=device)
            try:
                return 10000 ** -(even.double() / self.width)
            except TypeError:  # some devices have no fp64
                return 10000 ** -(even.float() / self.width)
        # The steps are rounded to fp32 as in fairseq and transformers. Other rounding changes angles at high positions.
        step = math.log(10000) / (self.width // 2 - 1)
        return torch.exp(torch.arange(self.width // 2, device=device).float() * -step)

    def forward(self, position_ids: torch.Tensor, length: int | None) -> torch.Tensor:
        """Position ids (B or 1, T) below `length` (`None`: unknown) -> position vectors (B or 1, T, D)."""
        position_ids = position_ids + self.offset
        if length is not None and length + self.offset <= self.num_positions:
            try:
                return nn.functional.embedding(position_ids, self.table)
            except IndexError:  # the caller's position ids may exceed the length of the row
                return self.compute(position_ids)
        return self.compute(position_ids)


class LearnedPositions(nn.Embedding):
    """A trained table of positions (BERT, GPT-2). The first `position_offset` rows are not used."""

    def __init__(self, config):
        super().__init__(config.max_position_embeddings + config.position_offset, config.hidden_size)
        self.offset = config.position_offset
        self.max_length = config.max_position_embeddings

    def forward(self, position_ids: torch.Tensor, length: int | None = None) -> torch.Tensor:
        """Position ids (B or 1, T) below `length` (`None`: unknown) -> position vectors (B or 1, T, D).

        Raises:
            ValueError: If the sequence is longer than the table.
        """
        if length is not None and length > self.max_length:
            # Left padding takes no positions, so a row may have more tokens than positions. Only the positions must fit
            # into the table.
            length = int(position_ids.max()) + 1
        if length is None or length <= self.max_length:
            try:
                return super().forward(position_ids + self.offset)
            except IndexError:
                length = int(position_ids.max()) + 1
        raise ValueError(
            f"the sequence has {length} positions, but the model learned max_position_embeddings="
            f"{self.max_length}: shorten the input (truncation=True in the tokenizer), or train with more positions"
        )


POSITIONS = {"sinusoidal": SinusoidalPositions, "learned": LearnedPositions, "none": None}


class InputEmbedding(nn.Module):
    """Scale token embeddings, add positions and token types, normalize, apply dropout: each step if configured."""

    def __init__(self, config):
        super().__init__()
        self.scale = math.sqrt(config.hidden_size) if config.scales_embeddings else 1.0
        positions = POSITIONS[config.position_embedding_type]
        width = config.hidden_size
        self.positions = positions(config) if positions else None
        self.token_types = nn.Embedding(config.type_vocab_size, width) if config.type_vocab_size else None
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps) if config.embedding_norm else None
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        token_embeds: torch.Tensor,
        position_ids: torch.Tensor,
        length: int | None,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Token embeddings (B, T, D) -> input of the first layer (B, T, D).

        Args:
            position_ids: (B or 1, T), all below `length`.
            length: Number of positions up to the last token, cached tokens included; `None` if unknown.
            token_type_ids: (B, T); `None` stands for zeros.
        """
        hidden_states = token_embeds * self.scale
        if self.token_types is not None:
            if token_type_ids is None:
                token_type_ids = torch.zeros_like(position_ids)
            hidden_states = hidden_states + self._embed_token_types(token_type_ids)
        if self.positions is not None:
            hidden_states = hidden_states + self.positions(position_ids, length).to(hidden_states.dtype)
        if self.norm is not None:
            hidden_states = self.norm(hidden_states)
        return self.dropout(hidden_states)

    def _embed_token_types(self, token_type_ids: torch.Tensor) -> torch.Tensor:
        assert self.token_types is not None
        try:
            return self.token_types(token_type_ids)
        except IndexError:
            raise ValueError(
                f"token_type_ids range from {token_type_ids.min()} to {token_type_ids.max()}, but the model has "
                f"type_vocab_size={self.token_types.num_embeddings}: use the model's own tokenizer"
            ) from None
