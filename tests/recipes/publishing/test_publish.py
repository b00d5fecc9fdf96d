"""What `publish` proves and refuses before anything is sent, without a Hub."""

import ast
import json
import shlex
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from tokenizers import processors
from transformers import BertConfig, BertForSequenceClassification, T5Config, T5ForConditionalGeneration

import vanilla_transformers
from vanilla_recipes.errors import UserError
from vanilla_recipes.publishing.card import Facts, write_card
from vanilla_recipes.publishing.details import CardDetails
from vanilla_recipes.publishing.publication import publish
from vanilla_recipes.publishing.sources import Source

NAME = "owner/model"


@pytest.fixture
def folder(tmp_path, saved_models):
    """A model that a test may spoil."""
    return shutil.copytree(saved_models["EncoderForSequenceClassification"], tmp_path / "model")


def quiet(line: str) -> None:
    """Nobody reads it."""


def tried(folder, **options):
    return publish(folder, NAME, dry_run=True, tell=quiet, **options)


def test_a_model_without_a_run_has_a_card_without_its_training(folder):
    (folder / "optimizer.pt").write_bytes(b"state")
    (folder / "train_for_acme.py").write_text("PASSWORD = 'hunter2'")
    (folder / "notes").mkdir()
    done = tried(folder, details=CardDetails(license="mit", language=["en"], energy="0.2 kWh, measured at the plug"))
    assert all(check.passed for check in done.checks)
    assert {check.result for check in done.checks if ": output" in check.name} == {"maximum difference 0.0e+00"}
    assert "text-classification" in {check.result for check in done.checks}
    assert done.left_out == ["notes/", "optimizer.pt", "train_for_acme.py"]
    assert {"README.md", "modeling_encoder.py", "model.safetensors"} <= done.files.keys()
    assert "optimizer.pt" not in done.files
    data = ModelCard(done.card).data
    assert (data.license, data.pipeline_tag, data.eval_results) == ("mit", "text-classification", None)
    assert "0.2 kWh" in done.card
    assert "## Evaluation" not in done.card
    assert "None" not in done.card
    assert (done.url, done.commit) == (None, None)


def test_a_stock_class_can_go_in_its_place(saved_models):
    done = tried(saved_models["DecoderForCausalLM"], to="gpt2")
    assert "modeling_decoder.py" not in done.files
    assert "trust_remote_code" not in done.card
    assert "gpt2" in ModelCard(done.card).data.tags


def test_code_that_computes_something_else_is_not_pushed(folder):
    code = folder / "feed_forward.py"
    code.write_text(code.read_text().replace("return self.down_proj(", "return 1.001 * self.down_proj("))
    with pytest.raises(UserError, match="not pushed, because the loaded model differs: model: output, random rows"):
        tried(folder)


def test_code_that_is_missing_is_not_pushed(folder):
    (folder / "feed_forward.py").unlink()
    message = (
        r"feed_forward.py: this file of the model's code, which \w+.py refers to, is missing, so nothing was pushed"
    )
    with pytest.raises(UserError, match=f"{message}; put it back, or renew the code with `vanilla update {folder}`$"):
        tried(folder)
    for file in folder.glob("*.py"):
        file.unlink()
    with pytest.raises(
        UserError, match=r"which config.json refers to, .*; put it back, or save it with save_pretrained"
    ):
        tried(folder)


def test_code_of_another_version_is_pushed_as_a_whole(folder):
    (folder / "feed_forward.py").rename(folder / "inner.py")
    for file in folder.glob("*.py"):
        file.write_text(file.read_text().replace(".feed_forward import", ".inner import"))
    (folder / "feed_forward.py").write_text("a file of this name that no other imports")
    done = tried(folder)
    assert {"inner.py", "modeling_encoder.py"} <= done.files.keys()
    assert done.left_out == ["feed_forward.py"]


def test_code_that_needs_the_package_is_not_pushed(folder):
    code = folder / "layers.py"
    code.write_text(code.read_text().replace("from .operations", "from vanilla_transformers.model.operations"))
    with pytest.raises(UserError, match=r"in a fresh process without this package: .*vanilla_transformers"):
        tried(folder)


def test_a_tokenizer_that_reads_otherwise_elsewhere_is_not_pushed(folder, monkeypatch):
    from vanilla_recipes.publishing import publication

    load = publication.load_as_saved

    def spoiled(place):
        model, tokenizer = load(place)
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 2)])
        return model, tokenizer

    monkeypatch.setattr(publication, "load_as_saved", spoiled)
    with pytest.raises(UserError, match="model: tokenizer"):
        tried(folder)


def test_a_private_path_in_the_configuration_stops_it(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": "/home/eve/models/best"}, indent=2))
    with pytest.raises(UserError, match=r"config.json, line \d+: it holds the path /home/eve of this machine"):
        tried(folder)


def test_a_folder_that_changes_during_the_push_stops_it(folder):
    weights = load_file(folder / "model.safetensors")

    def change(line: str) -> None:
        if "no private data" in line:
            save_file({name: tensor + 1 for name, tensor in weights.items()}, folder / "model.safetensors")

    with pytest.raises(UserError, match="changed while it was being pushed; push again when nothing writes to it"):
        publish(folder, NAME, dry_run=True, tell=change)


def test_a_model_without_a_tokenizer_can_be_pushed(tmp_path):
    config = vanilla_transformers.VanillaEncoderConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    torch.manual_seed(0)
    vanilla_transformers.VanillaEncoderModel(config).save_pretrained(tmp_path / "bare")
    done = tried(tmp_path / "bare")
    assert "AutoTokenizer" not in done.card
    assert ModelCard(done.card).data.pipeline_tag == "feature-extraction"


def test_a_model_in_bf16_is_proved_in_fp32(folder):
    model = vanilla_transformers.VanillaEncoderForSequenceClassification.from_pretrained(folder)
    model.to(torch.bfloat16).save_pretrained(folder)
    assert all(check.passed for check in tried(folder).checks)


def test_a_stock_classifier_can_be_pushed(tmp_path, tokenizer):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(tokenizer), num_labels=3, pad_token_id=tokenizer.pad_token_id, **sizes)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    done = tried(tmp_path / "bert")
    assert all(check.passed for check in done.checks)
    assert "trust_remote_code" not in done.card


def test_a_stock_encoder_decoder_without_a_start_token_can_be_pushed(tmp_path, tokenizer):
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=len(tokenizer), decoder_start_token_id=tokenizer.pad_token_id, **sizes, **special)
    assert not hasattr(config, "bos_token_id") or config.bos_token_id is None
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    assert all(check.passed for check in tried(tmp_path / "t5").checks)


def test_the_card_says_what_the_model_started_from(saved_models):
    experiment = {"model": {"pretrained": "/home/me/models/base"}, "peft": {"r": 8}}
    source = Source(saved_models["DecoderForCausalLM"], None, experiment)
    model = vanilla_transformers.VanillaDecoderForCausalLM.from_pretrained(source.model)
    card = write_card(Facts("me/x", model, True, source, CardDetails()))
    assert (
        "- Started from: the saved model base; LoRA adapters of rank 8 were trained and merged into its weights" in card
    )


def test_an_example_is_quoted_in_code_and_shell(folder):
    example = 'He said "hi" to a\\b $(touch x) `id` {0}'
    card = tried(folder, details=CardDetails(example=example)).card
    [line] = [line for line in card.splitlines() if line.startswith("vanilla classify")]
    assert shlex.split(line)[3:] == [example]
    [code, _] = [line for line in card.splitlines() if line.startswith("inputs = ")]
    assert ast.parse(code).body[0].value.args[0].value == example


def test_columns_that_are_no_languages_are_not_called_so(saved_models):
    data = {"source_lang": "question", "target_lang": "de"}
    source = Source(saved_models["Seq2SeqForConditionalGeneration"], None, {"data": data})
    facts = Facts("me/x", None, True, source, CardDetails())
    assert facts.languages == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"to": "marian"}, "a VanillaEncoderForSequenceClassification cannot become a marian"),
        ({"to": "bert", "beside": "bert"}, "exclude each other"),
    ],
)
def test_what_contradicts_itself_is_refused(folder, options, told):
    with pytest.raises(UserError, match=told):
        tried(folder, **options)
