"""Masks tokens for masked language modelling (BERT, section 3.1, task 1), and collates masked rows.

The random generator of a row comes from the caller, which seeds it with the seed, the epoch and the row number. So the
masked tokens do not depend on the batch that the row is in.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from vanilla_recipes.engine.packing import Packed
from vanilla_recipes.errors import UserError

Ids = NDArray[np.integer]


@dataclass(frozen=True)
class MaskingConfig:
    """How many tokens are masked, and how; the defaults are BERT's.

    Attributes:
        probability: fraction of the tokens that the model predicts; special tokens do not count.
        mask_share: fraction of the predicted tokens that are replaced by `[MASK]`.
        random_share: fraction of the predicted tokens that are replaced by a random token. The remaining predicted
            tokens stay unchanged in the input.
        whole_word: whole word masking: mask all pieces of a word or none.
    """

    probability: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    whole_word: bool = False

    def problems(self) -> Iterator[tuple[str, str]]:
        if not 0 < self.probability < 1:
            yield "probability", "must be greater than 0 and less than 1"
        for name in ("mask_share", "random_share"):
            if not 0 <= getattr(self, name) <= 1:
                yield name, "must be between 0 and 1"
        if self.mask_share + self.random_share > 1 + 1e-9:
            yield "random_share", f"must be at most 1 - mask_share, which is {self.mask_share}"


class MaskedRow(NamedTuple):
    """A row with some tokens masked.

    Attributes:
        input_ids: input of the model, shape (T,).
        positions: positions of the N predicted tokens, ascending, shape (N,).
        labels: original ids of the predicted tokens, shape (N,).
    """

    input_ids: Ids
    positions: NDArray[np.int64]
    labels: Ids


class Masker:
    """Masks tokens of a row.

    Args:
        tokenizer: a tokenizer with a mask token. Its special tokens are never masked, and never drawn as the random
            token.
        config: the fractions to mask.

    Raises:
        UserError: If `whole_word` is on, and the tokenizer does not mark the pieces that continue a word.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, config: MaskingConfig) -> None:
        self.config = config
        self.mask_id = tokenizer.mask_token_id
        self.is_special = np.zeros(len(tokenizer), dtype=bool)
        self.is_special[tokenizer.all_special_ids] = True
        self.ordinary_ids = np.flatnonzero(~self.is_special)
        self.goes_on = _continuing_pieces(tokenizer) if config.whole_word else None

    def __call__(self, ids: Ids, generator: np.random.Generator) -> MaskedRow:
        """Returns a masked copy of a row; at least one word (or token) is masked unless all tokens are special."""
        positions = self._choose(ids, generator)
        hidden = ids.copy()
        fate, share = generator.random(len(positions)), self.config.mask_share
        masked, changed = fate < share, (fate >= share) & (fate < share + self.config.random_share)
        hidden[positions[masked]] = self.mask_id
        hidden[positions[changed]] = generator.choice(self.ordinary_ids, np.count_nonzero(changed))
        return MaskedRow(hidden, positions, ids[positions])

    def _choose(self, ids: Ids, generator: np.random.Generator) -> NDArray[np.int64]:
        """Returns the positions of the tokens to predict.

        Without whole word masking every token counts as a word. All words are equally likely. The number of chosen
        words is `num_words * probability`, rounded up or down at random so that its mean is exact, and at least 1.
        """
        positions = np.flatnonzero(~self.is_special[ids])
        words = self._word_numbers(ids, positions)
        num_words = int(words[-1]) + 1 if len(words) else 0
        num_chosen = int(num_words * self.config.probability + generator.random())
        chosen = np.zeros(num_words, dtype=bool)
        chosen[generator.permutation(num_words)[: max(1, num_chosen)]] = True
        return positions[chosen[words]]

    def _word_numbers(self, ids: Ids, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the word index, from 0, of the token at each of the positions."""
        if self.goes_on is None:
            return np.arange(len(positions))
        begins = ~self.goes_on[ids[positions]]
        begins[:1] = True  # a row may begin inside a word
        begins[1:] |= np.diff(positions) > 1  # text after a special token may begin inside a word too
        return np.cumsum(begins) - 1


def _continuing_pieces(tokenizer: PreTrainedTokenizerFast) -> NDArray[np.bool_]:
    """Returns, for each token id, whether it is a piece that continues a word."""
    prefix = getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None)
    if not prefix:
        raise UserError(
            "masking.whole_word=true: the tokenizer does not mark the pieces that continue a word, as WordPiece does "
            "with ##; use masking.whole_word=false"
        )
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return np.array([token.startswith(prefix) and token != prefix for token in tokens])


def pack_masked(rows: Sequence[MaskedRow], pad_token_id: int, pack_length: int | None) -> dict[str, Any]:
    """Packs rows into lines (see `Packed`). Loss and gradients equal those of `collate_masked`.

    Returns:
        `input_ids` and `position_ids` (lines, T); `masked_positions` (N,), the indices line * T + t of the masked
        tokens in the flattened batch; `labels` (N,); the sequence lengths that attention kernels need. N counts the
        masked tokens of all rows, in the order of `rows`.
    """
    packed = Packed(np.array([len(row.input_ids) for row in rows]), pack_length)
    positions = [start + row.positions for start, row in zip(packed.starts(), rows, strict=True)]
    return {
        "input_ids": packed.lay_out([row.input_ids for row in rows], pad_token_id),
        "position_ids": packed.position_ids(),
        **packed.lengths_for_kernels(),
        "masked_positions": torch.from_numpy(np.concatenate(positions)),
        "labels": torch.from_numpy(np.concatenate([row.labels for row in rows]).astype(np.int64)),
    }


def collate_masked(rows: Sequence[MaskedRow], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Pads rows to a batch, with positions that let the model compute its head for masked tokens only.

    Returns:
        `input_ids` and `attention_mask` (B, T), padded on the right; `masked_positions` (N,), the indices b * T + t of
        the masked tokens in the flattened batch; `labels` (N,). N counts the masked tokens of all rows, in the order
        of `rows`.
    """
    lengths = np.array([len(row.input_ids) for row in rows])
    width = int(lengths.max())
    input_ids = np.full((len(rows), width), pad_token_id, dtype=np.int64)
    for line, row in zip(input_ids, rows, strict=True):
        line[: len(row.input_ids)] = row.input_ids
    positions = np.concatenate([number * width + row.positions for number, row in enumerate(rows)])
    return {
        "input_ids": torch.from_numpy(input_ids),
        "attention_mask": torch.from_numpy((np.arange(width) < lengths[:, None]).astype(np.int64)),
        "masked_positions": torch.from_numpy(positions),
        "labels": torch.from_numpy(np.concatenate([row.labels for row in rows]).astype(np.int64)),
    }
