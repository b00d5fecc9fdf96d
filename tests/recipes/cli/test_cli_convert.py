"""`vanilla import` and `vanilla export`: proved folders, or one line and nothing left behind."""

import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer, BertConfig, BertForMaskedLM

import vanilla_recipes.cli
from vanilla_recipes.data.tokenizers import train_encoder_tokenizer
from vanilla_transformers import VanillaEncoderForMaskedLM


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stock") / "bert"
    tokenizer = train_encoder_tokenizer(["the dog bites the man .", "a film ."] * 3, 60, 32)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        intermediate_size=32,
        max_position_embeddings=32,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def bert_copy(bert, tmp_path) -> Path:
    import shutil

    return Path(shutil.copytree(bert, tmp_path / "source"))


def run(capsys, *words) -> tuple[int, str, str]:
    status = vanilla_recipes.cli.main([str(word) for word in words])
    said = capsys.readouterr()
    return status, said.out, said.err


def refused(capsys, out, *words) -> str:
    """The one line that is told; nothing may be left."""
    status, _, err = run(capsys, *words)
    assert status in (1, 2)
    assert not out.exists()
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]
    return err.strip()


def test_there_and_back(bert, tmp_path, capsys):
    status, table, _ = run(capsys, "import", bert, tmp_path / "ours")
    assert status == 0
    assert "FAILED" not in table
    for name in ("weights, there and back", "logits, random rows", "hidden states, sentences", "wrote"):
        assert name in table
    ours = VanillaEncoderForMaskedLM.from_pretrained(tmp_path / "ours")
    words, stock_words = (AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (tmp_path / "ours", bert))
    assert words == stock_words
    assert ours.config.vocab_size == BertConfig.from_pretrained(bert).vocab_size

    assert run(capsys, "export", tmp_path / "ours", tmp_path / "stock", "--to", "bert")[0] == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (bert, tmp_path / "stock"))
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert type(AutoModelForMaskedLM.from_pretrained(tmp_path / "stock")) is BertForMaskedLM


def test_a_translator_becomes_a_marian(saved_model, tmp_path, capsys):
    status, table, _ = run(capsys, "export", saved_model, tmp_path / "marian", "--to", "marian")
    assert status == 0
    assert "beam-4 tokens, sentences" in table
    assert "CTranslate2's own converter for Marian takes a zero vector for the embedding of the start token" in table
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "marian").config.model_type == "marian"
    assert run(capsys, "translate", tmp_path / "marian", "the dog .")[0] == 0


def test_another_head(bert, tmp_path, capsys):
    assert run(capsys, "import", bert, tmp_path / "base", "--head", "base")[0] == 0
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    assert config["architectures"] == ["VanillaEncoderModel"]


def test_a_head_that_was_not_saved(bert, tmp_path, capsys):
    line = refused(capsys, tmp_path / "out", "import", bert, tmp_path / "out", "--head", "sequence-classification")
    assert "--head sequence-classification: it was saved without bert.pooler.dense.bias, bert.pooler.dense" in line
    assert "and 1 more; leave --head out to import it as saved, or use --head base" in line


def test_what_has_no_place_is_told(bert, tmp_path, capsys):
    assert "left out" not in run(capsys, "import", bert, tmp_path / "whole")[1]
    table = run(capsys, "import", bert, tmp_path / "base", "--head", "base")[1]
    assert "note   a BertModel does not have cls.predictions.bias, cls.predictions" in table


def test_the_model_itself_is_never_replaced(bert_copy, tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    for out in (bert_copy, tmp_path, tmp_path / "source" / ".." / "source"):
        status, _, err = run(capsys, "import", bert_copy, out, "--overwrite")
        assert (status, "this folder is or contains the model to convert; name another folder" in err) == (1, True)
    assert json.loads((bert_copy / "config.json").read_text())["model_type"] == "bert"


def test_a_place_that_cannot_be_written_to(bert, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    status, _, err = run(capsys, "import", bert, tmp_path / "file" / "out")
    assert (status, "file is not a folder that can be written to; name another one" in err) == (1, True)


def test_an_interrupted_import_leaves_nothing(bert, tmp_path, capsys, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["vanilla_recipes.cli.converter"], "compare", interrupted)
    status, _, err = run(capsys, "import", bert, tmp_path / "out")
    assert (status, "interrupted" in err) == (130, True)
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_of_an_old_checkpoint(bert_copy, tmp_path, capsys):
    tokenizer = AutoTokenizer.from_pretrained(bert_copy)
    for file in bert_copy.glob("tokenizer*"):
        file.unlink()
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (bert_copy / "vocab.txt").write_text("\n".join(words) + "\n")
    status, table, _ = run(capsys, "import", bert_copy, tmp_path / "ours")
    assert (status, "tokenizer, sentences" in table) == (0, True)
    stock, ours = (AutoTokenizer.from_pretrained(folder) for folder in (bert_copy, tmp_path / "ours"))
    assert type(ours) is type(stock)
    assert ours("the dog bites unheard-of men")["input_ids"] == stock("the dog bites unheard-of men")["input_ids"]
    assert run(capsys, "export", tmp_path / "ours", tmp_path / "back", "--to", "bert")[0] == 0
    assert AutoTokenizer.from_pretrained(tmp_path / "back")("the dog")["input_ids"] == stock("the dog")["input_ids"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_marian_in_half_precision(saved_model, tmp_path, capsys, dtype):
    assert run(capsys, "export", saved_model, tmp_path / "marian", "--to", "marian")[0] == 0
    AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "marian").to(dtype).save_pretrained(tmp_path / "half")
    AutoTokenizer.from_pretrained(saved_model).save_pretrained(tmp_path / "half")
    assert run(capsys, "import", tmp_path / "half", tmp_path / "ours")[0] == 0
    assert {tensor.dtype for tensor in load_file(tmp_path / "ours" / "model.safetensors").values()} == {dtype}
    assert run(capsys, "export", tmp_path / "ours", tmp_path / "back", "--to", "marian")[0] == 0
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("half", "back"))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_generation_settings_go_there_and_back(saved_model, tmp_path, capsys):
    import shutil

    source = Path(shutil.copytree(saved_model, tmp_path / "source"))
    settings = {"num_beams": 6, "bad_words_ids": [[3]], "max_length": 50, "forced_eos_token_id": 3}
    settings |= {"eos_token_id": 3, "decoder_start_token_id": 2, "pad_token_id": 0}
    (source / "generation_config.json").write_text(json.dumps(settings))
    assert run(capsys, "export", source, tmp_path / "marian", "--to", "marian")[0] == 0
    assert run(capsys, "import", tmp_path / "marian", tmp_path / "back")[0] == 0
    for name in ("marian", "back"):
        written = json.loads((tmp_path / name / "generation_config.json").read_text())
        assert {key: written.get(key) for key in settings} == settings


def test_what_is_there_is_kept_unless_asked(bert, tmp_path, capsys):
    out = tmp_path / "ours"
    assert run(capsys, "import", bert, out)[0] == 0
    status, _, err = run(capsys, "import", bert, out)
    assert (status, "exists already; name another folder, or give --overwrite" in err) == (1, True)
    assert run(capsys, "import", bert, out, "--overwrite")[0] == 0
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("dear")
    status, _, err = run(capsys, "import", bert, tmp_path / "letters", "--overwrite")
    assert (status, "is no model folder, so --overwrite does not replace it" in err) == (1, True)
    assert (tmp_path / "letters" / "one.txt").read_text() == "dear"


def test_a_missing_tokenizer_is_noted(bert_copy, tmp_path, capsys):
    for file in bert_copy.glob("tokenizer*"):
        file.unlink()
    status, table, _ = run(capsys, "import", bert_copy, tmp_path / "ours")
    assert status == 0
    assert "the model has no tokenizer, so" in table
    assert "logits, sentences" not in table


def test_half_precision_stays(bert, tmp_path, capsys):
    BertForMaskedLM.from_pretrained(bert).half().save_pretrained(tmp_path / "half")
    assert run(capsys, "import", tmp_path / "half", tmp_path / "ours")[0] == 0
    dtypes = {tensor.dtype for tensor in load_file(tmp_path / "ours" / "model.safetensors").values()}
    assert dtypes == {torch.float16}


def test_weights_that_do_not_fit(bert_copy, tmp_path, capsys):
    tensors = load_file(bert_copy / "model.safetensors")
    tensors["bert.embeddings.position_embeddings.weight"] = torch.zeros(7, 16)
    del tensors["cls.predictions.transform.dense.bias"]
    save_file(tensors, bert_copy / "model.safetensors", metadata={"format": "pt"})
    line = refused(capsys, tmp_path / "out", "import", bert_copy, tmp_path / "out")
    assert "cls.predictions.transform.dense.bias" in line
    tensors["cls.predictions.transform.dense.bias"] = torch.zeros(16)
    save_file(tensors, bert_copy / "model.safetensors", metadata={"format": "pt"})
    line = refused(capsys, tmp_path / "out", "import", bert_copy, tmp_path / "out")
    assert "bert.embeddings.position_embeddings.weight (7, 16) for (32, 16)" in line


def test_a_pickle_that_runs_code_is_refused(bert_copy, tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "harm").touch, ())

    (bert_copy / "model.safetensors").unlink()
    torch.save({"cls.predictions.bias": Evil()}, bert_copy / "pytorch_model.bin", pickle_module=pickle)
    line = refused(capsys, tmp_path / "out", "import", bert_copy, tmp_path / "out")
    assert "the model cannot be loaded" in line
    assert not (tmp_path / "harm").exists()


def test_a_difference_leaves_nothing(bert, tmp_path, capsys, monkeypatch):
    def one_wrong_weight(stock):
        model = original(stock)
        with torch.no_grad():
            model.lm_head.bias[3] += 1
        return model

    converter = sys.modules["vanilla_recipes.cli.converter"]
    original = converter.from_stock
    monkeypatch.setattr(converter, "from_stock", one_wrong_weight)
    line = refused(capsys, tmp_path / "out", "import", bert, tmp_path / "out")
    assert "not written, because the result differs from the original model: weights, there and back; logits" in line


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "electra"}, "model_type is 'electra', which cannot be converted; supported are bert, roberta"),
        ({"architectures": ["BertForNextSentencePrediction"]}, "BertForNextSentencePrediction has no counterpart here"),
        ({"is_decoder": True}, "is_decoder is True, but our encoder is bidirectional"),
        ({"model_type": "unheard-of"}, "neither transformers nor this package knows"),
    ],
    ids=str,
)
def test_sources_that_cannot_be_converted(bert_copy, tmp_path, capsys, config, message):
    file = bert_copy / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    assert message in refused(capsys, tmp_path / "out", "import", bert_copy, tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("import", "BERT", "OUT", "--head", "causal-lm"), "--head causal-lm: a bert has the heads base, masked-lm"),
        (("import", "OURS", "OUT"), "this is a vanilla_seq2seq already; `vanilla export` is the other way"),
        (("import", "nowhere/at/all", "OUT"), "there is no such folder"),
        (("import", "EMPTY", "OUT"), "there is no config.json in it"),
        (("export", "BERT", "OUT", "--to", "marian"), "this is a bert; export takes models of this"),
        (("export", "OURS", "OUT", "--to", "bart"), "embedding_norm is False, but a bart has True"),
        (("export", "OURS", "OUT", "--to", "bert"), "VanillaSeq2SeqForConditionalGeneration cannot become a bert"),
        (("export", "OURS", "OUT", "--to", "gguf"), "export with --to gpt2, and give that folder to llama.cpp's"),
        (("export", "OURS", "OUT", "--to", "t5"), "'t5' is no target; choose one of bert"),
        (("export", "OURS", "OUT", "--to", "marian", "--quantization", "int8"), "it is for --to ctranslate2, not for"),
        (("export", "OURS", "OUT"), "--to"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_words(bert, saved_model, tmp_path, capsys, words, message):
    (tmp_path / "empty").mkdir()
    places = {"BERT": bert, "OURS": saved_model, "OUT": tmp_path / "out", "EMPTY": tmp_path / "empty"}
    assert message in refused(capsys, tmp_path / "out", *(places.get(word, word) for word in words))
