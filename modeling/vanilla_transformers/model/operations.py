"""The operations that can be replaced by faster ones: the one seam between this folder and `fast/`.

The files of this folder are saved with a model, and compute everything by public functions of torch and transformers.
If the package is installed, `vanilla_transformers.fast` puts its own functions into `OPERATIONS`. These give the same
tokens, and the same numbers within 1e-5, in less time.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
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
    """What the attention kernel gets instead of a mask for packed rows; `None` if it needs a mask.

    Args:
        stack: The stack that attends.
        inputs_embeds: (B, T, D).
        attention_mask: (B, S) or `None`.
        position_ids: (B or 1, S) or `None`.
        kwargs: The other arguments of the forward pass.
    """
    return None


def before_generate(kwargs: Mapping[str, Any]) -> None:
    """Called with the keyword arguments of `generate` before transformers reads them."""


def search(model: Any, stock_search: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The token ids that a search finds, from the inputs that `generate` has prepared.

    Args:
        model: An encoder-decoder or a decoder with a language-model head.
        stock_search: transformers' search, a function of the other arguments.
    """
    return stock_search(*args, **kwargs)


@dataclass
class Operations:
    """The functions in use. A replacement has the same arguments and results as the default."""

    linear: Callable[..., torch.Tensor] = nn.functional.linear
    dropout: Callable[[torch.Tensor, float, bool], torch.Tensor] = nn.functional.dropout
    softmax: Callable[[torch.Tensor], torch.Tensor] = softmax
    projection_loss: Callable[..., torch.Tensor] = projection_loss
    packed_mask: Callable[..., Any] = packed_mask
    before_generate: Callable[[Mapping[str, Any]], None] = before_generate
    search: Callable[..., Any] = search

    def exchange(self, **functions: Callable[..., Any]) -> None:
        """Replace functions, by the names of the fields.

        Raises:
            TypeError: There is no operation of that name.
        """
        unknown = functions.keys() - {field.name for field in fields(self)}
        if unknown:
            raise TypeError(f"there is no operation {', '.join(sorted(unknown))}")
        for name, function in functions.items():
            setattr(self, name, function)

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Context in which the defaults are in use."""
        before = {field.name: getattr(self, field.name) for field in fields(self)}
        self.exchange(**{field.name: field.default for field in fields(self)})  # type: ignore[arg-type]
        try:
            yield
        finally:
            self.exchange(**before)


OPERATIONS = Operations()


class Linear(nn.Linear):
    """`nn.Linear` by the linear operation in use."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return OPERATIONS.linear(input, self.weight, self.bias)


class Dropout(nn.Dropout):
    """`nn.Dropout` by the dropout in use."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return OPERATIONS.dropout(input, self.p, self.training)
