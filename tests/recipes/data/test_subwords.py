"""Words of WordPiece cut in other ways."""

import numpy as np
import pytest
from transformers import BertTokenizerFast

from vanilla_recipes.data.labelled import LabelledRow
from vanilla_recipes.data.labelled_features import NO_WORD, encode_rows
from vanilla_recipes.data.subwords import WordPieces
from vanilla_recipes.data.tokenizers import train_decoder_tokenizer, train_encoder_tokenizer
from vanilla_recipes.errors import UserError

TEXTS = ["the unwatchable film", "a surprisingly watchable masterpiece of a film, fine", "the film the the film"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_encoder_tokenizer([*TEXTS, "watch able master piece surprising"], 90, 256)


def encoded(tokenizer, text: str, pair: str | None = None):
    return encode_rows([LabelledRow("here", text, pair, 0)], tokenizer, 256, with_words=True)[0]


def cut(tokenizer, tokens, rate: float, seed: int = 0, max_length: int = 256):
    return WordPieces(tokenizer, max_length).cut(tokens, rate, np.random.default_rng(seed))


def test_without_dropout_it_is_the_tokenizers_own(tokenizer):
    for text in [*TEXTS, "filmable films unmasterly"]:
        tokens = encoded(tokenizer, text)
        assert cut(tokenizer, tokens, 0.0).input_ids.tolist() == tokenizer(text)["input_ids"]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.95])
def test_the_text_stays_what_it_was(tokenizer, rate):
    found = set()
    for seed in range(50):
        tokens = encoded(tokenizer, TEXTS[1])
        new = cut(tokenizer, tokens, rate, seed)
        assert tokenizer.decode(new.input_ids) == tokenizer.decode(tokens.input_ids)
        assert new.input_ids.dtype == tokens.input_ids.dtype
        assert set(new.words.tolist()) == set(tokens.words.tolist())
        for word in range(8):  # each word from pieces of its own
            pieces = tokenizer.convert_ids_to_tokens(new.input_ids[new.words == word])
            assert [piece.startswith("##") for piece in pieces] == [False, *[True] * (len(pieces) - 1)]
        found.add(tuple(new.input_ids.tolist()))
    assert len(found) > (10 if rate > 0.1 else 3)


def test_each_piece_is_passed_over_as_often_as_asked(tokenizer):
    tokens = encoded(tokenizer, " ".join(["film"] * 80))
    ids = tokenizer.get_vocab()
    shorter = [ids["film"[:end]] for end in (3, 2, 1) if "film"[:end] in ids]
    assert shorter, "the vocabulary has other ways to begin"
    firsts = []
    for seed in range(100):
        new = cut(tokenizer, tokens, 0.25, seed)
        firsts += new.input_ids[np.flatnonzero(np.diff(new.words, prepend=-1) > 0)].tolist()
    assert len(firsts) == 8000
    assert abs(np.mean([each == ids["film"] for each in firsts]) - 0.75) < 0.02  # four standard deviations
    second = np.mean([each == shorter[0] for each in firsts])
    assert abs(second - (0.25 if len(shorter) == 1 else 0.25 * 0.75)) < 0.02


def test_special_unknown_and_hidden_words_are_left_alone(tokenizer):
    tokens = encoded(tokenizer, "the ☃ film", "a film")
    tokens.input_ids[1] = tokenizer.mask_token_id
    new = cut(tokenizer, tokens, 0.9)
    decoded = tokenizer.convert_ids_to_tokens(new.input_ids)
    assert decoded[:3] == ["[CLS]", "[MASK]", "[UNK]"]
    assert decoded.count("[SEP]") == 2
    assert len(new.input_ids) > len(tokens.input_ids)
    assert (new.words[[0, -1]] == NO_WORD).all()
    second = new.token_type_ids.tolist().index(1)
    assert decoded[second - 1] == "[SEP]"
    assert tokenizer.decode(new.input_ids[second:-1]) == "a film"


def test_a_row_that_would_be_too_long_stays(tokenizer):
    tokens = encoded(tokenizer, TEXTS[1])
    assert cut(tokenizer, tokens, 0.95, max_length=len(tokens.input_ids)) is tokens


def test_a_vocabulary_without_all_characters(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "film", "fi", "##lm"]))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    tokens = encoded(tokenizer, "film")
    assert cut(tokenizer, tokens, 0.9).input_ids.tolist() == tokens.input_ids.tolist()  # some cuts lead nowhere


def test_other_tokenizers_are_refused():
    with pytest.raises(UserError, match=r"augmentation.subword_dropout: the tokenizer is BPE, .*; set it to 0"):
        WordPieces(train_decoder_tokenizer(TEXTS, 300, 64), 64)
