"""Changes that leave the class of a text alone: easy data augmentation (Wei and Zou 2019) and word dropout.

Random swap, random deletion and word dropout need nothing but the text. The paper's synonym replacement and random
insertion take their words from WordNet, a lexicon of one language that would have to be installed and fetched: they
are left out.

What becomes of a row is a function of (seed, epoch, row number), so that neither a resume nor the cut of a batch
changes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vanilla_transformers.recipes.data.labelled_features import NO_WORD, Tokens

Places = NDArray[np.int64]


@dataclass(frozen=True)
class AugmentationConfig:
    """How training rows are changed, anew in every epoch; words stay whole, and 0 leaves them as they are.

    Attributes:
        swap: pairs of words that change places, as a part of the words of a text; one pair at least.
        deletion: the probability of each word to be left out; one word always stays.
        word_dropout: the probability of each word to be hidden behind the mask token.
    """

    swap: float = 0.0
    deletion: float = 0.0
    word_dropout: float = 0.0

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in ("swap", "deletion", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                yield name, "must be at least 0 and less than 1"

    @property
    def is_on(self) -> bool:
        """Whether anything is changed."""
        return bool(self.swap or self.deletion or self.word_dropout)


def augment(tokens: Tokens, config: AugmentationConfig, hidden_id: int, generator: np.random.Generator) -> Tokens:
    """A row with its words swapped, left out and hidden; special tokens stay where they are.

    Args:
        tokens: a row with `words`.
        config: how much of it is changed.
        hidden_id: the token that stands for a hidden word's.
        generator: the source of all chance.
    """
    if config.word_dropout:
        tokens = hide_words(tokens, config.word_dropout, hidden_id, generator)
    if config.swap or config.deletion:
        tokens = _move_words(tokens, config, generator)
    return tokens


def hide_words(tokens: Tokens, rate: float, hidden_id: int, generator: np.random.Generator) -> Tokens:
    """A row in which each word is hidden with the probability `rate`; the other arguments are those of `augment`."""
    assert tokens.words is not None, "the row was encoded for augmentation"
    piece_of_token = np.cumsum(_begins_piece(tokens.words)) - 1
    draws = generator.random(piece_of_token.max(initial=-1) + 1)
    is_hidden = (tokens.words != NO_WORD) & (draws < rate)[piece_of_token]
    return replace(tokens, input_ids=np.where(is_hidden, np.int32(hidden_id), tokens.input_ids))


def _move_words(tokens: Tokens, config: AugmentationConfig, generator: np.random.Generator) -> Tokens:
    words, starts = _pieces(tokens)
    pieces = np.split(np.arange(len(words)), starts[1:])
    is_word = words[starts] != NO_WORD
    text_of_piece = np.cumsum(~is_word)  # special tokens stand before, between and behind texts
    order, stays = np.arange(len(pieces)), np.ones(len(pieces), dtype=bool)
    for text in np.unique(text_of_piece[is_word]):
        members = np.flatnonzero(is_word & (text_of_piece == text))
        _swap(order, members, config.swap, generator)
        stays[members] = _stays(len(members), config.deletion, generator)
    return tokens.take(np.concatenate([pieces[piece] for piece in order[stays]]))


def _pieces(tokens: Tokens) -> tuple[NDArray[np.int32], Places]:
    """The word of each token, and where each word, or run of special tokens, begins."""
    assert tokens.words is not None, "the row was encoded for augmentation"
    return tokens.words, np.flatnonzero(_begins_piece(tokens.words))


def _begins_piece(words: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether a word, or a run of special tokens, begins with a token."""
    begins = np.ones(len(words), dtype=bool)
    begins[1:] = words[1:] != words[:-1]
    return begins


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
