"""Parts between the hidden states and an output layer: pooling, selection of positions, the masked-token transform."""

import torch
from torch import nn
from transformers.activations import ACT2FN

from .operations import Linear


def pool(hidden_states, config, attention_mask=None, input_ids=None) -> torch.Tensor:
    """Pool each sequence to one vector as `config.classifier_pooling` sets, (B, T, D) -> (B, D).

    `"cls"` takes the first token that is not padding, `"last"` the last such token, `"mean"` the mean of all of them.

    Args:
        attention_mask: (B, T), 0 at padding. Without it, `pad_token_id` in `input_ids` is padding (not for `"cls"`).

    Raises:
        ValueError: If several rows of `input_ids` have no mask and no padding id, and pooling is not `"cls"`.
    """
    pooling, pad_token_id = config.classifier_pooling, config.pad_token_id
    mask = _token_mask(hidden_states, attention_mask, None if pooling == "cls" else input_ids, pad_token_id)
    if mask is None:
        return {"cls": hidden_states[:, 0], "last": hidden_states[:, -1], "mean": hidden_states.mean(1)}[pooling]
    if pooling == "mean":
        weights = mask.to(hidden_states.dtype).unsqueeze(-1)  # (B, T, 1)
        return (hidden_states * weights).sum(1) / weights.sum(1).clamp(min=1)
    indices = torch.arange(mask.shape[1], device=mask.device)
    token = (mask * indices).argmax(-1) if pooling == "last" else mask.argmax(-1)  # (B,)
    # len() instead of shape[0] would fix the batch size of an exported model.
    return hidden_states[torch.arange(token.shape[0], device=token.device), token]


def kept_positions(hidden_states: torch.Tensor, logits_to_keep: int | torch.Tensor) -> torch.Tensor:
    """Select the hidden states (B, T, D) that get logits, as transformers' causal models do: (B, N, D).

    Args:
        logits_to_keep: Number of last positions, 0 for all; or positions (N,) or (B, N); or a boolean mask (B, T),
            which selects from all rows together and gives (N, D).
    """
    if torch.is_tensor(logits_to_keep) and logits_to_keep.ndim == 2:
        if logits_to_keep.dtype == torch.bool:
            return hidden_states[logits_to_keep]
        return hidden_states.take_along_dim(logits_to_keep[..., None], dim=1)
    return hidden_states[:, slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep]


def _token_mask(hidden_states, attention_mask, input_ids, pad_token_id) -> torch.Tensor | None:
    """Mask (B, T) with 1 at tokens and 0 at padding; `None` if there is no padding."""
    batch_size, length = hidden_states.shape[:2]
    if attention_mask is not None and attention_mask.ndim == 2:
        return attention_mask[:, -length:].to(hidden_states.device, torch.int32)
    if input_ids is None or (batch_size == 1 and pad_token_id is None):
        return None
    if pad_token_id is None:
        raise ValueError(
            f"{batch_size} sequences without attention_mask, and pad_token_id is None: give the mask, or set "
            "config.pad_token_id to the tokenizer's pad_token_id"
        )
    return input_ids.ne(pad_token_id).to(hidden_states.device, torch.int32)


class Pooler(nn.Module):
    """BERT's pooler: a dense layer over the pooled vector, then an activation, by default tanh."""

    def __init__(self, config):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.pooler_act]

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, D)."""
        return self.activation(self.dense(pooled))


def take_positions(
    hidden_states: torch.Tensor, positions: torch.Tensor, labels: torch.Tensor | None = None
) -> torch.Tensor:
    """Select the vectors of N tokens, (B, T, D) -> (N, D).

    Args:
        positions: (N,), the index b * T + t of each token.
        labels: (N,), or `None`.

    Raises:
        ValueError: If a position is outside the batch, or `labels` and `positions` differ in shape.
    """
    if positions.ndim != 1 or (labels is not None and labels.shape != positions.shape):
        given = "" if labels is None else f" and labels {tuple(labels.shape)}"
        raise ValueError(
            f"masked_positions has the shape {tuple(positions.shape)}{given}, but needs the shape (N,), with one index "
            "b * T + t for each masked token; labels, if given, need the same shape"
        )
    vectors = hidden_states.flatten(0, 1)  # (B * T, D)
    try:
        # Unlike embedding(), vectors[positions] would count a negative index from the end.
        return nn.functional.embedding(positions.to(vectors.device), vectors)
    except IndexError:
        raise ValueError(
            f"masked_positions range from {positions.min()} to {positions.max()}, but the batch has the indices 0 to "
            f"{vectors.shape[0] - 1}: count them as b * T + t"
        ) from None


class MaskedTokenTransform(nn.Module):
    """BERT's transform before the projection to the vocabulary: dense layer, activation, layer norm."""

    def __init__(self, config):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.lm_head_act or config.hidden_act]
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., D)."""
        return self.norm(self.activation(self.dense(hidden_states)))
