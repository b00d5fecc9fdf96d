"""Augmentations of sentence pairs that suit small data: word dropout on both sides, and reversed pairs.

Word dropout hides words from the encoder, or from what the decoder sees of the target so far, and asks for the whole
target all the same (Gal and Ghahramani 2016; Sennrich et al. 2016, "Edinburgh Neural Machine Translation Systems for
WMT 16"). A reversed pair is translated from target to source; its source begins with the start token, which no other
source has, so that the model keeps the two directions apart (Johnson et al. 2017) and one direction is left alone.

What becomes of a row is a function of (seed, epoch, row number), so that neither a resume nor the cut of a batch
changes it. BPE dropout (Provilkov et al. 2020) is left out: tokenizers draws it from a generator that cannot be seeded.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from vanilla_recipes.data.augmentation import hide_words
from vanilla_recipes.data.collators import PairFeatures
from vanilla_recipes.data.labelled_features import NO_WORD, Tokens
from vanilla_recipes.errors import UserError

WORD_STARTS = ("\u2581", "\u0120")
"""What the tokens begin with that begin a word: the space of SentencePiece and that of byte-level BPE."""


@dataclass(frozen=True)
class PairAugmentationConfig:
    """How training pairs are changed, anew in every epoch; words stay whole, and 0 leaves the pairs as they are.

    Attributes:
        word_dropout: the probability of each word of the source to be hidden behind the unknown token.
        target_word_dropout: the same for the words that the decoder has before it; it is to predict all of them.
        reversal: the probability of a pair to be translated from target to source.
    """

    word_dropout: float = 0.0
    target_word_dropout: float = 0.0
    reversal: float = 0.0

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in ("word_dropout", "target_word_dropout", "reversal"):
            if not 0 <= getattr(self, name) < 1:
                yield name, "must be at least 0 and less than 1"

    @property
    def is_on(self) -> bool:
        """Whether anything is changed."""
        return bool(self.word_dropout or self.target_word_dropout or self.reversal)


class PairAugmenter:
    """Changes pairs as the settings say.

    Args:
        config: how much is changed.
        tokenizer: that of the pairs.
        decoder_start_token_id: begins what the decoder sees.
        max_source_length: tokens of a reversed source at most, which is cut before its last.
        max_target_length: tokens of a reversed target at most.

    Raises:
        UserError: the tokenizer has no token to hide a word, or to mark a reversed pair.
    """

    def __init__(
        self,
        config: PairAugmentationConfig,
        tokenizer: PreTrainedTokenizerFast,
        decoder_start_token_id: int,
        max_source_length: int,
        max_target_length: int,
    ) -> None:
        self.config, self.start_id = config, decoder_start_token_id
        self.max_lengths = max_source_length, max_target_length
        self.hidden_id, self.mark_id = tokenizer.unk_token_id, tokenizer.bos_token_id
        self._check(tokenizer)
        self.begins_word = np.zeros(max(tokenizer.get_vocab().values()) + 1, dtype=bool)
        for token, token_id in tokenizer.get_vocab().items():
            self.begins_word[token_id] = token.startswith(WORD_STARTS)
        self.special_ids = np.array([*tokenizer.all_special_ids, decoder_start_token_id])

    def __call__(self, row: PairFeatures, generator: np.random.Generator) -> PairFeatures:
        """The pair with its sides exchanged or words hidden, or as it is.

        Args:
            row: the pair.
            generator: the source of all chance.
        """
        source, target = row["input_ids"], row["labels"]
        if self.config.reversal and generator.random() < self.config.reversal:
            source, target = self._reversed(source, target)
        changed: PairFeatures = {"input_ids": source, "labels": target}
        if self.config.word_dropout:
            changed["input_ids"] = self._hidden(source, self.config.word_dropout, generator)
        if self.config.target_word_dropout:
            seen = [self.start_id, *target[:-1]]
            changed["decoder_input_ids"] = self._hidden(seen, self.config.target_word_dropout, generator)
        return changed

    def _reversed(self, source: list[int], target: list[int]) -> tuple[list[int], list[int]]:
        max_source_length, max_target_length = self.max_lengths
        return _cut([self.mark_id, *target], max_source_length), _cut(source, max_target_length)

    def _hidden(self, ids: list[int], rate: float, generator: np.random.Generator) -> list[int]:
        tokens = np.array(ids, np.int32)
        words = np.where(np.isin(tokens, self.special_ids), NO_WORD, self._words(tokens))
        return hide_words(Tokens(tokens, words=words), rate, self.hidden_id, generator).input_ids.tolist()

    def _words(self, tokens: NDArray[np.int32]) -> NDArray[np.int32]:
        """The number of each token's word."""
        return np.cumsum(self.begins_word[tokens], dtype=np.int32)

    def _check(self, tokenizer: PreTrainedTokenizerFast) -> None:
        for name in ("word_dropout", "target_word_dropout"):
            if getattr(self.config, name) and self.hidden_id is None:
                raise UserError(
                    f"augmentation.{name}: the tokenizer has no unknown token that could hide a word; set it to 0"
                )
        if self.config.reversal and (self.mark_id is None or self.mark_id in tokenizer("a")["input_ids"]):
            raise UserError(
                "augmentation.reversal: the tokenizer has no start token that its sources lack, which could mark a "
                "reversed pair; set it to 0"
            )


def _cut(ids: list[int], max_length: int) -> list[int]:
    """The tokens, or the first of them and the last."""
    return ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]]
