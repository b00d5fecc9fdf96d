"""Our families against transformers' own Marian, BERT and GPT-2, weights copied across."""

import pytest
import torch
from stock_weights import BERT_NAMES, MARIAN_NAMES, from_bert, from_gpt2, from_marian, load_exactly, renamed
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    GenerationMixin,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
)

import vanilla_transformers as vt

TOLERANCE = dict(rtol=1e-5, atol=1e-5)
V = 101


def _randomize(model):
    """Give every parameter a random value: biases and norms begin as constants, which would hide a swap."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return model.eval()


def _ids(batch_size=3, length=9, seed=0):
    return torch.randint(3, V, (batch_size, length), generator=torch.Generator().manual_seed(seed))


def _padding_mask(batch_size=3, length=9, side="right"):
    mask = torch.ones(batch_size, length, dtype=torch.long)
    mask[1, -3:] = 0
    return mask.flip(-1) if side == "left" else mask


def _assert_same_gradients(ours, theirs, names):
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    for name, gradient in renamed(gradients, names).items():
        scale = gradient.abs().max().clamp(min=1)
        torch.testing.assert_close(ours.get_parameter(name).grad / scale, gradient / scale, **TOLERANCE)


@pytest.fixture(params=["swish", "relu", "gelu"])
def marian(request):
    config = MarianConfig(
        vocab_size=V,
        d_model=48,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=3,
        decoder_attention_heads=3,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        activation_function=request.param,
        scale_embedding=True,
        max_position_embeddings=64,
        dropout=0.0,
        pad_token_id=V - 1,
        eos_token_id=0,
        forced_eos_token_id=None,
        decoder_start_token_id=V - 1,
    )
    model = _randomize(MarianMTModel(config))
    model.final_logits_bias.copy_(torch.randn(1, V) * 0.3)
    return model


def test_marian_logits_and_gradients(marian):
    ours = from_marian(marian)
    inputs = dict(input_ids=_ids(), attention_mask=_padding_mask(), labels=_ids(length=6, seed=1))
    expected, actual = marian(**inputs), ours(**inputs)
    torch.testing.assert_close(actual.logits, expected.logits, **TOLERANCE)
    torch.testing.assert_close(actual.loss, expected.loss, **TOLERANCE)
    expected.loss.backward()
    actual.loss.backward()
    gradient = marian.model.shared.weight.grad
    torch.testing.assert_close(ours.get_input_embeddings().weight.grad, gradient, **TOLERANCE)
    for name, parameter in marian.model.named_parameters():
        if parameter.grad is not None and "embed" not in name and "shared" not in name:
            (our_name,) = renamed({name: None}, MARIAN_NAMES)
            torch.testing.assert_close(ours.model.get_parameter(our_name).grad, parameter.grad, **TOLERANCE)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_marian_generates_the_same_tokens(marian, num_beams):
    ours = from_marian(marian)
    settings = dict(num_beams=num_beams, min_new_tokens=15, max_new_tokens=20, do_sample=False, no_repeat_ngram_size=2)
    settings["attention_mask"] = _padding_mask()
    # The same loop for both: a random model finds many sentences equally likely.
    settings["custom_generate"] = GenerationMixin._beam_search if num_beams > 1 else GenerationMixin._sample
    expected = marian.generate(_ids(), **settings)
    assert torch.equal(ours.generate(_ids(), **settings), expected)
    assert expected.unique().numel() > 5  # a model that repeats one token would agree with anything


def _bert_config(**kwargs):
    return BertConfig(
        vocab_size=V,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=64,
        max_position_embeddings=32,
        type_vocab_size=3,
        **kwargs,
    )


def _bert_inputs():
    types = torch.randint(0, 3, (3, 9), generator=torch.Generator().manual_seed(2))
    return dict(input_ids=_ids(), attention_mask=_padding_mask(), token_type_ids=types)


def test_bert_masked_lm_logits_and_gradients():
    bert = _randomize(BertForMaskedLM(_bert_config()))
    ours = from_bert(bert, vt.VanillaEncoderForMaskedLM)
    inputs = _bert_inputs() | {"labels": _ids(seed=3).masked_fill(torch.rand(3, 9) < 0.5, -100)}
    expected, actual = bert(**inputs), ours(**inputs)
    torch.testing.assert_close(actual.logits, expected.logits, **TOLERANCE)
    torch.testing.assert_close(actual.loss, expected.loss, **TOLERANCE)
    expected.loss.backward()
    actual.loss.backward()
    _assert_same_gradients(ours, bert, {"cls.predictions.bias": "lm_head.bias"} | BERT_NAMES)


def test_bert_pooler():
    bert = _randomize(BertModel(_bert_config()))
    ours = from_bert(bert, vt.VanillaEncoderModel)
    expected, actual = bert(**_bert_inputs()), ours(**_bert_inputs())
    torch.testing.assert_close(actual.last_hidden_state, expected.last_hidden_state, **TOLERANCE)
    torch.testing.assert_close(actual.pooler_output, expected.pooler_output, **TOLERANCE)


@pytest.mark.parametrize(
    ("their_class", "our_class", "labels"),
    [
        (
            BertForSequenceClassification,
            vt.VanillaEncoderForSequenceClassification,
            {"labels": torch.tensor([0, 4, 2])},
        ),
        (BertForTokenClassification, vt.VanillaEncoderForTokenClassification, {"labels": _ids(seed=5) % 5}),
        (
            BertForQuestionAnswering,
            vt.VanillaEncoderForQuestionAnswering,
            {"start_positions": torch.tensor([0, 3, 12]), "end_positions": torch.tensor([5, 5, 12])},
        ),
    ],
)
def test_bert_heads(their_class, our_class, labels):
    num_labels = 2 if "start_positions" in labels else 5
    bert = _randomize(their_class(_bert_config(num_labels=num_labels)))
    ours = from_bert(bert, our_class)
    inputs = _bert_inputs()
    if "start_positions" in labels:  # BERT's loss lets a span end on padding, ours does not
        del inputs["attention_mask"]
    expected, actual = bert(**inputs, **labels), ours(**inputs, **labels)
    torch.testing.assert_close(actual.loss, expected.loss, **TOLERANCE)
    torch.testing.assert_close(actual.to_tuple()[1], expected.to_tuple()[1], **TOLERANCE)


@pytest.fixture(params=["gelu_new", "relu"])
def gpt2_config(request):
    return GPT2Config(
        vocab_size=V,
        n_positions=48,
        n_embd=48,
        n_layer=2,
        n_head=3,
        activation_function=request.param,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
        num_labels=4,
    )


def test_gpt2_logits_and_gradients(gpt2_config):
    gpt2 = _randomize(GPT2LMHeadModel(gpt2_config))
    ours = from_gpt2(gpt2, vt.VanillaDecoderForCausalLM)
    inputs = dict(input_ids=_ids(), attention_mask=_padding_mask(), labels=_ids())
    expected, actual = gpt2(**inputs), ours(**inputs)
    torch.testing.assert_close(actual.logits, expected.logits, **TOLERANCE)
    torch.testing.assert_close(actual.loss, expected.loss, **TOLERANCE)
    expected.loss.backward()
    actual.loss.backward()
    theirs = {name: parameter.grad for name, parameter in gpt2.named_parameters()}
    as_model = GPT2LMHeadModel(gpt2_config)
    as_model.load_state_dict(theirs, strict=False)
    gradients = dict(from_gpt2(as_model, vt.VanillaDecoderForCausalLM).named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].data, **TOLERANCE)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_gpt2_generates_the_same_tokens(gpt2_config, num_beams):
    gpt2 = _randomize(GPT2LMHeadModel(gpt2_config))
    ours = from_gpt2(gpt2, vt.VanillaDecoderForCausalLM)
    settings = dict(
        num_beams=num_beams,
        max_new_tokens=20,
        do_sample=False,
        no_repeat_ngram_size=2,
        attention_mask=_padding_mask(side="left"),
    )
    expected = gpt2.generate(_ids(), **settings)
    assert torch.equal(ours.generate(_ids(), **settings), expected)
    assert expected[:, 9:].unique().numel() > 5


def test_gpt2_sequence_classification(gpt2_config):
    gpt2 = _randomize(GPT2ForSequenceClassification(gpt2_config))
    ours = from_gpt2(gpt2, vt.VanillaDecoderForSequenceClassification)
    input_ids = _ids().masked_fill(_padding_mask() == 0, 0)
    inputs = dict(input_ids=input_ids, attention_mask=_padding_mask(), labels=torch.tensor([0, 3, 1]))
    expected, actual = gpt2(**inputs), ours(**inputs)
    torch.testing.assert_close(actual.logits, expected.logits, **TOLERANCE)
    torch.testing.assert_close(actual.loss, expected.loss, **TOLERANCE)


def test_a_forgotten_weight_is_noticed():
    bert = _randomize(BertModel(_bert_config()))
    state = renamed(bert.state_dict(), {"embeddings.word_embeddings": "embed_tokens"})
    with pytest.raises(AssertionError):
        load_exactly(vt.VanillaEncoderModel(from_bert(bert, vt.VanillaEncoderModel).config), state)
