"""Encodes sentence pairs as token ids, and collates them into padded or packed batches."""

import logging
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from vanilla_recipes.data.pairs import Pair
from vanilla_recipes.engine.packing import Packed
from vanilla_transformers.model.losses import IGNORE_INDEX

logger = logging.getLogger(__name__)

CHUNK_ROWS = 1000
"""Number of texts encoded in one call. The tokenizer also returns offsets and masks, which take far more memory than
the token ids, so that one call for all texts would take too much."""


class PairFeatures(TypedDict):
    """Token ids of one sentence pair; source and target both end in `</s>`.

    `decoder_input_ids` is present only if the decoder's input is not the shifted labels, for example with word dropout
    on the target. It begins with the decoder's start token.
    """

    input_ids: list[int]
    labels: list[int]
    decoder_input_ids: NotRequired[list[int]]


def encode_pairs(
    pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, max_source_length: int, max_target_length: int
) -> list[PairFeatures]:
    """Encodes every sentence pair, in order.

    A sentence that is too long is truncated, and the numbers of truncated sources and targets are logged. The final
    `</s>` is kept and counts towards the limit.

    Args:
        pairs: source and target sentences.
        tokenizer: a tokenizer that adds the final `</s>` itself.
        max_source_length: maximum number of tokens of a source.
        max_target_length: maximum number of tokens of a target.
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
    """Returns the token ids of each text and the number of truncated texts.

    `argument` is "text" for sources and "text_target" for targets: Marian's tokenizer encodes them differently.
    """
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
    """Packs sentence pairs into lines (see `Packed`). Loss and gradients equal those of a padded batch.

    The batch has `input_ids` and `position_ids` (lines, S), and `decoder_input_ids`, `decoder_position_ids` and
    `labels` (lines, T). The n-th target of a line belongs to its n-th source. The batch also has the sequence lengths
    that attention kernels need.

    Args:
        pad_token_id: padding id of `input_ids` and `decoder_input_ids` at the end of a line.
        decoder_start_token_id: first token of the decoder's input of each sentence pair.
        pack_length: maximum number of source tokens, and of target tokens, of a line; None packs all pairs into one
            line.
    """

    def __init__(self, pad_token_id: int, decoder_start_token_id: int, pack_length: int | None) -> None:
        self.pad_token_id, self.decoder_start_token_id = pad_token_id, decoder_start_token_id
        self.pack_length = pack_length

    def __call__(self, features: Sequence[PairFeatures]) -> dict[str, Any]:
        """Makes one batch of the features; keys that `PairFeatures` does not have are ignored."""
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
    """Pads sentence pairs on the right: `input_ids` and `attention_mask` (B, S), `labels` (B, T).

    Labels are padded with -100 and not shifted: the model derives its decoder input from the labels. If the features
    have `decoder_input_ids`, the batch has them too, padded.

    Args:
        pad_token_id: padding id of `input_ids` and `decoder_input_ids`.
        pad_to_multiple_of: S and T are rounded up to a multiple of this number, which some kernels need.
    """

    def __init__(self, pad_token_id: int, pad_to_multiple_of: int = 1):
        self.pad_token_id = pad_token_id
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, features: Sequence[PairFeatures]) -> dict[str, torch.Tensor]:
        """Makes one batch of the features; keys that `PairFeatures` does not have are ignored."""
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
        """Pads rows with `value` to int64 (B, T). T is the longest length, rounded up to `pad_to_multiple_of`."""
        longest = max(map(len, rows))
        width = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        padded = np.full((len(rows), width), value, dtype=np.int64)
        for line, row in zip(padded, rows, strict=True):
            line[: len(row)] = row
        return torch.from_numpy(padded)
