"""Every stock source, every head: ours gives the numbers and tokens of transformers' own class, and there and back."""

import copy

import pytest
import torch
from stock_zoo import CONFIGS, HEADS, stock_model
from transformers.activations import ACT2FN

from vanilla_transformers import convert
from vanilla_transformers.interop import ARCHITECTURES, compare
from vanilla_transformers.interop.rules import carry_in

VARIANTS = {
    "bert": [dict(tie_word_embeddings=False), dict(type_vocab_size=1), dict(layer_norm_eps=1e-5)],
    "roberta": [dict(tie_word_embeddings=False), dict(pad_token_id=3)],
    "distilbert": [dict(tie_word_embeddings=False), dict(sinusoidal_pos_embds=True)],
    "gpt2": [dict(tie_word_embeddings=False), dict(n_inner=None), dict(layer_norm_epsilon=1e-3)],
    "opt": [
        dict(tie_word_embeddings=False),
        dict(do_layer_norm_before=False),
        dict(enable_bias=False),
        dict(layer_norm_elementwise_affine=False),
        dict(_remove_final_layer_norm=True),
    ],
    "marian": [
        dict(tie_word_embeddings=False),
        dict(scale_embedding=True),
        dict(share_encoder_decoder_embeddings=False, decoder_vocab_size=41, decoder_start_token_id=40),
        dict(d_model=15, encoder_ffn_dim=7, decoder_ffn_dim=7),
    ],
    "bart": [dict(tie_word_embeddings=False), dict(scale_embedding=True)],
    "mbart": [dict(tie_word_embeddings=False), dict(scale_embedding=True)],
    "m2m_100": [dict(tie_word_embeddings=False), dict(scale_embedding=False), dict(pad_token_id=4)],
    "fsmt": [dict(tie_word_embeddings=True, src_vocab_size=37), dict(scale_embedding=False), dict(pad_token_id=4)],
}
ACTIVATION_FIELDS = {"bert": "hidden_act", "roberta": "hidden_act", "distilbert": "activation"}
# Those with weights or sampling of their own are no activation of a feed-forward block of these sources.
ACTIVATIONS = [name for name in ACT2FN if name not in ("prelu", "laplace", "xielu")]


def assert_same(stock, ours):
    checks = compare(stock, ours)
    assert len(checks) >= 2
    assert not [check for check in checks if not check.passed]


@pytest.mark.parametrize(("model_type", "head"), HEADS)
def test_ours_equals_stock_and_the_way_back_restores_every_bit(model_type, head):
    stock = stock_model(model_type, head)
    ours = convert(stock)
    assert type(ours) is ARCHITECTURES[model_type].heads[head].ours
    assert_same(stock, ours)
    back = convert(ours, to=model_type).state_dict()
    before = stock.state_dict()
    assert back.keys() == before.keys()
    assert [name for name, tensor in before.items() if not torch.equal(tensor, back[name])] == []


@pytest.mark.parametrize(
    ("model_type", "changes"), [(name, changes) for name, variants in VARIANTS.items() for changes in variants], ids=str
)
def test_what_a_source_can_vary_is_kept(model_type, changes):
    for head in ARCHITECTURES[model_type].heads:
        stock = stock_model(model_type, head, **changes)
        ours = convert(stock)
        assert_same(stock, ours)
        back = convert(ours, to=model_type)
        assert_same(back, ours)


@pytest.mark.parametrize("model_type", list(CONFIGS))
def test_every_activation(model_type):
    head = next(head for head in ("masked-lm", "causal-lm", "seq2seq-lm") if head in ARCHITECTURES[model_type].heads)
    field = ACTIVATION_FIELDS.get(model_type, "activation_function")
    for activation in ACTIVATIONS:
        stock = stock_model(model_type, head, **{field: activation})
        ids = torch.arange(5, 17).view(2, 6)
        inputs = {"input_ids": ids} | ({"decoder_input_ids": ids, "use_cache": False} if "2seq" in head else {})
        with torch.inference_mode():
            torch.testing.assert_close(convert(stock)(**inputs).logits, stock(**inputs).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("model_type", "head"), HEADS)
def test_gradients_agree(model_type, head):
    stock = stock_model(model_type, head)
    ours = convert(stock)
    ids = torch.arange(5, 17).view(2, 6)
    inputs = {"input_ids": ids.unsqueeze(1) if head == "multiple-choice" else ids}
    if stock.config.is_encoder_decoder:
        inputs |= {"decoder_input_ids": ids, "use_cache": False}
    for model in (stock, ours):
        outputs = model(**inputs)
        sum(value.square().mean() for value in outputs.values() if torch.is_tensor(value)).backward()
    gradients = {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad
        for name, weight in stock.named_parameters(remove_duplicate=False)
    }
    for name, buffer in stock.named_buffers():
        if name in stock.state_dict():
            gradients[name] = torch.zeros_like(buffer)
    rules = [rule for rule in ARCHITECTURES[model_type].rules(ours.config, stock.config, head) if rule.theirs]
    expected = carry_in(rules, gradients)
    for name, weight in ours.named_parameters(remove_duplicate=False):
        if name in expected and name != "lm_head.bias":
            torch.testing.assert_close(weight.grad, expected[name], rtol=1e-5, atol=1e-5)


def test_a_marian_and_its_import_learn_alike():
    stock = stock_model("marian", "seq2seq-lm", dropout=0.0, attention_dropout=0.0)
    stock.final_logits_bias.zero_()
    ours = convert(stock)
    batches = torch.randint(1, 36, (1, 4, 7), generator=torch.Generator().manual_seed(2)).expand(50, 4, 7)
    curves = []
    for model in (stock.train(), ours.train()):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        losses = []
        for batch in batches:
            loss = model(input_ids=batch, labels=batch.flip(-1)).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        curves.append(torch.tensor(losses))
    assert curves[0][-1] < 0.9 * curves[0][0]
    torch.testing.assert_close(*curves, rtol=0, atol=1e-4)


def test_the_widest_dtype_is_kept():
    stock = stock_model("bert", "masked-lm").half()
    stock.bert.embeddings.LayerNorm.float()
    assert {weight.dtype for weight in convert(stock).parameters()} == {torch.float32}
    stock = stock_model("marian", "seq2seq-lm").double()
    stock.model.shared.weight.data += 1e-12
    back = convert(convert(stock), to="marian").state_dict()
    assert all(torch.equal(tensor, back[name]) for name, tensor in stock.state_dict().items() if "posit" not in name)


def test_the_table_of_sinusoids_is_not_rounded():
    ours = convert(stock_model("marian", "seq2seq-lm").bfloat16())
    assert ours.model.encoder.input_embedding.positions.table.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_dtype_is_kept(dtype):
    stock = stock_model("bert", "masked-lm").to(dtype)
    ours = convert(stock)
    assert {weight.dtype for weight in ours.parameters()} == {dtype}
    back = convert(ours, to="bert")
    assert all(torch.equal(tensor, back.state_dict()[name]) for name, tensor in stock.state_dict().items())
    assert_same(copy.deepcopy(stock).float(), ours.float())
