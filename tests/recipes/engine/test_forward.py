"""Stock models of the sizes that people have: adapters and names of settings; and which models give no logits."""

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
)

from vanilla_recipes.classification import HEAD
from vanilla_recipes.engine.adapters import block_layers
from vanilla_recipes.engine.forward import training_loss
from vanilla_recipes.models.stock import set_field
from vanilla_transformers import (
    VanillaDecoderConfig,
    VanillaDecoderForCausalLM,
    VanillaDecoderForSequenceClassification,
)

OPUS_MT = {
    "vocab_size": 58101, "d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048, "encoder_attention_heads": 8, "decoder_attention_heads": 8,
}  # fmt: skip
MODELS = {
    "bert-base": (lambda: BertForSequenceClassification(BertConfig()), {"query", "key", "value", "dense"}),
    "gpt2": (lambda: GPT2LMHeadModel(GPT2Config()), {"c_attn", "c_proj", "c_fc"}),
    "opus-mt": (
        lambda: MarianMTModel(MarianConfig(**OPUS_MT)),
        {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"},
    ),
}


def on_meta(name: str) -> PreTrainedModel:
    with torch.device("meta"):
        return MODELS[name][0]()


@pytest.mark.parametrize("name", MODELS)
def test_the_layers_of_the_blocks_are_adapted(name):
    assert set(block_layers(on_meta(name))) == MODELS[name][1]


@pytest.mark.parametrize("name", MODELS)
def test_adapters_have_less_than_two_percent_of_the_parameters(name):
    model = on_meta(name)
    total = sum(parameter.numel() for parameter in model.parameters())
    heads = [module for module in HEAD if any(part.endswith(module) for part, _ in model.named_modules())]
    targets = block_layers(model)
    settings = {"modules_to_save": heads or None, "fan_in_fan_out": name == "gpt2"}
    inject_adapter_in_model(LoraConfig(r=8, target_modules=targets, **settings), model)
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert 0.005 * total < learning < 0.02 * total


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (BertConfig(), ["hidden_dropout_prob"]),
        (GPT2Config(), ["resid_pdrop", "embd_pdrop"]),
        (MarianConfig(), ["dropout"]),
    ],
)
def test_dropout_has_other_names_in_stock_configurations(config, names):
    assert set_field(config, "hidden_dropout_prob", 0.375)
    assert {name for name, value in config.to_dict().items() if value == 0.375} == set(names)
    assert not set_field(config, "norm_position", "pre")


def test_dropout_of_zero_leaves_none():
    config = GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=11)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        set_field(config, name, 0)
    rates = {module.p for module in GPT2LMHeadModel(config).modules() if isinstance(module, nn.Dropout)}
    assert rates == {0}


@pytest.mark.parametrize(
    ("model_class", "makes_logits"),
    [(VanillaDecoderForCausalLM, False), (VanillaDecoderForSequenceClassification, True)],
)
def test_training_holds_no_logits_of_the_vocabulary(model_class, makes_logits):
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 1}
    model = model_class(VanillaDecoderConfig(vocab_size=50, num_labels=3, pad_token_id=0, **sizes)).eval()
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    ids = torch.arange(1, 13).reshape(2, 6)
    labels = torch.tensor([0, 2]) if makes_logits else ids
    loss = training_loss(model, {"input_ids": ids, "labels": labels}, torch.tensor(7.0))
    assert (seen[0].logits is not None) == makes_logits
    whole = model(input_ids=ids, labels=labels, num_items_in_batch=torch.tensor(7.0)).loss
    torch.testing.assert_close(loss, whole, rtol=1e-6, atol=0)
