"""ONNX Runtime gives the outputs of each model, at other sizes than the graph was made with, and its greedy tokens."""

import copy

import onnxruntime
import pytest
import torch
from tiny import DECODERS, ENCODERS, HEADS, SEQ2SEQ, first_output, is_seq2seq, name_of, tiny_inputs, tiny_model

from vanilla_transformers.interop import onnx as exporter
from vanilla_transformers.interop.checks import InteropError

TEXTS = ["w5 w6 w7 w8", "w9 w11 w13 w17 w30 w40 w50", "w66"]


def model_of(model_class, **knobs):
    layers = ("encoder_layers", "decoder_layers") if is_seq2seq(model_class) else ("num_hidden_layers",)
    start = {"decoder_start_token_id": 2} if is_seq2seq(model_class) else {}
    return tiny_model(model_class, **dict.fromkeys(layers, 1), **start | knobs)


def failed(checks) -> list[str]:
    return [f"{one.name}: {one.result}" for one in checks if not one.passed]


def check_notices(model, tokenizer, folder) -> None:
    """The model passes, and does not once its weights are others than those that were written."""
    assert failed(exporter.check(model, tokenizer, folder, TEXTS)) == []
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert failed(exporter.check(model, tokenizer, folder, TEXTS)) != []


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    model, folder = model_of(DECODERS[1]).train(), tmp_path_factory.mktemp("decoder")
    exporter.write(model, folder)
    return model, folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    model, folder = model_of(ENCODERS[2]), tmp_path_factory.mktemp("classifier")
    exporter.write(model, folder)
    return model, folder


def test_a_decoder_under_the_names_that_optimum_looks_for(decoder, tokenizer):
    model, folder = decoder
    assert model.training
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert {one.name: one.shape for one in session.get_inputs()} == {
        "input_ids": ["batch_size", "sequence_length"],
        "attention_mask": ["batch_size", "total_sequence_length"],
        "past_key_values.0.key": ["batch_size", 4, "past_sequence_length", 8],
        "past_key_values.0.value": ["batch_size", 4, "past_sequence_length", 8],
    }
    assert [one.name for one in session.get_outputs()] == ["logits", "present.0.key", "present.0.value"]
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "generation_config.json", "model.onnx"]
    check_notices(copy.deepcopy(model), tokenizer, folder)


@pytest.mark.parametrize("shape", [(1, 1), (1, 12), (5, 3)], ids=str)
def test_sizes(shape, classifier):
    model, folder = classifier
    inputs = tiny_inputs(ENCODERS[2], *shape) if shape[1] > 2 else {"input_ids": torch.tensor([[7]])}
    inputs.setdefault("attention_mask", torch.ones_like(inputs["input_ids"]))
    inputs["token_type_ids"] = torch.ones_like(inputs["input_ids"])
    theirs = exporter.runner(folder / "model.onnx")(inputs)["logits"]
    torch.testing.assert_close(theirs, first_output(model, inputs), rtol=0, atol=1e-5)


def test_a_classifier(classifier, tokenizer):
    model, folder = classifier
    check_notices(copy.deepcopy(model), tokenizer, folder)


@pytest.mark.slow
def test_half_precision_becomes_float32(tokenizer, tmp_path):
    model = model_of(ENCODERS[2]).bfloat16()
    exporter.write(model, tmp_path)
    assert failed(exporter.check(model, tokenizer, tmp_path, TEXTS)) == []
    assert model.dtype == torch.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("model_class", [ENCODERS[0], *HEADS], ids=name_of)
def test_every_head(model_class, tokenizer, tmp_path):
    model = model_of(model_class)
    exporter.write(model, tmp_path)
    check_notices(model, tokenizer, tmp_path)


@pytest.mark.parametrize(
    ("model_class", "knobs"),
    [
        (SEQ2SEQ[1], {"position_embedding_type": "learned", "type_vocab_size": 2, "num_attention_heads": 2}),
        (DECODERS[1], {"position_embedding_type": "sinusoidal", "eos_token_id": None, "num_hidden_layers": 2}),
        (DECODERS[1], {"position_embedding_type": "none", "norm_position": "post", "tie_word_embeddings": False}),
        (DECODERS[1], {"max_position_embeddings": 12}),
        (SEQ2SEQ[1], {"share_encoder_decoder_embeddings": False, "source_vocab_size": 71}),
        (ENCODERS[0], {"pooler": False, "type_vocab_size": 0}),
    ],
    ids=str,
)
@pytest.mark.slow
def test_knobs(model_class, knobs, tokenizer, tmp_path):
    model = tiny_model(model_class, **({"decoder_start_token_id": 2} if is_seq2seq(model_class) else {}) | knobs)
    exporter.write(model, tmp_path)
    assert failed(exporter.check(model, tokenizer, tmp_path, TEXTS)) == []


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: torch.nn.Linear(1, 1), "Linear has no ONNX graph; export one of our models with a head"),
        (lambda: model_of(SEQ2SEQ[0]), "VanillaSeq2SeqModel has no ONNX graph"),
    ],
)
def test_what_it_cannot_write(model, message, tmp_path):
    with pytest.raises(InteropError, match=message):
        exporter.write(model(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
