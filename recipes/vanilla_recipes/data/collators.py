"""From pairs of sentences to token ids, and from token ids to padded or packed batches."""

import logging
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from vanilla_recipes.data.rows import Pair
from vanilla_recipes.engine.packing import Packed
from vanilla_transformers.model.losses import IGNORE_INDEX

logger = logging.getLogger(__name__)

CHUNK_ROWS = 1000
"""Texts encoded at a time; their offsets and masks take far more memory than the ids that are kept."""


class PairFeatures(TypedDict):
    """Token ids of one pair, each side with its final `</s>`.

    Where the decoder is to see something else than the labels, `decoder_input_ids` is that, behind its start token.
    """

    input_ids: list[int]
    labels: list[int]
    decoder_input_ids: NotRequired[list[int]]


def encode_pairs(
    pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, max_source_length: int, max_target_length: int
) -> list[PairFeatures]:
    """Token ids of every pair, in order.

    A longer side is cut to its limit, which counts the final `</s>` that stays; how many were cut is logged.

    Args:
        pairs: source and target sentences.
        tokenizer: one that ends its sequences itself.
        max_source_length: tokens of a source at most.
        max_target_length: tokens of a target at most.
    """
    sources, num_cut_sources = _encode([pair.source for pair in pairs], tokenizer, max_source_length, "text")
    targets, num_cut_targets = _encode([pair.target for pair in pairs], tokenizer, max_target_length, "text_target")
    if num_cut_sources or num_cut_targets:
        logger.warning(
            "truncated %d sources to tokenizer.max_source_length=%d tokens and %d targets to "
            "tokenizer.max_target_length=%d, of %d pairs",
            num_cut_sources, max_source_length, num_cut_targets, max_target_length, len(pairs),
        )  # fmt: skip
    return [{"input_ids": source, "labels": target} for source, target in zip(sources, targets, strict=True)]


def _encode(
    texts: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int, argument: str
) -> tuple[list[list[int]], int]:
    """Token ids of each text, and how many texts were cut; Marian's tokenizer reads sources and targets differently."""
    ids: list[list[int]] = []
    num_cut = 0
    for start in range(0, len(texts), CHUNK_ROWS):
        chunk = texts[start : start + CHUNK_ROWS]
        settings: dict[str, Any] = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        found = tokenizer(**{argument: chunk}, **settings)["input_ids"]
        for row in (row for row, tokens in enumerate(found) if len(tokens) > max_length):
            limits = {"truncation": True, "max_length": max_length}
            found[row] = tokenizer(**{argument: chunk[row]}, **limits, **settings)["input_ids"]
            num_cut += 1
        ids += found
    return ids, num_cut


class PackedTranslationCollator:
    """Packs features into lines, which `Packed` describes; a padded batch of them gives the same loss and gradients.

    Makes `input_ids` and `position_ids` (lines, S), `decoder_input_ids`, `decoder_position_ids` and `labels`
    (lines, T): the n-th target of a line belongs to its n-th source. The lengths for kernels are there as well.

    Args:
        pad_token_id: fills `input_ids` at the end of a line.
        decoder_start_token_id: begins the decoder's input for each row.
        pack_length: the most tokens of a line on a side; None packs all rows into one.
    """

    def __init__(self, pad_token_id: int, decoder_start_token_id: int, pack_length: int | None) -> None:
        self.pad_token_id, self.decoder_start_token_id = pad_token_id, decoder_start_token_id
        self.pack_length = pack_length

    def __call__(self, features: Sequence[PairFeatures]) -> dict[str, Any]:
        """One batch from the features, other keys left aside."""
        sources, targets = zip(*((row["input_ids"], row["labels"]) for row in features), strict=True)
        lengths = np.array([(len(source), len(target)) for source, target in zip(sources, targets, strict=True)])
        packed = Packed(lengths, self.pack_length)
        shifted = [
            row.get("decoder_input_ids") or [self.decoder_start_token_id, *row["labels"][:-1]] for row in features
        ]
        return {
            "input_ids": packed.lay_out(sources, self.pad_token_id),
            "position_ids": packed.position_ids(),
            "decoder_input_ids": packed.lay_out(shifted, self.pad_token_id, side=1),
            "decoder_position_ids": packed.position_ids(side=1),
            "labels": packed.lay_out(targets, IGNORE_INDEX, side=1),
            **packed.lengths_for_kernels(),
        }


class TranslationCollator:
    """Pads features on the right to `input_ids`, `attention_mask` (B, S) and `labels` (B, T).

    Labels are padded with -100 and not shifted: the model derives its decoder inputs from them, unless the features
    have `decoder_input_ids`, which are padded then.

    Args:
        pad_token_id: fills `input_ids`.
        pad_to_multiple_of: round S and T up to a multiple of this, for kernels that want it.
    """

    def __init__(self, pad_token_id: int, pad_to_multiple_of: int = 1):
        self.pad_token_id = pad_token_id
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, features: Sequence[PairFeatures]) -> dict[str, torch.Tensor]:
        """One batch from the features, other keys left aside."""
        sources = [feature["input_ids"] for feature in features]
        input_ids = self._pad(sources, self.pad_token_id)
        lengths = torch.tensor([len(source) for source in sources])
        batch = {
            "input_ids": input_ids,
            "attention_mask": (torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
            "labels": self._pad([feature["labels"] for feature in features], IGNORE_INDEX),
        }
        seen = [feature["decoder_input_ids"] for feature in features if "decoder_input_ids" in feature]
        return batch | {"decoder_input_ids": self._pad(seen, self.pad_token_id)} if seen else batch

    def _pad(self, rows: list[list[int]], value: int) -> torch.Tensor:
        """A (B, longest) tensor of int64."""
        longest = max(map(len, rows))
        width = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        padded = np.full((len(rows), width), value, dtype=np.int64)
        for line, row in zip(padded, rows, strict=True):
            line[: len(row)] = row
        return torch.from_numpy(padded)
