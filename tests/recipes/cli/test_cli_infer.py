"""What `vanilla translate`, `classify` and `generate` share, and what each does with models of any kind."""

import io
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    pipeline,
)

import vanilla_recipes.cli
from vanilla_recipes.data.tokenizers import train_decoder_tokenizer, train_encoder_tokenizer
from vanilla_transformers import (
    VanillaDecoderConfig,
    VanillaDecoderForCausalLM,
    VanillaEncoderConfig,
    VanillaEncoderForSequenceClassification,
)

TEXTS = ["the dog bites the man .", "the man", "", "the man bites the dog and the dog bites the man .", "dog"]
LABELS = {"id2label": {0: "bad", 1: "fine", 2: "good"}, "label2id": {"bad": 0, "fine": 1, "good": 2}}
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "initializer_range": 0.5}


def save(model: PreTrainedModel, tokenizer, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Classifiers and decoders, ours and transformers' own, random but decided."""
    folder = tmp_path_factory.mktemp("models")
    wordpiece = train_encoder_tokenizer(TEXTS * 3, 300, 24)
    bpe = train_decoder_tokenizer(TEXTS * 3, 300, 64)
    encoder = {"vocab_size": len(wordpiece), "pad_token_id": wordpiece.pad_token_id, "max_position_embeddings": 24}
    decoder = {"vocab_size": len(bpe), "eos_token_id": None, "bos_token_id": None}
    encoder, ours = SIZES | encoder, SIZES | decoder
    gpt2 = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64, "initializer_range": 0.5}
    torch.manual_seed(0)
    made = {
        "encoder": (VanillaEncoderForSequenceClassification(VanillaEncoderConfig(**encoder, **LABELS)), wordpiece),
        "bert": (BertForSequenceClassification(BertConfig(**encoder, **LABELS)), wordpiece),
        "masked": (BertForMaskedLM(BertConfig(**encoder)), wordpiece),
        "decoder": (VanillaDecoderForCausalLM(VanillaDecoderConfig(**ours, max_position_embeddings=64)), bpe),
        "gpt2": (GPT2LMHeadModel(GPT2Config(**gpt2, **decoder)), bpe),
    }  # fmt: skip
    return {name: save(*pair, folder / name) for name, pair in made.items()}


@pytest.fixture
def run(models, saved_model, capsys):
    """Runs a command; the model is named by its kind."""

    def run_it(command: str, kind: str, *words: str) -> tuple[int, str, str]:
        folder = models.get(kind, saved_model)
        status = vanilla_recipes.cli.main([command, str(folder), *map(str, words)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run_it


def lines_of(texts: list[str], tmp_path: Path) -> Path:
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return file


# classify


@pytest.mark.parametrize("kind", ["encoder", "bert"])
def test_classes_and_their_probabilities(kind, models, run, tmp_path):
    classify = pipeline("text-classification", model=str(models[kind]), top_k=None)
    expected = [classify([text])[0] if text else [] for text in TEXTS]
    status, out, _ = run("classify", kind, "--from", lines_of(TEXTS, tmp_path), "--all", "--batch-tokens", "20")
    assert status == 0
    rows = [line.split("\t") for line in out.split("\n")[:-1]]
    assert rows[2] == [""]
    for row, classes in zip(rows, expected, strict=True):
        assert [field for field in row[::2] if field] == [each["label"] for each in classes]
        assert list(map(float, row[1::2])) == pytest.approx([each["score"] for each in classes], abs=1e-4)
    assert run("classify", kind, *TEXTS)[1].split("\n")[:-1] == ["\t".join(row[:2]) for row in rows]


def test_a_text_that_is_too_long_to_classify_is_cut_and_told(run, caplog):
    assert run("classify", "bert", "the dog " * 40)[0] == 0
    assert "cut to the 24 tokens that the model reads: 1 of 1 texts, the longest with" in caplog.text


# generate


@pytest.mark.parametrize("kind", ["decoder", "gpt2"])
@pytest.mark.parametrize("options", [[], ["--num-beams", "3"]])
def test_each_prompt_is_continued_as_if_it_were_alone(kind, options, models, run, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(models[kind])
    model = (VanillaDecoderForCausalLM if kind == "decoder" else GPT2LMHeadModel).from_pretrained(models[kind])
    expected = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt") if text else None
        settings = {"num_beams": 3} if options else {}
        output = (
            model.generate(**inputs, max_new_tokens=6, do_sample=False, pad_token_id=0, **settings) if text else [[]]
        )
        expected.append(" ".join(tokenizer.decode(output[0], skip_special_tokens=True).split()))
    words = ["--from", lines_of(TEXTS, tmp_path), "--max-new-tokens", "6", *options]
    status, out, _ = run("generate", kind, *words)
    assert status == 0
    assert out.split("\n")[:-1] == expected
    assert len({line[-3:] for line in expected}) > 2


def test_samples_are_those_of_the_seed(run):
    words = [
        "the dog",
        "--temperature",
        "1.5",
        "--top-k",
        "50",
        "--max-new-tokens",
        "12",
        "--num-return-sequences",
        "3",
    ]
    status, first, _ = run("generate", "decoder", *words, "--seed", "3")
    assert status == 0
    assert run("generate", "decoder", *words, "--seed", "3")[1] == first
    assert run("generate", "decoder", *words, "--seed", "4")[1] != first
    assert first.count("the dog") >= 3
    assert first.startswith("the dog")


def test_greedy_search_samples_nothing_whatever_the_model_was_saved_with(models, run):
    model = VanillaDecoderForCausalLM.from_pretrained(models["decoder"])
    model.generation_config.update(do_sample=True, temperature=5.0, max_length=20)
    model.save_pretrained(models["decoder"])
    first, second = (run("generate", "decoder", "the dog", "--seed", seed)[1] for seed in (1, 2))
    assert first == second
    assert run("generate", "decoder", "the dog", "--temperature", "5", "--seed", 1)[1] != first


def test_a_text_ends_where_the_positions_do(models, run):
    tokenizer = AutoTokenizer.from_pretrained(models["gpt2"])
    status, out, _ = run("generate", "gpt2", "the dog", "--max-new-tokens", "500")
    assert status == 0
    inputs = tokenizer("the dog", return_tensors="pt")
    output = GPT2LMHeadModel.from_pretrained(models["gpt2"]).generate(**inputs, max_length=64, pad_token_id=0)
    assert out == tokenizer.decode(output[0], skip_special_tokens=True) + "\n"
    status, _, err = run("generate", "gpt2", "the man", "the dog " * 70)
    assert status == 1
    assert "prompt 2 has " in err
    assert "but the model has 64 positions for the prompt and the new tokens together; shorten it" in err


def test_an_encoder_decoder_answers_prompts(run, saved_model):
    tokenizer, model = AutoTokenizer.from_pretrained(saved_model), AutoModelForSeq2SeqLM.from_pretrained(saved_model)
    output = model.generate(**tokenizer(TEXTS[0], return_tensors="pt"), max_new_tokens=7, num_beams=2)
    words = [TEXTS[0], "--num-beams", "2", "--max-new-tokens", "7"]
    assert run("generate", "seq2seq", *words)[:2] == (0, tokenizer.decode(output[0], skip_special_tokens=True) + "\n")
    status, out, _ = run("generate", "seq2seq", *words, "--num-return-sequences", "2")
    assert status == 0
    assert out.count("\n\n") == 1


# translate


def test_scores_stand_before_the_translations(run, tmp_path):
    file = lines_of(TEXTS, tmp_path)
    status, out, _ = run("translate", "seq2seq", "--from", file, "--scores", "--num-beams", "1")
    plain = run("translate", "seq2seq", "--from", file, "--num-beams", "1")[1].split("\n")
    rows = [line.split("\t") for line in out.split("\n")]
    assert status == 0
    assert [row[-1] for row in rows] == plain
    assert rows[2] == [""]
    assert all(float(row[0]) < 0 for row in rows if len(row) == 2)


def test_a_long_line_is_split_at_its_sentences(run, caplog):
    sentences = ["The dog bites the man .", "The man bites the dog ."]
    status, out, _ = run("translate", "seq2seq", " ".join(sentences * 9), "--num-beams", "1")
    alone = run("translate", "seq2seq", *sentences, "--num-beams", "1")[1].split("\n")[:2]
    assert status == 0
    assert out == " ".join(" ".join(alone * 9).split()) + "\n"
    assert "cut" not in caplog.text


# Bad input


@pytest.mark.parametrize(
    ("command", "kind", "text"),
    [
        ("translate", "bert", "it is a 'bert' model, which cannot translate; `vanilla classify` takes it"),
        ("translate", "gpt2", "it is a 'gpt2' model, which cannot translate; `vanilla generate` takes it"),
        ("translate", "masked", "it is a 'bert' model, which cannot translate; an encoder-decoder is needed"),
        ("classify", "seq2seq", "which cannot classify texts; `vanilla translate` or `vanilla generate` takes it"),
        ("classify", "gpt2", "it is a GPT2LMHeadModel, which cannot classify texts; `vanilla generate` takes it"),
        ("classify", "masked", "it is a BertForMaskedLM, which cannot classify texts; a sequence classifier is needed"),
        (
            "generate",
            "encoder",
            "it is a 'vanilla_encoder' model, which cannot generate text; `vanilla classify`",
        ),
        ("generate", "masked", "it is a BertForMaskedLM, which cannot generate text; a decoder or an encoder-decoder"),
    ],
)
def test_a_model_of_another_kind_is_told_what_fits(command, kind, text, run):
    status, out, err = run(command, kind, "the dog")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert text in err


@pytest.mark.parametrize("command", ["classify", "generate"])
@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "line, or lines on standard input"),
        (["a", "--from", "x"], "s on the command line and --from exclude each other"),
        (["a", "--overwrite"], "--overwrite is for --to FILE"),
        (["a", "--to", "."], "--to .: is no regular file"),
    ],
)
def test_a_mistake_is_told_before_anything_is_loaded(command, words, text, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert vanilla_recipes.cli.main([command, "no/such/model", *words]) == 2
    assert text.replace("line, ", "") in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_several_texts_need_beams_or_samples(run):
    status, _, err = run("generate", "gpt2", "a", "--num-return-sequences", "3", "--num-beams", "2")
    assert status == 2
    assert "--num-return-sequences 3: the search returns at most --num-beams=2 texts; raise --num-beams" in err


@pytest.mark.parametrize(("command", "kind"), [("classify", "bert"), ("generate", "gpt2"), ("translate", "seq2seq")])
def test_what_is_not_utf8_or_no_device_is_one_line(command, kind, run):
    broken = b"the \xff dog".decode(errors="surrogateescape")  # as Python reads the arguments of a command
    status, _, err = run(command, kind, broken)
    assert (status, err.count("\n")) == (1, 1)
    assert "it is not UTF-8; convert it first" in err
    status, _, err = run(command, kind, "the dog", "--device", "toaster")
    assert status == 1
    assert "--device toaster: there is no such device; this machine has: cpu" in err


def test_languages_are_for_multilingual_models(run):
    status, _, err = run("translate", "seq2seq", "the dog", "--tgt-lang", "de")
    assert status == 1
    assert "tgt_lang='de': this model takes no tgt_lang; leave it out" in err
