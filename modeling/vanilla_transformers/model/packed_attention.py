"""Packed rows: several sequences in one row, kept apart by a mask, or by a kernel that reads their lengths."""

from typing import Any

import torch

PACKED_LENGTHS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
"""Arguments that describe packed sequences to a kernel, with the names in transformers: the cumulative lengths of the
sequences of queries and of keys, and the length of the longest sequence of queries and of keys."""


def same_sequence(attention_mask, query_position_ids, key_position_ids):
    """Mask function that is true for a query and a key of the same packed sequence; `None` if nothing is packed.

    Rows are packed if there are position ids and no mask.

    Args:
        attention_mask: (B, S) or `None`.
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
    """Index (B, T) of each token's packed sequence. A sequence begins where a position is not its predecessor + 1."""
    return (position_ids.diff(prepend=position_ids[:, :1] - 1) != 1).cumsum(-1)


def of_one_side(kwargs: dict[str, Any], side: str) -> dict[str, Any]:
    """Keyword arguments for the self attention of one stack of an encoder-decoder.

    Args:
        kwargs: Keyword arguments for cross attention, with lengths "q" of the targets and "k" of the sources.
        side: "q" for the self attention of the targets, "k" for the self attention of the sources.
    """
    own = {name: kwargs[name[:-1] + side] for name in PACKED_LENGTHS if name[:-1] + side in kwargs}
    return kwargs | own
