"""What keeps the sequences of a packed row apart: a mask, or a kernel that is told their lengths.

Shapes: B batch, T target or only length, S source length.
"""

from typing import Any

import torch

PACKED_LENGTHS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
"""The arguments by which kernels are told the lengths of packed sequences, as transformers calls them: cumulative
lengths of the queries' and the keys' sequences, and the greatest length of each."""


def same_sequence(attention_mask, query_position_ids, key_position_ids):
    """Mask function that keeps the sequences packed into a row apart, or `None` where nothing is packed.

    Args:
        attention_mask: A mask already says what is seen; nothing is packed then.
        query_position_ids, key_position_ids: (B or 1, T) and (B or 1, S), or `None`.
    """
    if attention_mask is not None or query_position_ids is None or key_position_ids is None:
        return None
    query_sequences, key_sequences = sequence_ids(query_position_ids), sequence_ids(key_position_ids)

    def mask_function(batch_idx, head_idx, query_idx, key_idx):
        queries = query_sequences[batch_idx % query_sequences.shape[0], query_idx]
        return queries == key_sequences[batch_idx % key_sequences.shape[0], key_idx]

    return mask_function


def sequence_ids(position_ids: torch.Tensor) -> torch.Tensor:
    """Number (B, T) of the packed sequence that each token belongs to: a new one where positions do not go on."""
    return (position_ids.diff(prepend=position_ids[:, :1] - 1) != 1).cumsum(-1)


def of_one_side(kwargs: dict[str, Any], side: str) -> dict[str, Any]:
    """Keyword arguments for self attention in an encoder-decoder, where queries are the target and keys the source.

    Args:
        kwargs: Those of both sides.
        side: "q" for the target's own, "k" for the source's own.
    """
    own = {name: kwargs[name[:-1] + side] for name in PACKED_LENGTHS if name[:-1] + side in kwargs}
    return kwargs | own
