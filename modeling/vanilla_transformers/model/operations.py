"""Operations that faster functions can replace: the only connection between this folder and `fast/`.

The files of this folder are saved with a model, and compute everything by public functions of torch and transformers.
If the package is installed, `vanilla_transformers.fast` puts its functions into `OPERATIONS`. These functions take less
time, and give the same tokens and, within 1e-5, the same numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .losses import cross_entropy_loss


def softmax(scores: torch.Tensor) -> torch.Tensor:
    """Softmax over the keys of scores (B, H, T, S), computed in fp32."""
    return nn.functional.softmax(scores, dim=-1, dtype=torch.float32)


def projection_loss(
    projection: nn.Module,
    hidden_states: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None,
    label_smoothing: float,
) -> torch.Tensor:
    """`cross_entropy_loss` of the logits (..., V) of hidden states (..., D)."""
    return cross_entropy_loss(projection(hidden_states), labels, num_items_in_batch, label_smoothing)


def packed_mask(
    stack: Any,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    kwargs: Mapping[str, Any],
) -> Any:
    """The object that the attention kernel gets instead of a mask for packed rows; `None` if it needs a mask.

    The arguments are those of the forward pass of a stack: `inputs_embeds` (B, T, D), `attention_mask` (B, S),
    `position_ids` (B or 1, S) and all other keyword arguments.
    """
    return None


def before_generate(kwargs: Mapping[str, Any]) -> None:
    """Do nothing. A replacement can inspect the arguments of `generate` here before transformers reads them."""


def search(model: Any, stock_search: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The token ids that a search (greedy, sampling or beam) finds for the inputs that `generate` has prepared."""
    return stock_search(*args, **kwargs)


@dataclass(slots=True)
class Operations:
    """The functions in use. A replacement has the same arguments and results as the default."""

    linear: Callable[..., torch.Tensor] = nn.functional.linear
    dropout: Callable[[torch.Tensor, float, bool], torch.Tensor] = nn.functional.dropout
    softmax: Callable[[torch.Tensor], torch.Tensor] = softmax
    projection_loss: Callable[..., torch.Tensor] = projection_loss
    packed_mask: Callable[..., Any] = packed_mask
    before_generate: Callable[[Mapping[str, Any]], None] = before_generate
    search: Callable[..., Any] = search


OPERATIONS = Operations()


class Linear(nn.Linear):
    """`nn.Linear` that computes by the linear operation in use."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return OPERATIONS.linear(input, self.weight, self.bias)


class Dropout(nn.Dropout):
    """`nn.Dropout` that computes by the dropout operation in use."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return OPERATIONS.dropout(input, self.p, self.training)
