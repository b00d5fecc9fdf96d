"""Augmentation of sentence pairs for small training sets: word dropout on both sides, and reversed pairs.

Word dropout replaces words in the encoder's or the decoder's input by the unknown token; the labels stay complete (Gal
and Ghahramani 2016; Sennrich et al. 2016, "Edinburgh Neural Machine Translation Systems for WMT 16"). A reversed pair
is translated from target to source. Its source begins with the tokenizer's start token, which ordinary sources lack, so
the model can tell the directions apart (Johnson et al. 2017), and sources of the ordinary direction are unchanged.

An augmented pair is a function of (seed, epoch, row number). Resuming a run or splitting a batch differently therefore
gives the same pairs. BPE dropout (Provilkov et al. 2020) is not offered: the tokenizers library draws it from a random
generator that cannot be seeded.
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
"""First character of tokens that begin a word: the space mark of SentencePiece and of byte-level BPE."""


@dataclass(frozen=True)
class PairAugmentationConfig:
    """How training pairs are augmented, differently in every epoch. 0 turns an augmentation off.

    Attributes:
        word_dropout: probability of replacing all tokens of a source word by the unknown token.
        target_word_dropout: probability of replacing all tokens of a target word in the decoder's input by the unknown
            token. The labels stay complete.
        reversal: probability of reversing a pair, so that it is translated from target to source.
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
        """Whether any augmentation is turned on."""
        return bool(self.word_dropout or self.target_word_dropout or self.reversal)


class PairAugmenter:
    """Augments sentence pairs.

    Args:
        config: the augmentations and their probabilities.
        tokenizer: the tokenizer that encoded the pairs.
        decoder_start_token_id: first token of the decoder's input.
        max_source_length: maximum number of tokens of a reversed source. Truncation keeps its last token, `</s>`.
        max_target_length: maximum number of tokens of a reversed target. Truncation keeps its last token, `</s>`.

    Raises:
        UserError: If word dropout is on and the tokenizer has no unknown token. If `reversal` is on and the tokenizer
            has no start token or adds it to every source.
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
        """Returns an augmented pair: reversed with probability `reversal`, then with word dropout.

        Args:
            row: the encoded pair.
            generator: the random generator.
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
        """Returns the word index of each token, shape (tokens,)."""
        return np.cumsum(self.begins_word[tokens], dtype=np.int32)

    def _check(self, tokenizer: PreTrainedTokenizerFast) -> None:
        for name in ("word_dropout", "target_word_dropout"):
            if getattr(self.config, name) and self.hidden_id is None:
                raise UserError(
                    f"augmentation.{name}: the tokenizer has no unknown token to replace a word with; set this "
                    "setting to 0"
                )
        if self.config.reversal and (self.mark_id is None or self.mark_id in tokenizer("a")["input_ids"]):
            raise UserError(
                "augmentation.reversal: the tokenizer has no start token, or adds it to every source, so that it "
                "cannot mark a reversed pair; set it to 0"
            )


def _cut(ids: list[int], max_length: int) -> list[int]:
    """Truncates to `max_length` tokens; the last token is kept."""
    return ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]]
