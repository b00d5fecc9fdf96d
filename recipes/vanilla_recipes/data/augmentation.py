"""Augmentation of texts for classification: easy data augmentation (Wei and Zou 2019), word and subword dropout.

Random swap, random deletion and word dropout need only the text. Synonym replacement and random insertion of the paper
are left out: they take words from WordNet, a lexicon of one language that users would have to install and download.

An augmented row is a function of (seed, epoch, row number). Resuming a run or splitting a batch differently therefore
gives the same rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from vanilla_recipes.data.labelled_features import NO_WORD, Tokens
from vanilla_recipes.data.subwords import WordPieces
from vanilla_recipes.errors import UserError

Places = NDArray[np.int64]


@dataclass(frozen=True)
class AugmentationConfig:
    """How training rows are augmented, differently in every epoch. 0 turns an augmentation off.

    Swap, deletion and word dropout change words: all tokens of a word are changed together.

    Attributes:
        swap: number of swaps of two words, as a fraction of the number of words of a text. The number is rounded down,
            but a text of two or more words has at least one swap if `swap` is not 0.
        deletion: probability of deleting a word; at least one word of a text is kept.
        word_dropout: probability of replacing the tokens of a word by the mask token, or by the unknown token if the
            tokenizer has no mask token.
        subword_dropout: probability that WordPiece skips a piece and tries the next shorter piece (MaxMatch-Dropout,
            see `subwords`).
    """

    swap: float = 0.0
    deletion: float = 0.0
    word_dropout: float = 0.0
    subword_dropout: float = 0.0

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in ("swap", "deletion", "word_dropout", "subword_dropout"):
            if not 0 <= getattr(self, name) < 1:
                yield name, "must be at least 0 and less than 1"

    @property
    def is_on(self) -> bool:
        """Whether any augmentation is turned on."""
        return bool(self.swap or self.deletion or self.word_dropout or self.subword_dropout)

    @property
    def changes_lengths(self) -> bool:
        """Whether augmentation can change the number of tokens of a row."""
        return bool(self.deletion or self.subword_dropout)


class Augmenter:
    """Augments rows; special tokens are neither moved nor deleted.

    Args:
        config: the augmentations and their rates.
        tokenizer: the tokenizer that encoded the rows.
        max_length: maximum number of tokens of a row. If subword dropout makes a row longer, the row stays unchanged.

    Raises:
        UserError: If `word_dropout` is on and the tokenizer has neither a mask token nor an unknown token, or if
            `subword_dropout` is on and the tokenizer is not WordPiece.
    """

    def __init__(self, config: AugmentationConfig, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        self.config = config
        hidden_id = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.unk_token_id
        if hidden_id is None and config.word_dropout:
            raise UserError(
                "augmentation.word_dropout: the tokenizer has no mask token and no unknown token to replace a word "
                "with; set augmentation.word_dropout=0"
            )
        self.hidden_id = hidden_id
        self.pieces = WordPieces(tokenizer, max_length) if config.subword_dropout else None

    def __call__(self, tokens: Tokens, generator: np.random.Generator) -> Tokens:
        """Returns an augmented row: subword dropout, word dropout, swap and deletion, in this order.

        Args:
            tokens: a row with `words`.
            generator: the random generator.
        """
        config = self.config
        if self.pieces is not None:
            tokens = self.pieces.cut(tokens, config.subword_dropout, generator)
        if config.word_dropout:
            tokens = hide_words(tokens, config.word_dropout, self.hidden_id, generator)
        if config.swap or config.deletion:
            tokens = _move_words(tokens, config, generator)
        return tokens


class AugmentedRows:
    """The augmented training rows of each epoch.

    Args:
        rows: the rows without augmentation.
        augment: returns an augmented row, given a row and a random generator.
        seed: seeds the random generator of each row, together with the epoch and the row number.
    """

    def __init__(
        self, rows: Sequence[Tokens], augment: Callable[[Tokens, np.random.Generator], Tokens], seed: int
    ) -> None:
        self.rows, self.augment, self.seed = rows, augment, seed
        self._epoch: int | None = None
        self._kept: list[Tokens] = []
        self._lengths = np.zeros(0, np.int64)

    def row(self, number: int, epoch: int) -> Tokens:
        """Returns row `number` as augmented in `epoch`."""
        if epoch == self._epoch:
            return self._kept[number]
        return self.augment(self.rows[number], np.random.default_rng([self.seed, epoch, number]))

    def lengths(self, epoch: int) -> NDArray[np.int64]:
        """Number of tokens of each row in `epoch`, shape (rows,).

        The augmented rows of this epoch stay in memory until the lengths of another epoch are requested.
        """
        if epoch != self._epoch:
            self._kept = [self.row(number, epoch) for number in range(len(self.rows))]
            self._lengths = np.array([len(row.input_ids) for row in self._kept], dtype=np.int64)
            self._epoch = epoch
        return self._lengths


def hide_words(tokens: Tokens, rate: float, hidden_id: int, generator: np.random.Generator) -> Tokens:
    """Returns a row in which each word is hidden with probability `rate`: all its tokens become `hidden_id`."""
    assert tokens.words is not None, "the row was encoded for augmentation"
    piece_of_token = np.cumsum(tokens.begins_piece) - 1
    draws = generator.random(piece_of_token.max(initial=-1) + 1)
    is_hidden = (tokens.words != NO_WORD) & (draws < rate)[piece_of_token]
    return replace(tokens, input_ids=np.where(is_hidden, np.int32(hidden_id), tokens.input_ids))


def _move_words(tokens: Tokens, config: AugmentationConfig, generator: np.random.Generator) -> Tokens:
    """Returns a row with words swapped and deleted. In a text pair, words are swapped only within one text."""
    assert tokens.words is not None, "the row was encoded for augmentation"
    starts = np.flatnonzero(tokens.begins_piece)
    pieces = np.split(np.arange(len(tokens.words)), starts[1:])
    is_word = tokens.words[starts] != NO_WORD
    text_of_piece = np.cumsum(~is_word)  # special tokens separate the two texts of a pair
    order, stays = np.arange(len(pieces)), np.ones(len(pieces), dtype=bool)
    for text in np.unique(text_of_piece[is_word]):
        members = np.flatnonzero(is_word & (text_of_piece == text))
        _swap(order, members, config.swap, generator)
        stays[members] = _stays(len(members), config.deletion, generator)
    return tokens.take(np.concatenate([pieces[piece] for piece in order[stays]]))


def _swap(order: Places, words: Places, rate: float, generator: np.random.Generator) -> None:
    """Swaps random pairs of words in `order`, in place."""
    if rate and len(words) > 1:
        for _ in range(max(1, int(rate * len(words)))):
            first, second = generator.choice(words, 2, replace=False)
            order[[first, second]] = order[[second, first]]


def _stays(num_words: int, rate: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Returns whether each word is kept, shape (num_words,). At least one word is kept."""
    stays = generator.random(num_words) >= rate
    if not stays.any():
        stays[generator.integers(num_words)] = True
    return stays
