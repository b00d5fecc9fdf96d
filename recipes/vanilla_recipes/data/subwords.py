"""Subword regularization for WordPiece: MaxMatch-Dropout (Hiraoka 2022, "MaxMatch-Dropout: Subword Regularization for
WordPiece").

WordPiece always takes the longest piece of the vocabulary that matches the rest of a word. MaxMatch-Dropout skips a
matching piece with some probability and tries the next shorter one. So frequent words are also split into the short
pieces that rare words consist of.
"""

from collections.abc import Iterator

import numpy as np
from tokenizers import models
from transformers import PreTrainedTokenizerFast

from vanilla_recipes.data.labelled_features import NO_WORD, Tokens
from vanilla_recipes.errors import UserError

Choices = list[list[tuple[int, int]]]
"""For each character index in a word, the pieces that begin there, longest first: (token id, character index after the
piece)."""


class WordPieces:
    """Splits words into random WordPiece pieces.

    Args:
        tokenizer: a WordPiece tokenizer.
        max_length: maximum number of tokens of a row.

    Raises:
        UserError: If the tokenizer is not WordPiece.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        model = tokenizer.backend_tokenizer.model
        if not isinstance(model, models.WordPiece):
            raise UserError(
                f"augmentation.subword_dropout: the tokenizer is {type(model).__name__}, but subword dropout works "
                "with WordPiece only; set it to 0"
            )
        specials = set(tokenizer.all_special_tokens)
        self.ids = {piece: number for piece, number in tokenizer.get_vocab().items() if piece not in specials}
        self.pieces = {number: piece for piece, number in self.ids.items()}
        self.prefix, self.max_length = model.continuing_subword_prefix, max_length
        self._choices: dict[tuple[int, ...], Choices] = {}

    def cut(self, tokens: Tokens, rate: float, generator: np.random.Generator) -> Tokens:
        """Returns a row with its words split again at random; the row itself if the result exceeds `max_length` tokens.

        Args:
            tokens: a row with `words`. Special tokens, and words that contain one, are not changed.
            rate: probability of skipping a piece.
            generator: the random generator.
        """
        assert tokens.words is not None, "the row was encoded for augmentation"
        starts = np.flatnonzero(tokens.begins_piece).tolist()
        old, are_words = tokens.input_ids.tolist(), (tokens.words[starts] != NO_WORD).tolist()
        words = [tuple(old[start:end]) for start, end in zip(starts, [*starts[1:], len(old)], strict=True)]
        choices = [self._choices_of(word) if is_word else [] for word, is_word in zip(words, are_words, strict=True)]
        passed_over = iter((generator.geometric(1 - rate, sum(map(len, choices))) - 1).tolist())
        ids: list[int] = []
        positions: list[int] = []  # for each new token, the position in the old row where its word begins
        for start, word, ways in zip(starts, words, choices, strict=True):
            new = _cut_word(ways, passed_over) if ways else word
            ids += new
            positions += [start] * len(new)
        if len(ids) > self.max_length:
            return tokens
        row = tokens.take(np.array(positions, np.int64))
        return Tokens(np.array(ids, np.int32), row.token_type_ids, row.words)

    def _choices_of(self, word: tuple[int, ...]) -> Choices:
        choices = self._choices.get(word)
        if choices is None:
            choices = self._choices[word] = self._find_choices(word)
        return choices

    def _find_choices(self, word: tuple[int, ...]) -> Choices:
        """Returns the pieces that begin at each character of a word, see `Choices`.

        Returns [] if a token of the word is special, or if no piece begins at some character: a split that ends there
        could not be completed.
        """
        if not all(each in self.pieces for each in word):
            return []
        first, *others = (self.pieces[each] for each in word)
        text = first + "".join(piece.removeprefix(self.prefix) for piece in others)
        choices: Choices = []
        for start in range(len(text)):
            prefix = self.prefix if start else ""
            ends = [end for end in range(len(text), start, -1) if prefix + text[start:end] in self.ids]
            if not ends:
                return []
            choices.append([(self.ids[prefix + text[start:end]], end) for end in ends])
        return choices


def _cut_word(choices: Choices, passed_over: Iterator[int]) -> list[int]:
    """Returns the token ids of a word. `passed_over` yields how many of the longest pieces are skipped for each token;
    the shortest piece is never skipped."""
    cut, position = [], 0
    while position < len(choices):
        here, number = choices[position], next(passed_over)
        piece, position = here[number if number < len(here) else -1]
        cut.append(piece)
    return cut
