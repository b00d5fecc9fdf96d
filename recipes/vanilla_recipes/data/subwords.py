"""Words cut into other pieces each time: MaxMatch-Dropout (Hiraoka 2022, "MaxMatch-Dropout: Subword Regularization for
WordPiece").

WordPiece takes the longest piece of the vocabulary that a word goes on with. Here each of these is passed over with
some probability for the next shorter one, so that frequent words too show what rare ones are made of.
"""

from collections.abc import Iterator

import numpy as np
from tokenizers import models
from transformers import PreTrainedTokenizerFast

from vanilla_recipes.data.labelled_features import NO_WORD, Tokens
from vanilla_recipes.errors import UserError

Choices = list[list[tuple[int, int]]]
"""For each place in a word the pieces that begin there, longest first: the id of each and the place behind it."""


class WordPieces:
    """The pieces that words may be cut into.

    Args:
        tokenizer: one of WordPiece.
        max_length: tokens of a row at most.

    Raises:
        UserError: it is of another kind.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        model = tokenizer.backend_tokenizer.model
        if not isinstance(model, models.WordPiece):
            raise UserError(
                f"augmentation.subword_dropout: the tokenizer is {type(model).__name__}, but only the words of "
                "WordPiece, an encoder's, are cut in other ways; set it to 0"
            )
        specials = set(tokenizer.all_special_tokens)
        self.ids = {piece: number for piece, number in tokenizer.get_vocab().items() if piece not in specials}
        self.pieces = {number: piece for piece, number in self.ids.items()}
        self.prefix, self.max_length = model.continuing_subword_prefix, max_length
        self._choices: dict[tuple[int, ...], Choices] = {}

    def cut(self, tokens: Tokens, rate: float, generator: np.random.Generator) -> Tokens:
        """A row with its words cut anew, or as it is where more tokens than `max_length` would come of that.

        Args:
            tokens: a row with `words`; special tokens and those that hide words stay what they are.
            rate: the probability of a piece to be passed over.
            generator: the source of all chance.
        """
        assert tokens.words is not None, "the row was encoded for augmentation"
        starts = np.flatnonzero(tokens.begins_piece).tolist()
        old, are_words = tokens.input_ids.tolist(), (tokens.words[starts] != NO_WORD).tolist()
        words = [tuple(old[start:end]) for start, end in zip(starts, [*starts[1:], len(old)], strict=True)]
        choices = [self._choices_of(word) if is_word else [] for word, is_word in zip(words, are_words, strict=True)]
        passed_over = iter((generator.geometric(1 - rate, sum(map(len, choices))) - 1).tolist())
        ids: list[int] = []
        places: list[int] = []  # where each token's word began
        for start, word, ways in zip(starts, words, choices, strict=True):
            new = _cut_word(ways, passed_over) if ways else word
            ids += new
            places += [start] * len(new)
        if len(ids) > self.max_length:
            return tokens
        row = tokens.take(np.array(places, np.int64))
        return Tokens(np.array(ids, np.int32), row.token_type_ids, row.words)

    def _choices_of(self, word: tuple[int, ...]) -> Choices:
        choices = self._choices.get(word)
        if choices is None:
            choices = self._choices[word] = self._find_choices(word)
        return choices

    def _find_choices(self, word: tuple[int, ...]) -> Choices:
        """None where the word is not made of pieces, or some of its cuts would lead nowhere."""
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
    """The pieces of a word, each after so many longer ones were passed over, the shortest at the latest."""
    cut, place = [], 0
    while place < len(choices):
        here, number = choices[place], next(passed_over)
        piece, place = here[number if number < len(here) else -1]
        cut.append(piece)
    return cut
