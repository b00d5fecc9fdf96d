"""Tokenizers: what they give, what comes back, and that AutoTokenizer alone reads them again."""

import inspect
import json
import random
import subprocess
import sys
import unicodedata

import pytest
from project import SHARED
from transformers import AutoTokenizer

from vanilla_recipes.data.pairs import TranslationDataConfig, translation_pairs
from vanilla_recipes.data.tokenizers import (
    character_tokenizer,
    save_tokenizer,
    saved_tokenizer,
    train_decoder_tokenizer,
    train_encoder_tokenizer,
    train_translation_tokenizer,
)
from vanilla_recipes.errors import UserError

REAL_DATA = SHARED / "data/translation/multi30k/en-de"

TEXTS = [
    "The old man saw the small dog in the garden.",
    "Der alte Mann sah den kleinen Hund im Garten.",
    "Isn't the garden door open? No, it is 12 o'clock!",
    "Ist die Gartentür offen? Nein, es ist größer als 345.",
] * 5

TRAINED = {
    "translation": lambda texts=TEXTS: train_translation_tokenizer(texts, 500, 64),
    "encoder": lambda texts=TEXTS: train_encoder_tokenizer(texts, 200, 64),
    "decoder": lambda texts=TEXTS: train_decoder_tokenizer(texts, 400, 64),
    "character": lambda texts=TEXTS: character_tokenizer(texts, 64),
}

AWKWARD_TEXTS = [
    "",
    " ",
    "   ",
    " leading and trailing ",
    "double  spaces\tand\ttabs\r\nand lines\n\n",
    "emoji 🎉👩‍👩‍👧 and 日本語, never seen",
    "a \u2581 mark\u2581of \u2581 SentencePiece",
    "bytes <0x41> spelt out",
    "don't stop ... (it's \"fine\") \u2013 3,141.59",
    "\u0301 a combining mark first",
    "control \x00\x07 characters",
]


@pytest.fixture(scope="module")
def tokenizers():
    return {name: train() for name, train in TRAINED.items()}


@pytest.fixture(scope="module")
def translation(tokenizers):
    return tokenizers["translation"]


def random_text(rng: random.Random) -> str:
    """Up to 30 assigned characters of all of Unicode, in normal form C."""
    points = (rng.choice((rng.randrange(0x250), rng.randrange(0x3000), rng.randrange(0x20000))) for _ in range(30))
    text = "".join(chr(point) for point in points if unicodedata.category(chr(point)) not in ("Cs", "Cn"))
    return unicodedata.normalize("NFC", text)


def round_trip(tokenizer, text: str) -> str:
    return tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)


@pytest.mark.parametrize("text", AWKWARD_TEXTS)
@pytest.mark.parametrize("name", ["translation", "decoder"])
def test_awkward_text_comes_back(tokenizers, name, text):
    assert round_trip(tokenizers[name], text) == text


@pytest.mark.parametrize("name", ["translation", "decoder"])
def test_any_text_comes_back(tokenizers, name):
    rng = random.Random(0)
    texts = [random_text(rng) for _ in range(500)]
    unknown = tokenizers[name].unk_token_id
    ids = tokenizers[name](texts)["input_ids"]
    assert not any(unknown in row for row in ids)
    assert tokenizers[name].batch_decode(ids, skip_special_tokens=True) == texts


def test_translation_writes_normal_form_c(translation):
    assert round_trip(translation, "gro\u0308ßer") == "größer"


def test_translation_special_tokens(translation):
    assert [translation.pad_token_id, translation.unk_token_id] == [0, 1]
    assert [translation.bos_token_id, translation.eos_token_id] == [2, 3]
    assert translation.convert_ids_to_tokens([0, 1, 2, 3]) == ["<pad>", "<unk>", "<s>", "</s>"]


def test_translation_ends_each_sequence(translation):
    source = translation("The dog", text_target="Der Hund")
    assert source["input_ids"][-1] == source["labels"][-1] == 3
    assert translation.decode(source["labels"]) == "Der Hund</s>"
    assert translation.decode(translation("The dog", "Der Hund")["input_ids"]) == "The dog</s> Der Hund</s>"
    assert set(source) == {"input_ids", "attention_mask", "labels"}


def test_truncation_keeps_the_end_token(translation):
    batch = translation(["The old man saw the dog", "dog"], truncation=True, max_length=5, padding=True)
    assert [len(row) for row in batch["input_ids"]] == [5, 5]
    assert batch["input_ids"][0][-1] == 3
    assert batch["input_ids"][0][:4] == translation("The old man saw the dog")["input_ids"][:4]
    assert batch["attention_mask"][1] == [1] * len(translation("dog")["input_ids"]) + [0] * (
        5 - len(translation("dog")["input_ids"])
    )


def test_a_sentence_cannot_end_itself(translation):
    ids = translation("a </s> b <pad> c")["input_ids"]
    assert ids.count(3) == 1
    assert 0 not in ids
    assert round_trip(translation, "a </s> b <pad> c") == "a </s> b <pad> c"


def test_translation_isolates_punctuation_and_digits(translation):
    pieces = translation.tokenize("No, it (is) 12:34!")
    for piece in pieces:
        letters = piece.removeprefix("\u2581")
        assert len(letters) <= 1 or letters.isalpha() or letters.startswith("<0x")


def test_encoder_marks_sentences_as_bert_does(tokenizers):
    tokenizer = tokenizers["encoder"]
    batch = tokenizer("The old man", "saw [MASK]")
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.decode(batch["input_ids"]) == "[CLS] The old man [SEP] saw [MASK] [SEP]"
    assert batch["token_type_ids"] == [0, 0, 0, 0, 0, 1, 1, 1]
    assert batch["attention_mask"] == [1] * 8


def test_encoder_reads_its_own_writing(tokenizers):
    tokenizer = tokenizers["encoder"]
    for text in TEXTS[:4]:
        assert round_trip(tokenizer, round_trip(tokenizer, text)) == round_trip(tokenizer, text)
    assert round_trip(tokenizer, "Is  the Garten open?") == "Is the Garten open ?"


@pytest.mark.parametrize(
    ("lowercase", "strip_accents", "expected"),
    [
        (False, False, "Gartentür"),
        (True, False, "gartentür"),
        (False, True, "Gartentur"),
        (True, True, "gartentur"),
    ],
)
def test_encoder_keeps_case_and_accents_unless_told(lowercase, strip_accents, expected):
    tokenizer = train_encoder_tokenizer(TEXTS, 200, 64, lowercase=lowercase, strip_accents=strip_accents)
    assert round_trip(tokenizer, "Gartentür") == expected


# ruff: noqa: RUF001 - the letters of other scripts are meant
PAIRS = {
    "Amharic": ("መጣ", "መጡ"),
    "Arabic with vowels": ("كَتَبَ", "كُتِبَ"),
    "Bengali": ("কি", "কী"),
    "Devanagari": ("कु", "के"),
    "Georgian": ("კაცი", "კაცმა"),
    "German": ("schon", "schön"),
    "Hangul": ("가", "각"),
    "Hebrew with points": ("סֵפֶר", "סָפַר"),
    "Japanese": ("は", "ば"),
    "Persian with a joiner": ("می\u200cخواهم", "میخواهم"),
    "Sinhala with a joiner": ("ක්\u200dය", "ක්ය"),
    "Thai": ("กา", "กี"),
    "Turkish": ("kır", "kir"),
    "Vietnamese": ("má", "mà"),
    "case": ("US", "us"),
}


@pytest.mark.parametrize(("first", "second"), PAIRS.values(), ids=PAIRS)
def test_encoder_tells_words_apart_that_differ_by_a_mark(first, second, tmp_path):
    save_tokenizer(train_encoder_tokenizer([f"{first} {second}"] * 3, 200, 64), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = [tokenizer(word)["input_ids"] for word in (first, second)]
    assert ids[0] != ids[1]
    assert not any(tokenizer.unk_token_id in row for row in ids)
    assert [tokenizer.decode(row, skip_special_tokens=True) for row in ids] == [first, second]


def test_encoder_takes_one_word_in_both_unicode_forms_for_the_same(tokenizers):
    tokenizer = tokenizers["encoder"]
    assert tokenizer(unicodedata.normalize("NFD", "Gartentür")) == tokenizer("Gartentür")


@pytest.mark.parametrize("length", [100, 101, 126, 250])
def test_encoder_reads_words_of_any_length(length):
    letters = random.Random(0).choices("ACGT", k=length)
    tokenizer = train_encoder_tokenizer(["ACGT GATTACA"] * 3, 60, 512)
    pieces = tokenizer.tokenize("".join(letters))
    assert "".join(piece.removeprefix("##") for piece in pieces) == "".join(letters)


def test_encoder_has_no_token_of_white_space():
    tokenizer = train_encoder_tokenizer(["The\tdog\u3000sees\na cat"] * 3, 200, 64)
    assert not any(character.isspace() for token in tokenizer.get_vocab() for character in token)


def test_encoder_of_texts_that_nobody_sees():
    tokenizer = train_encoder_tokenizer(["\u200b", " "], 200, 64)
    assert tokenizer.tokenize("a\u200b b") == ["[UNK]", "[UNK]"]


def test_encoder_removes_what_nobody_sees(tokenizers):
    tokenizer = tokenizers["encoder"]
    assert tokenizer("The\u200b ol\u00add\ufeff man\x07") == tokenizer("The old man")
    assert tokenizer("The\tman\nsaw") == tokenizer("The man saw")


def test_encoder_loses_no_more_than_the_unknown_character(tokenizers):
    """The first part of "Gartentür" is encoded as if the word ended there."""
    tokenizer = tokenizers["encoder"]
    pieces = tokenizer.tokenize("Garten\u0416tür")
    assert pieces == [*tokenizer.tokenize("Garten"), "[UNK]", *tokenizer.tokenize("tür")]
    assert tokenizer.tokenize("\u0416]^-\\").count("[UNK]") == 5


@pytest.mark.parametrize("name", ["decoder", "character"])
def test_decoder_pads_and_truncates_on_the_left(tokenizers, name):
    tokenizer = tokenizers[name]
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 0
    whole = tokenizer("the garden door")["input_ids"]
    assert 0 not in whole
    batch = tokenizer(["the garden door", "r"], truncation=True, max_length=3, padding=True)
    assert batch["input_ids"] == [whole[-3:], [1, 1, *tokenizer("r")["input_ids"]]]
    assert batch["attention_mask"] == [[1, 1, 1], [0, 0, 1]]


def test_characters(tokenizers):
    tokenizer = tokenizers["character"]
    assert len(tokenizer) == 3 + len(set("".join(TEXTS)))
    assert tokenizer.tokenize("no\u00fcX X") == ["n", "o", "ü", "<unk>", " ", "<unk>"]
    for text in [*TEXTS, "  a  ", "", "s's"]:
        assert round_trip(tokenizer, text) == text
        assert len(tokenizer(text)["input_ids"]) == len(text)
    assert round_trip(character_tokenizer(["a\n\n b"], 9), "b\n a\n") == "b\n a\n"


@pytest.mark.parametrize("name", TRAINED)
def test_the_same_texts_give_the_same_files(tmp_path, name):
    files = []
    for run in ("first", "second"):
        save_tokenizer(TRAINED[name](), tmp_path / run)
        files.append([(tmp_path / run / file).read_bytes() for file in ("tokenizer.json", "tokenizer_config.json")])
    assert files[0] == files[1]


@pytest.mark.parametrize("name", TRAINED)
def test_use_leaves_no_trace_in_the_files(tmp_path, name):
    tokenizer = TRAINED[name]()
    save_tokenizer(tokenizer, tmp_path / "new")
    tokenizer(TEXTS, truncation=True, max_length=5, padding="max_length")
    save_tokenizer(tokenizer, tmp_path / "used")
    assert (tmp_path / "new/tokenizer.json").read_bytes() == (tmp_path / "used/tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("train", "needed"),
    [
        (train_translation_tokenizer, 4 + 256 + len(set("".join(TEXTS)) - {" "}) + 1),
        (train_decoder_tokenizer, 2 + 256),
    ],
)
def test_a_vocabulary_that_cannot_hold_the_characters(train, needed):
    assert len(train(TEXTS, needed, 64)) == needed
    for vocab_size in (needed - 1, 0, -1):
        with pytest.raises(
            UserError, match=f"tokenizer.vocab_size={vocab_size} is too small: .* Give at least {needed},"
        ):
            train(TEXTS, vocab_size, 64)


def test_a_wordpiece_vocabulary_that_cannot_hold_the_characters():
    with pytest.raises(UserError, match=r"tokenizer.vocab_size=20 is too small: .* alone take \d\d tokens\. Give"):
        train_encoder_tokenizer(TEXTS, 20, 64)


def test_fewer_merges_than_asked_are_fine():
    assert len(train_translation_tokenizer(TEXTS, 30_000, 64)) < 1000


def described(tokenizer) -> list:
    """What a tokenizer does; a fresh process runs this too."""
    return [
        tokenizer(["Der Hund </s> [MASK] <|endoftext|> 🎉", ""], ["12", "x"])["input_ids"],
        dict(tokenizer("a", "b")),
        tokenizer.decode(tokenizer("The old man saw.")["input_ids"], skip_special_tokens=True),
        [tokenizer.padding_side, tokenizer.truncation_side, tokenizer.model_max_length],
        {name: tokenizer.convert_tokens_to_ids(token) for name, token in tokenizer.special_tokens_map.items()},
    ]


RELOAD = f"""
import json, sys
from transformers import AutoTokenizer
{inspect.getsource(described)}
found = {{folder: described(AutoTokenizer.from_pretrained(folder)) for folder in sys.argv[1:]}}
assert "vanilla_transformers" not in sys.modules
print()  # ends the question about remote code that transformers leaves on its line
print(json.dumps(found))
"""


def test_auto_tokenizer_reads_them_in_a_process_without_the_package(tmp_path, tokenizers):
    expected = {}
    for name, tokenizer in tokenizers.items():
        for folder in (tmp_path / name, tmp_path / f"{name}-with-config"):
            save_tokenizer(tokenizer, folder)
            expected[str(folder)] = described(tokenizer)
        # As in a model folder. Without the package the model type is unknown; the tokenizer must not depend on it.
        code = {"AutoConfig": "configuration_vanilla.VanillaSeq2SeqConfig"}
        (folder / "config.json").write_text(json.dumps({"model_type": "vanilla_seq2seq", "auto_map": code}))
    command = [sys.executable, "-c", RELOAD, *expected]
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    assert json.loads(done.stdout.splitlines()[-1]) == expected


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the Multi30k files are not here")
def test_multi30k_comes_back():
    pairs = translation_pairs(TranslationDataConfig(path=str(REAL_DATA)), "train")
    seen = [text for pair in pairs[:8000] for text in pair]
    tokenizer = train_translation_tokenizer(seen, 4000, 128)
    texts = [unicodedata.normalize("NFC", text) for pair in pairs[-4000:] for text in pair]
    ids = tokenizer(texts)["input_ids"]
    assert len(tokenizer) == 4000
    assert not any(tokenizer.unk_token_id in row for row in ids)
    assert tokenizer.batch_decode(ids, skip_special_tokens=True) == texts


def test_a_saved_tokenizer_that_is_none(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, message in (
        (tmp_path / "tokenizer.json", "this is a file; name the folder that holds tokenizer.json and tokenizer_config"),
        (tmp_path, "the tokenizer .tokenizer_config.json missing. cannot be loaded: the folder is damaged"),
        (tmp_path / "none", "there is no such folder"),
        (
            "some/tokenizer",
            r"there is no such folder here, and the Hugging Face Hub cannot be reached \(HF_HUB_OFFLINE",
        ),
    ):
        with pytest.raises(UserError, match=rf"^tokenizer\.name={name}: {message}"):
            saved_tokenizer(str(name))
