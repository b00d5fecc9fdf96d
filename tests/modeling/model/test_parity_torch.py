"""Our encoder-decoder against torch.nn.Transformer, weights copied across."""

import pytest
import torch
from stock_weights import from_torch_layer, load_exactly
from torch import nn

import vanilla_transformers as vt

TOLERANCE = dict(rtol=1e-5, atol=1e-5)
B, S, T, D, H, V = 3, 11, 7, 48, 3, 53


@pytest.fixture(params=["post", "pre"])
def pair(request):
    """torch's Transformer and ours with its weights; both end their stacks with a layer norm, as torch always does."""
    torch.manual_seed(0)
    theirs = nn.Transformer(
        D, H, 2, 3, dim_feedforward=96, dropout=0.0, batch_first=True, norm_first=request.param == "pre"
    )
    for parameter in theirs.parameters():  # biases and norms too, which torch initializes to constants
        nn.init.normal_(parameter, std=0.2)
    config = vt.VanillaSeq2SeqConfig(
        vocab_size=V,
        hidden_size=D,
        num_attention_heads=H,
        intermediate_size=96,
        encoder_layers=2,
        decoder_layers=3,
        norm_position=request.param,
        final_norm=True,
        position_embedding_type="none",
        scale_embeddings=False,
    )
    ours = vt.VanillaSeq2SeqModel(config)
    state = from_torch_layer(theirs.state_dict())
    state["encoder.embed_tokens.weight"] = torch.randn(V, D)
    return theirs.train(), load_exactly(ours, state)


def _inputs():
    torch.manual_seed(1)
    source, target = torch.randn(B, S, D), torch.randn(B, T, D)
    mask = torch.ones(B, S, dtype=torch.long)
    mask[1, 6:] = 0
    return source, target, mask


def _forward(theirs, ours, source, target, mask):
    padding = mask == 0
    causal = nn.Transformer.generate_square_subsequent_mask(T)
    expected = theirs(source, target, tgt_mask=causal, src_key_padding_mask=padding, memory_key_padding_mask=padding)
    actual = ours(inputs_embeds=source, attention_mask=mask, decoder_inputs_embeds=target, use_cache=False)
    return expected, actual.last_hidden_state


def test_hidden_states_equal_torch(pair):
    expected, actual = _forward(*pair, *_inputs())
    torch.testing.assert_close(actual, expected, **TOLERANCE)


def test_gradients_equal_torch(pair):
    theirs, ours = pair
    expected, actual = _forward(theirs, ours, *_inputs())
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (actual * weights).sum().backward()
    gradients = from_torch_layer({name: parameter.grad for name, parameter in theirs.named_parameters()})
    for name, gradient in gradients.items():
        scale = gradient.abs().max().clamp(min=1)
        torch.testing.assert_close(
            ours.get_parameter(name).grad / scale,
            gradient / scale,
            **TOLERANCE,
            msg=lambda text, n=name: f"{n}: {text}",
        )
