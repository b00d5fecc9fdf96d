"""CTranslate2's own runtime gives the scores and tokens of the model that was written for it."""

import ctranslate2
import pytest
import torch
from tiny import DECODERS, ENCODERS, SEQ2SEQ, is_seq2seq, random_ids, tiny_model

from vanilla_transformers.interop import ctranslate2 as exporter
from vanilla_transformers.interop.checks import InteropError

TEXTS = ["w5 w6 w7 w8", "w9 w11 w13 w17 w30 w40 w50", "w66"]
ONE_STACK, TWO_STACKS = DECODERS[1], SEQ2SEQ[1]
KNOBS = [
    {},
    {"norm_position": "pre", "embedding_norm": True, "layer_norm_eps": 1e-3},
    {"norm_position": "post", "final_norm": True, "position_embedding_type": "learned", "position_offset": 2},
    {"norm_position": "pre", "final_norm": False, "position_embedding_type": "none", "scale_embeddings": False},
    {"sinusoidal_layout": "halves", "position_embedding_type": "sinusoidal", "position_offset": 3},
    {"lm_head_bias": True, "tie_word_embeddings": False, "scale_embeddings": True},
]


def model_of(model_class, **knobs):
    if is_seq2seq(model_class):
        knobs = {"encoder_layers": 3, "decoder_layers": 2, "decoder_start_token_id": 2} | knobs
    return tiny_model(model_class, **knobs)


def failed(checks) -> list[str]:
    return [f"{one.name}: {one.result}" for one in checks if not one.passed]


@pytest.mark.parametrize("model_class", [TWO_STACKS, ONE_STACK], ids=["seq2seq", "decoder"])
@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_every_knob(model_class, knobs, tokenizer, tmp_path):
    model = model_of(model_class, **knobs)
    exporter.write(model, tokenizer, tmp_path)
    checks = exporter.check(model, tokenizer, tmp_path, TEXTS)
    assert len(checks) == 4
    assert failed(checks) == []


def test_tables_of_their_own(tokenizer, tmp_path):
    model = model_of(TWO_STACKS, share_encoder_decoder_embeddings=False, tie_word_embeddings=False)
    exporter.write(model, tokenizer, tmp_path)
    assert failed(exporter.check(model, tokenizer, tmp_path, TEXTS)) == []


@pytest.mark.parametrize("activation", exporter.ACTIVATIONS)
def test_activations(activation, tokenizer, tmp_path):
    model = model_of(ONE_STACK, hidden_act=activation, num_hidden_layers=1)
    exporter.write(model, tokenizer, tmp_path)
    ids = random_ids(1, 9)
    ours = model(ids).logits[0].log_softmax(-1)[range(8), ids[0, 1:]].detach()
    rows = [tokenizer.convert_ids_to_tokens(ids[0])]
    theirs = ctranslate2.Generator(str(tmp_path)).score_batch(rows)[0].log_probs
    torch.testing.assert_close(torch.tensor(theirs), ours, rtol=0, atol=1e-5)


def test_the_start_embedding_is_that_of_the_start_token(tokenizer, tmp_path):
    """Zero, for which CTranslate2's converter of Marian takes it, would give other scores."""
    model = model_of(TWO_STACKS)
    exporter.write(model, tokenizer, tmp_path)
    with torch.no_grad():
        model.get_input_embeddings().weight[2] = 0
    assert any("log-prob" in line for line in failed(exporter.check(model, tokenizer, tmp_path, TEXTS)))


@pytest.mark.parametrize("quantization", ["int8", "float16", "bfloat16"])
def test_less_precision_leaves_the_model_as_it_was(quantization, tokenizer, tmp_path):
    model = model_of(TWO_STACKS)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exporter.write(model, tokenizer, tmp_path, quantization)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert failed(exporter.check(model, tokenizer, tmp_path, TEXTS)) == []
    settings = tmp_path / "config.json"
    settings.write_text(settings.read_text().replace(f'"{quantization}"', '"float32"'))
    assert failed(exporter.check(model, tokenizer, tmp_path, TEXTS)) != []


def test_rows_that_the_tokenizer_does_not_know(tokenizer, tmp_path):
    model = model_of(ONE_STACK, vocab_size=80)
    exporter.write(model, tokenizer, tmp_path)
    assert failed(exporter.check(model, tokenizer, tmp_path, TEXTS)) == []


def test_few_positions(tokenizer, tmp_path):
    model = model_of(ONE_STACK, max_position_embeddings=12)
    exporter.write(model, tokenizer, tmp_path)
    assert failed(exporter.check(model, tokenizer, tmp_path, TEXTS)) == []


def test_generation_settings_are_left_alone(tokenizer, tmp_path):
    model = model_of(TWO_STACKS)
    model.generation_config.num_beams, model.generation_config.forced_bos_token_id = 3, 9
    exporter.write(model, tokenizer, tmp_path)
    assert failed(exporter.check(model, tokenizer, tmp_path, TEXTS)) == []
    assert (model.generation_config.num_beams, model.generation_config.forced_bos_token_id) == (3, 9)


@pytest.mark.parametrize(
    ("model_class", "knobs", "quantization", "message"),
    [
        (
            ENCODERS[1],
            {},
            "int8",
            "VanillaEncoderForMaskedLM: CTranslate2 takes VanillaSeq2SeqForCond",
        ),
        (DECODERS[2], {}, "int8", "VanillaDecoderForSequenceClassification: CTranslate2 takes"),
        (
            ONE_STACK,
            {"hidden_act": "relu6"},
            "int8",
            "hidden_act is 'relu6', which CTranslate2 does not have",
        ),
        (TWO_STACKS, {"type_vocab_size": 2}, "int8", "type_vocab_size is 2, but CTranslate2 has no token types"),
        (
            TWO_STACKS,
            {"share_encoder_decoder_embeddings": False, "source_vocab_size": 50},
            "int8",
            "source_vocab_size is 50: source and target have separate vocabularies",
        ),
        (ONE_STACK, {}, "int4", "quantization 'int4' is unknown to CTranslate2: choose one of int8, int8_float32"),
        (ONE_STACK, {"vocab_size": 60}, "int8", "the tokenizer gives ids up to 66, but vocab_size is 60"),
        (ONE_STACK, {"eos_token_id": [3, 4]}, "int8", r"eos_token_id is \[3, 4\], but CTranslate2 needs one token"),
        (ONE_STACK, {"eos_token_id": None}, "int8", "eos_token_id is None, but CTranslate2 needs one token: set"),
    ],
)
def test_what_it_cannot_hold(model_class, knobs, quantization, message, tokenizer, tmp_path):
    with pytest.raises(InteropError, match=message):
        exporter.write(tiny_model(model_class, **knobs), tokenizer, tmp_path / "out", quantization)
    assert not (tmp_path / "out").exists()
