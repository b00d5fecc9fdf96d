"""Reorders the residual stream: interleaved sinusoids (our default) become Marian's, first sines, then cosines."""

import torch
from transformers import PreTrainedConfig

from vanilla_transformers.interop.rules import Tensors

LAYOUT_MARK = "vanilla_sinusoidal_layout"
"""Config field that an export sets if it reorders the residual stream; the value is our `sinusoidal_layout`."""


def permute_width(tensors: Tensors, order: torch.Tensor) -> Tensors:
    """Reorders the components of the residual stream in the weights of a model. The model's function stays the same.

    A layer norm treats all components alike, and every other weight has a row or a column for each component. Only the
    order of floating-point sums changes.

    Args:
        tensors: our state dict.
        order: (D,), the old index of the component at each new index.

    Returns:
        The state dict with reordered weights.
    """
    return {name: _permuted(name, tensor, order) for name, tensor in tensors.items()}


def _permuted(name: str, tensor: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    module_name, part = name.split(".")[-2:]
    if module_name in ("norm", "o_proj", "down_proj"):  # the first dimension is the residual width
        return tensor[order]
    is_read = module_name in ("embed_tokens", "lm_head", "q_proj", "k_proj", "v_proj", "up_proj")
    return tensor[:, order] if is_read and part == "weight" else tensor


def is_permuted(stock: PreTrainedConfig) -> bool:
    """Whether the components of the residual stream (its D dimensions) were permuted when our model was exported."""
    return getattr(stock, LAYOUT_MARK, None) == "interleaved"


def to_halves(width: int) -> torch.Tensor:
    """The order (D,) that moves interleaved sines and cosines into two halves. Its `argsort` is the inverse order."""
    return torch.cat((torch.arange(0, width, 2), torch.arange(1, width, 2)))
