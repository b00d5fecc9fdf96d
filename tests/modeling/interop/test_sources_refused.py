"""Stock models that cannot be expressed here, and old files that can."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from stock_zoo import stock_model
from transformers import AutoConfig, T5Config, T5ForConditionalGeneration

from vanilla_transformers import convert
from vanilla_transformers.interop import InteropError, compare


@pytest.mark.parametrize(
    ("model_type", "head", "changes", "message"),
    [
        ("bert", "base", {"is_decoder": True}, "is_decoder is True"),
        ("gpt2", "causal-lm", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ("gpt2", "causal-lm", {"scale_attn_weights": False}, "scale_attn_weights is False"),
        ("opt", "causal-lm", {"word_embed_proj_dim": 12}, "word_embed_proj_dim is 12"),
        (
            "marian",
            "seq2seq-lm",
            {"decoder_ffn_dim": 48},
            "decoder_ffn_dim is 48, but our encoder and decoder have one",
        ),
        ("bart", "seq2seq-lm", {"decoder_attention_heads": 4}, "decoder_attention_heads is 4"),
        ("m2m_100", "seq2seq-lm", {"d_model": 15}, "d_model is 15"),
        ("bert", "base", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
    ],
    ids=str,
)
def test_a_property_without_a_place_here_is_named(model_type, head, changes, message):
    with pytest.raises(InteropError, match=message):
        convert(stock_model(model_type, head, **changes))


def test_an_architecture_without_a_place_here_is_named_with_those_that_have_one():
    model = T5ForConditionalGeneration(T5Config(vocab_size=20, d_model=8, num_layers=1, num_heads=2, d_ff=8, d_kv=4))
    with pytest.raises(
        InteropError, match="model_type is 't5', which cannot be converted; supported are bert, roberta"
    ):
        convert(model)
    with pytest.raises(InteropError, match="the model is already a vanilla_encoder: name the stock model type"):
        convert(convert(stock_model("bert", "base")))


def test_a_head_without_a_place_here_is_named():
    from transformers import BertForNextSentencePrediction

    config = AutoConfig.for_model("bert", vocab_size=9, hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
    with pytest.raises(InteropError, match="BertForNextSentencePrediction has no counterpart here"):
        convert(BertForNextSentencePrediction(config))


def test_positions_behind_the_padding_token_need_one():
    stock = stock_model("m2m_100", "seq2seq-lm")
    stock.config.pad_token_id = None
    with pytest.raises(InteropError, match="pad_token_id is None, but the positions of a m2m_100 begin at"):
        convert(stock)


def test_a_model_without_weights_is_refused():
    from transformers import BertModel

    with torch.device("meta"):
        stock = BertModel(stock_model("bert", "base").config)
    with pytest.raises(InteropError, match="on the device meta, where it has no weights"):
        convert(stock)


def test_what_is_for_names_is_not_ignored_for_models():
    with pytest.raises(InteropError, match="head, dtype: only for a model given by folder or name, but this BertFor"):
        convert(stock_model("bert", "masked-lm"), head="base", dtype=torch.float16)
    with pytest.raises(InteropError, match="the model is a bert, but to='gpt2' exports only our models: convert it"):
        convert(stock_model("bert", "masked-lm"), to="gpt2")


def saved(tmp_path, model_type="bert", head="masked-lm", **kwargs):
    stock = stock_model(model_type, head)
    stock.save_pretrained(tmp_path, **kwargs)
    return stock


def assert_converts(folder, stock, **kwargs):
    assert not [check for check in compare(stock, convert(str(folder), **kwargs)) if not check.passed]


def test_weights_with_more_layers_than_the_config(tmp_path):
    for model_type, spare in (("bert", "encoder.layer.1"), ("gpt2", "h.1"), ("marian", "decoder.layers.2")):
        folder = tmp_path / model_type
        saved(folder, model_type, "base")
        config = json.loads((folder / "config.json").read_text())
        name = {"bert": "num_hidden_layers", "gpt2": "n_layer", "marian": "decoder_layers"}[model_type]
        (folder / "config.json").write_text(json.dumps(config | {name: config[name] - 1}))
        with pytest.raises(InteropError, match=f"the weights hold {spare}, but config.json has no such layers"):
            convert(folder)


def test_old_names_of_layer_norms(tmp_path):
    stock = saved(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    assert old.keys() != tensors.keys()
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_converts(tmp_path, stock)


def test_weights_in_the_older_format(tmp_path):
    stock = saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(stock.state_dict(), tmp_path / "pytorch_model.bin")
    assert_converts(tmp_path, stock)


def test_sharded_weights(tmp_path):
    stock = saved(tmp_path, "marian", "seq2seq-lm", max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_converts(tmp_path, stock)


def test_a_bare_encoder_saved_without_a_pooler(tmp_path):
    from transformers import BertModel

    stock = BertModel(stock_model("bert", "base").config, add_pooling_layer=False).eval()
    stock.save_pretrained(tmp_path)
    assert_converts(tmp_path, stock)
    assert convert(str(tmp_path)).pooler is None


def test_a_checkpoint_is_loaded_for_the_task_that_is_asked_for(tmp_path):
    saved(tmp_path, "bert", "masked-lm")
    assert convert(str(tmp_path), head="base").config.pooler is False
    with pytest.raises(InteropError, match=r"lacks 4 weights of a BertForSequenceClassification, for instance"):
        convert(str(tmp_path), head="sequence-classification")
    with pytest.raises(InteropError, match="--head causal-lm: a bert has the heads base, masked-lm"):
        convert(str(tmp_path), head="causal-lm")


def test_a_pretraining_checkpoint_keeps_its_language_model(tmp_path):
    from transformers import BertForMaskedLM, BertForPreTraining

    stock = BertForPreTraining(stock_model("bert", "masked-lm").config).eval()
    stock.save_pretrained(tmp_path)
    assert_converts(tmp_path, BertForMaskedLM.from_pretrained(tmp_path).eval())


def test_without_architectures_the_bare_model_is_meant(tmp_path):
    stock = saved(tmp_path, "gpt2", "base")
    config = json.loads((tmp_path / "config.json").read_text())
    del config["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_converts(tmp_path, stock)
