"""Each row of docs/differences.md holds, and so do the papers' own numbers."""

import math
import re

import pytest
import torch
from project import ROOT
from tiny import DECODERS, ENCODERS, PAD, SEQ2SEQ, first_output, random_ids, tiny_inputs, tiny_model
from transformers.activations import ACT2FN

import vanilla_transformers as vt

TABLE = ROOT / "docs" / "differences.md"
CHECKS = {}


def row(identifier):
    """Register the check of a row of the table."""

    def register(check):
        CHECKS[identifier] = check
        return check

    return register


@row("shared-vocabulary")
def _():
    assert vt.VanillaSeq2SeqConfig().vocab_size == 37_000


@row("projection-bias")
def _():
    attention = vt.VanillaSeq2SeqModel(tiny_model(SEQ2SEQ[0]).config).encoder.layers[0].self_attn
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj):
        assert not projection.bias.any()


@row("label-smoothing")
def _():
    assert vt.VanillaSeq2SeqConfig().label_smoothing == 0.0


@row("initialization")
def _():
    model = vt.VanillaSeq2SeqModel(vt.VanillaSeq2SeqConfig(encoder_layers=1, decoder_layers=1))
    projection = model.get_parameter("decoder.layers.0.feed_forward.down_proj.weight")
    assert projection.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.get_input_embeddings().weight.std().item() == pytest.approx(0.02, rel=0.02)


@row("norm-epsilon")
def _():
    assert vt.VanillaSeq2SeqConfig().layer_norm_eps == torch.nn.LayerNorm(1).eps == 1e-5


@row("attention-dropout")
def _():
    assert vt.VanillaSeq2SeqConfig().attention_probs_dropout_prob == 0.0


@row("start-token")
def _():
    config = vt.VanillaSeq2SeqConfig()
    assert config.decoder_start_token_id == config.bos_token_id == 2


@row("untied-tables")
def _():
    model = tiny_model(SEQ2SEQ[1], tie_word_embeddings=False)
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    assert model.model.decoder.embed_tokens.weight is model.model.encoder.embed_tokens.weight


@row("position-limit")
def _():
    model = tiny_model(SEQ2SEQ[0], max_position_embeddings=4)
    longer = tiny_model(SEQ2SEQ[0], max_position_embeddings=64)
    inputs = {"input_ids": random_ids(1, 20), "decoder_input_ids": random_ids(1, 9)}
    assert torch.equal(first_output(model, inputs), first_output(longer, inputs))


@row("next-sentence")
def _():
    assert not [name for name in vt.__all__ if "NextSentence" in name or "PreTraining" in name]


def _assert_left_padding_counts_from_the_first_token(model):
    ids = random_ids(1, 5)
    padded = torch.cat((torch.full((1, 3), PAD), ids), dim=1)
    outputs = model(padded, attention_mask=(padded != PAD).long()).last_hidden_state
    torch.testing.assert_close(outputs[:, 3:], model(ids).last_hidden_state, rtol=1e-5, atol=1e-5)


@row("bert-left-padding")
def _():
    _assert_left_padding_counts_from_the_first_token(tiny_model(ENCODERS[0]))


@row("span-padding")
def _():
    model, inputs = tiny_model(ENCODERS[4]), tiny_inputs(ENCODERS[4])  # the second row ends in two padding tokens
    output = model(**inputs, start_positions=torch.tensor([-1, 1]), end_positions=torch.tensor([-1, 1]))
    start, end = (logits[1, :-2].log_softmax(-1)[1] for logits in (output.start_logits, output.end_logits))
    torch.testing.assert_close(output.loss, -(start + end) / 2)


@row("bert-packing")
def _():
    model, ids = tiny_model(ENCODERS[0]), random_ids(1, 5)
    packed = model(torch.cat((ids, ids), 1), position_ids=torch.arange(5).repeat(2)[None]).last_hidden_state
    torch.testing.assert_close(packed, model(ids).last_hidden_state.repeat(1, 2, 1), rtol=1e-5, atol=1e-5)


@row("split-projections")
def _():
    names = dict(tiny_model(DECODERS[0]).layers[0].self_attn.named_children())
    assert list(names) == ["q_proj", "k_proj", "v_proj", "o_proj"]


@row("gelu-kernel")
def _():
    x = torch.linspace(-8, 8, 1001)
    assert vt.VanillaDecoderConfig().hidden_act == "gelu_pytorch_tanh"
    torch.testing.assert_close(ACT2FN["gelu_pytorch_tanh"](x), ACT2FN["gelu_new"](x), rtol=0, atol=1e-6)


@row("no-padding-token")
def _():
    assert vt.VanillaDecoderConfig().pad_token_id is None


@row("gpt2-left-padding")
def _():
    _assert_left_padding_counts_from_the_first_token(tiny_model(DECODERS[0]))


@row("classifier-token")
def _():
    model = tiny_model(DECODERS[2])
    ids = torch.cat((random_ids(1, 4), torch.tensor([[PAD]])), dim=1)  # a real token with the padding id comes last
    expected = model.score(model.model(ids).last_hidden_state[:, -1])
    torch.testing.assert_close(model(ids, attention_mask=torch.ones_like(ids)).logits, expected)


ROWS = re.findall(r"^\| ([a-z][a-z0-9-]+) \|", TABLE.read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("identifier", [identifier for identifier in ROWS if identifier != "id"])
def test_row_holds(identifier):
    CHECKS[identifier]()


def test_no_check_without_a_row():
    assert set(CHECKS) <= set(ROWS)


def test_base_model_of_table_3():
    config = vt.VanillaSeq2SeqConfig()
    assert (config.encoder_layers, config.decoder_layers, config.hidden_size) == (6, 6, 512)
    assert (config.intermediate_size, config.num_attention_heads, config.hidden_dropout_prob) == (2048, 8, 0.1)
    assert (config.norm_position, config.has_final_norm, config.hidden_act) == ("post", False, "relu")
    assert config.tie_word_embeddings
    assert config.scale_embeddings


def test_number_of_parameters_of_the_papers():
    """65 million for the base model (table 3), 110 million for BERT-base, 124 million for GPT-2 small."""
    with torch.device("meta"):
        models = vt.VanillaSeq2SeqModel, vt.VanillaEncoderModel, vt.VanillaDecoderModel
        counts = [model(model.config_class()).num_parameters() for model in models]
    assert counts[0] == pytest.approx(65e6, rel=0.04)
    assert counts[1] == pytest.approx(110e6, rel=0.01)
    assert counts[2] == pytest.approx(124e6, rel=0.01)


def test_sinusoids_by_hand():
    """Section 3.5, worked for width 4: wavelengths 2 pi and 200 pi."""
    table = tiny_model(SEQ2SEQ[0], hidden_size=4).encoder.input_embedding.positions.table
    expected = [math.sin(3), math.cos(3), math.sin(0.03), math.cos(0.03)]
    assert table[3].tolist() == pytest.approx(expected, abs=1e-6)
    halves = tiny_model(SEQ2SEQ[0], hidden_size=4, sinusoidal_layout="halves").encoder.input_embedding.positions.table
    assert halves[3].tolist() == pytest.approx([expected[0], expected[2], expected[1], expected[3]], abs=1e-6)


def test_embeddings_are_scaled_by_the_root_of_the_width():
    """Section 3.4."""
    assert vt.VanillaSeq2SeqModel(tiny_model(SEQ2SEQ[0]).config).encoder.input_embedding.scale == math.sqrt(32)


def test_residual_weights_of_the_decoder_begin_smaller():
    """GPT-2 paper, section 2.3."""
    model = vt.VanillaDecoderModel(vt.VanillaDecoderConfig(num_hidden_layers=2, vocab_size=10))
    for name, std in (("self_attn.o_proj", 0.01), ("feed_forward.down_proj", 0.01), ("self_attn.q_proj", 0.02)):
        assert model.get_parameter(f"layers.1.{name}.weight").std().item() == pytest.approx(std, rel=0.02)
