"""The operations that can be exchanged for faster ones: the one seam between this folder and `fast/`.

The files of this folder travel with a saved model, and compute everything by public functions of torch and
transformers. Where the package is installed, `vanilla_transformers.fast` puts functions of its own into `OPERATIONS`,
which give the same tokens, and the same numbers within 1e-5, in less time.

Shapes: B batch, T target or only length, S source length, D width, H heads, V vocabulary.
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
    """`cross_entropy_loss` of the logits (..., V) that a projection makes of hidden states (..., D)."""
    return cross_entropy_loss(projection(hidden_states), labels, num_items_in_batch, label_smoothing)


def packed_mask(
    stack: Any,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    kwargs: Mapping[str, Any],
) -> Any:
    """What the attention kernel is to be given instead of a mask for packed rows; `None` if it needs a mask.

    Args:
        stack: Whose configuration and mode decide.
        inputs_embeds: (B, T, D).
        attention_mask: (B, T) or `None`.
        position_ids: (B or 1, T) or `None`.
        kwargs: Other arguments of the forward pass.
    """
    return None


def before_generate(kwargs: Mapping[str, Any]) -> None:
    """Looks at the arguments of `generate` before transformers sees them."""


def search(model: Any, stock_search: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The tokens of what `generate` has prepared.

    Args:
        model: An encoder-decoder or a decoder with a language-model head.
        stock_search: transformers' search, which takes the other arguments.
    """
    return stock_search(*args, **kwargs)


@dataclass
class Operations:
    """The functions in use. Each replacement takes and returns what the default does."""

    linear: Callable[..., torch.Tensor] = nn.functional.linear
    dropout: Callable[[torch.Tensor, float, bool], torch.Tensor] = nn.functional.dropout
    softmax: Callable[[torch.Tensor], torch.Tensor] = softmax
    projection_loss: Callable[..., torch.Tensor] = projection_loss
    packed_mask: Callable[..., Any] = packed_mask
    before_generate: Callable[[Mapping[str, Any]], None] = before_generate
    search: Callable[..., Any] = search

    def exchange(self, **functions: Callable[..., Any]) -> None:
        """Puts other functions into use, by the names of the fields.

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
        """While active, the defaults are in use."""
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
