"""Changes that leave the class of a text alone: easy data augmentation (Wei and Zou 2019), word and subword dropout.

Random swap, random deletion and word dropout need nothing but the text. The paper's synonym replacement and random
insertion take their words from WordNet, a lexicon of one language that would have to be installed and fetched: they
are left out.

What becomes of a row is a function of (seed, epoch, row number), so that neither a resume nor the cut of a batch
changes it.
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
    """How training rows are changed, anew in every epoch; words stay whole, and 0 leaves them as they are.

    Attributes:
        swap: pairs of words that change places, as a part of the words of a text; one pair at least.
        deletion: the probability of each word to be left out; one word always stays.
        word_dropout: the probability of each word to be hidden behind the mask token.
        subword_dropout: the probability of each piece that WordPiece would cut a word into to be passed over for a
            shorter one.
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
        """Whether anything is changed."""
        return bool(self.swap or self.deletion or self.word_dropout or self.subword_dropout)

    @property
    def changes_lengths(self) -> bool:
        """Whether a row gets more or fewer tokens."""
        return bool(self.deletion or self.subword_dropout)


class Augmenter:
    """Changes rows as the settings say; special tokens stay where they are.

    Args:
        config: how much is changed.
        tokenizer: that of the rows.
        max_length: tokens of a row at most.

    Raises:
        UserError: the tokenizer has no token to hide a word, or cuts words in one way only.
    """

    def __init__(self, config: AugmentationConfig, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        self.config = config
        hidden_id = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.unk_token_id
        if hidden_id is None and config.word_dropout:
            raise UserError(
                "augmentation.word_dropout: the tokenizer has no mask token that could hide a word; set it to 0"
            )
        self.hidden_id = hidden_id
        self.pieces = WordPieces(tokenizer, max_length) if config.subword_dropout else None

    def __call__(self, tokens: Tokens, generator: np.random.Generator) -> Tokens:
        """A row with its words cut anew, hidden, swapped and left out.

        Args:
            tokens: a row with `words`.
            generator: the source of all chance.
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
    """Training rows as they are in each epoch.

    Args:
        rows: the rows as they were read.
        augment: changes a row.
        seed: decides how.
    """

    def __init__(
        self, rows: Sequence[Tokens], augment: Callable[[Tokens, np.random.Generator], Tokens], seed: int
    ) -> None:
        self.rows, self.augment, self.seed = rows, augment, seed
        self._epoch: int | None = None
        self._kept: list[Tokens] = []
        self._lengths = np.zeros(0, np.int64)

    def row(self, number: int, epoch: int) -> Tokens:
        """One of the rows."""
        if epoch == self._epoch:
            return self._kept[number]
        return self.augment(self.rows[number], np.random.default_rng([self.seed, epoch, number]))

    def lengths(self, epoch: int) -> NDArray[np.int64]:
        """Tokens of each row (rows,); the rows of that epoch are kept until another one's lengths are asked for."""
        if epoch != self._epoch:
            self._kept = [self.row(number, epoch) for number in range(len(self.rows))]
            self._lengths = np.array([len(row.input_ids) for row in self._kept], dtype=np.int64)
            self._epoch = epoch
        return self._lengths


def hide_words(tokens: Tokens, rate: float, hidden_id: int, generator: np.random.Generator) -> Tokens:
    """A row in which each word is hidden behind the token `hidden_id` with the probability `rate`."""
    assert tokens.words is not None, "the row was encoded for augmentation"
    piece_of_token = np.cumsum(tokens.begins_piece) - 1
    draws = generator.random(piece_of_token.max(initial=-1) + 1)
    is_hidden = (tokens.words != NO_WORD) & (draws < rate)[piece_of_token]
    return replace(tokens, input_ids=np.where(is_hidden, np.int32(hidden_id), tokens.input_ids))


def _move_words(tokens: Tokens, config: AugmentationConfig, generator: np.random.Generator) -> Tokens:
    assert tokens.words is not None, "the row was encoded for augmentation"
    starts = np.flatnonzero(tokens.begins_piece)
    pieces = np.split(np.arange(len(tokens.words)), starts[1:])
    is_word = tokens.words[starts] != NO_WORD
    text_of_piece = np.cumsum(~is_word)  # special tokens stand before, between and behind texts
    order, stays = np.arange(len(pieces)), np.ones(len(pieces), dtype=bool)
    for text in np.unique(text_of_piece[is_word]):
        members = np.flatnonzero(is_word & (text_of_piece == text))
        _swap(order, members, config.swap, generator)
        stays[members] = _stays(len(members), config.deletion, generator)
    return tokens.take(np.concatenate([pieces[piece] for piece in order[stays]]))


def _swap(order: Places, words: Places, rate: float, generator: np.random.Generator) -> None:
    """Lets pairs of words change places in `order`."""
    if rate and len(words) > 1:
        for _ in range(max(1, int(rate * len(words)))):
            first, second = generator.choice(words, 2, replace=False)
            order[[first, second]] = order[[second, first]]


def _stays(num_words: int, rate: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Which words are not left out, at least one."""
    stays = generator.random(num_words) >= rate
    if not stays.any():
        stays[generator.integers(num_words)] = True
    return stays
