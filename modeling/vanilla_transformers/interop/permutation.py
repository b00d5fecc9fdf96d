"""The paper's interleaved sinusoids as the halves of Marian and FSMT: another order of the residual width."""

import torch
from transformers import PreTrainedConfig

from vanilla_transformers.interop.rules import Tensors

LAYOUT_MARK = "vanilla_sinusoidal_layout"
"""In the config of a stock model whose width was permuted on its way out: the layout that it had here."""


def permute_width(tensors: Tensors, order: torch.Tensor) -> Tensors:
    """The same model with the components of its residual stream in another order.

    A layer norm treats all components alike and every other weight touches them in rows or columns of its own, so
    nothing changes but the order in which numbers are added up.

    Args:
        tensors: our state dict.
        order: (D,), the old component at each new place.
    """
    return {name: _permuted(name, tensor, order) for name, tensor in tensors.items()}


def _permuted(name: str, tensor: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    module_name, part = name.split(".")[-2:]
    if module_name in ("norm", "o_proj", "down_proj"):  # what is written to the stream
        return tensor[order]
    is_read = module_name in ("embed_tokens", "lm_head", "q_proj", "k_proj", "v_proj", "up_proj")
    return tensor[:, order] if is_read and part == "weight" else tensor


def is_permuted(stock: PreTrainedConfig) -> bool:
    """Whether the width of that stock model was permuted on its way out."""
    return getattr(stock, LAYOUT_MARK, None) == "interleaved"


def to_halves(width: int) -> torch.Tensor:
    """The order (D,) that puts interleaved sines and cosines into halves; its `argsort` is the way back."""
    return torch.cat((torch.arange(0, width, 2), torch.arange(1, width, 2)))
