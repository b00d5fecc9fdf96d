"""torch's attention kernel for packed rows, registered as `torch_varlen`. It skips all scores that a mask would hide.

If rows are not packed, or the kernel cannot run, `torch_varlen` computes attention by sdpa with sdpa's masks.

Shapes: B batch, T queries, S keys, D width, H heads, K head width, N packed sequences.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel

from vanilla_transformers.fast.private_names import varlen_attn
from vanilla_transformers.model.attention import attention_implementation

VARLEN = "torch_varlen"
_DTYPES = (torch.bfloat16, torch.float16)


class PackedLengths(NamedTuple):
    """Passed to the kernel instead of a mask: the lengths of the packed sequences.

    Rows are laid end to end. Query sequence n attends to key sequence n.

    Attributes:
        cu_seq_lens_q, cu_seq_lens_k: Cumulative lengths (N + 1,), int32, from 0 to B x T and to B x S with padding.
        max_length_q, max_length_k: Length of the longest sequence, a Python number.
    """

    cu_seq_lens_q: torch.Tensor
    cu_seq_lens_k: torch.Tensor
    max_length_q: int
    max_length_k: int


def packed_lengths(
    model: PreTrainedModel,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    kwargs: Mapping[str, Any],
) -> PackedLengths | None:
    """The packed lengths among the keyword arguments of a forward pass; `None` if the kernel needs a mask.

    Args:
        model: The stack. The kernel must support its configuration and its mode (training or evaluation).
        inputs_embeds: (B, T, D).
        attention_mask: (B, S) or `None`; with a mask, the result is `None`.
        position_ids: (B or 1, T), which must restart in each packed sequence.
        kwargs: The keyword arguments.

    Raises:
        ValueError: If there are packed lengths, but no position ids.
    """
    is_complete = all(kwargs.get(name) is not None for name in PackedLengths._fields)
    if attention_implementation(model.config) != VARLEN or attention_mask is not None or not is_complete:
        return None
    if position_ids is None:
        raise ValueError(
            "cu_seq_lens_q and cu_seq_lens_k are given without position_ids, but positions restart in each packed "
            "sequence: give position_ids that restart in each packed sequence"
        )
    device, dtype = inputs_embeds.device, inputs_embeds.dtype
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)  # autocast computes queries, keys and values in this dtype
    if varlen_problem(model.config, device, dtype, model.training) is not None:
        return None
    return PackedLengths(*(kwargs[name] for name in PackedLengths._fields))


def varlen_problem(config: PreTrainedConfig, device: torch.device, dtype: torch.dtype, is_training: bool) -> str | None:
    """The reason why the kernel cannot run, phrased to follow the kernel's name; `None` if it can run."""
    head_dim = config.hidden_size // config.num_attention_heads
    if not _has_kernel(device):
        return "needs an NVIDIA GPU of compute capability 8.0 or higher"
    if dtype not in _DTYPES:
        return f"computes in bf16 or fp16, not in {str(dtype).removeprefix('torch.')}"
    if head_dim % 8 or head_dim > 192:  # wider heads have no backward pass on some of these GPUs
        return f"takes heads of a width up to 192 that 8 divides, not of {head_dim}"
    if is_training and config.attention_probs_dropout_prob > 0:
        return "has no dropout on attention weights: set attention_probs_dropout_prob to 0"
    return None


def _has_kernel(device: torch.device) -> bool:
    if varlen_attn is None or device.type != "cuda" or torch.version.cuda is None:
        return False
    # With a CUDA build of torch but no driver, get_device_capability would raise an error.
    if not torch.cuda.is_available() or not torch.backends.cuda.is_flash_attention_available():
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def varlen_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | PackedLengths | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """softmax(scaling Q K^T) V (equation 1) within each packed sequence.

    Args:
        query: (B, H, T, K).
        key, value: (B, H, S, K).
        attention_mask: The packed lengths; or a mask (or `None`), with which sdpa computes attention.

    Returns:
        The attended values (B, T, H, K), and `None` for the attention weights.
    """
    # The test is for a tuple, not for `PackedLengths`: checkpoints of earlier versions contain a copy of this module,
    # which defines another class for the lengths.
    if not isinstance(attention_mask, tuple):
        return AttentionInterface()["sdpa"](module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    queries, keys, values = (states.transpose(1, 2).flatten(0, 1) for states in (query, key, value))
    window = (-1, 0) if module.is_causal else (-1, -1)
    attended: Any = varlen_attn(
        queries, keys, values, *attention_mask, scale=scaling, window_size=window
    )  # (B x T, H, K)
    return attended.unflatten(0, (query.shape[0], query.shape[2])), None


# The copy of this module in a checkpoint of an earlier version may have registered the kernel already.
if VARLEN not in AttentionInterface().valid_keys():
    AttentionInterface.register(VARLEN, varlen_attention_forward)
    AttentionMaskInterface.register(VARLEN, AttentionMaskInterface()["sdpa"])
