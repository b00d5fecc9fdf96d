"""Our own models, as their papers have them and otherwise, exported to stock classes, or refused by property."""

import json
import os
import subprocess
import sys

import pytest
import torch
from stock_zoo import randomize

import vanilla_transformers as vanilla
from vanilla_transformers import convert, interop
from vanilla_transformers.interop import InteropError, compare

SMALL = dict(
    vocab_size=37,
    hidden_size=24,
    num_attention_heads=3,
    intermediate_size=36,
    num_hidden_layers=2,
    max_position_embeddings=40,
    pad_token_id=0,
    bos_token_id=2,
    eos_token_id=3,
)
ENCODER = SMALL | dict(type_vocab_size=0)
SEQ2SEQ = vanilla.VanillaSeq2SeqForConditionalGeneration
MASKED_LM = vanilla.VanillaEncoderForMaskedLM
CLASSIFIER = vanilla.VanillaEncoderForSequenceClassification
CAUSAL_LM = vanilla.VanillaDecoderForCausalLM


def our_model(model_class, **fields):
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**SMALL | fields))
    randomize(model)
    return model.eval()


@pytest.mark.parametrize(
    ("model_class", "fields", "target"),
    [
        (SEQ2SEQ, {}, "marian"),
        (SEQ2SEQ, {"decoder_layers": 3, "lm_head_bias": True, "tie_word_embeddings": False}, "marian"),
        (SEQ2SEQ, {"share_encoder_decoder_embeddings": False, "source_vocab_size": 29}, "marian"),
        (SEQ2SEQ, {"hidden_size": 27, "sinusoidal_layout": "interleaved"}, "marian"),
        (vanilla.VanillaSeq2SeqModel, {}, "marian"),
        (SEQ2SEQ, {"position_embedding_type": "learned", "embedding_norm": True}, "bart"),
        (SEQ2SEQ, {"embedding_norm": True, "scale_embeddings": False}, "bart"),
        (SEQ2SEQ, {"embedding_norm": True, "position_embedding_type": "none"}, "bart"),
        (SEQ2SEQ, {"embedding_norm": True, "norm_position": "pre", "position_embedding_type": "learned"}, "mbart"),
        (MASKED_LM, {}, "bert"),
        (MASKED_LM, {"type_vocab_size": 0, "position_offset": 3}, "bert"),
        (MASKED_LM, {"position_embedding_type": "sinusoidal", "scale_embeddings": False}, "bert"),
        (MASKED_LM, {"position_embedding_type": "none"}, "bert"),
        (MASKED_LM, {}, "roberta"),
        (CLASSIFIER, {}, "bert"),
        (CLASSIFIER, {"pooler_act": "relu", "type_vocab_size": 0}, "distilbert"),
        (vanilla.VanillaEncoderModel, {"pooler": False}, "bert"),
        (CAUSAL_LM, {}, "gpt2"),
        (CAUSAL_LM, {"position_embedding_type": "sinusoidal", "scale_embeddings": False}, "gpt2"),
        (CAUSAL_LM, {"hidden_act": "gelu"}, "gpt2"),
        (CAUSAL_LM, {"norm_position": "post", "hidden_act": "relu"}, "opt"),
        (vanilla.VanillaDecoderForTokenClassification, {}, "gpt2"),
    ],
    ids=str,
)
def test_what_a_target_can_express_arrives_there(model_class, fields, target):
    model = our_model(model_class, **fields)
    stock = convert(model, to=target)
    assert type(stock).__module__.startswith("transformers.models.")
    checks = compare(model, stock)
    assert not [check for check in checks if not check.passed]


def test_an_interleaved_marian_comes_back_as_it_was():
    model = our_model(SEQ2SEQ)
    assert model.config.sinusoidal_layout == "interleaved"
    back = convert(convert(model, to="marian"))
    assert back.config.sinusoidal_layout == "interleaved"
    weights = back.state_dict()
    assert [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, weights[name])] == []


def test_a_bias_that_is_zero_is_no_obstacle():
    model = our_model(CAUSAL_LM, lm_head_bias=True)
    with pytest.raises(InteropError, match=r"lm_head\.bias is not 0 everywhere"):
        convert(model, to="gpt2")
    with torch.no_grad():
        model.lm_head.bias.zero_()
    assert not [check for check in compare(model, convert(model, to="gpt2")) if not check.passed]


@pytest.mark.parametrize(
    ("model_class", "fields", "target", "message"),
    [
        (SEQ2SEQ, {"norm_position": "pre"}, "marian", "norm_position is 'pre', but a marian has 'post'"),
        (SEQ2SEQ, {"embedding_norm": True}, "marian", "embedding_norm is True, but a marian has False"),
        (SEQ2SEQ, {"layer_norm_eps": 1e-6}, "marian", "layer_norm_eps is 1e-06, but 1e-05 is fixed"),
        (SEQ2SEQ, {"type_vocab_size": 2}, "marian", "type_vocab_size is 2"),
        (SEQ2SEQ, {"position_embedding_type": "learned"}, "marian", "position_embedding_type is 'learned'"),
        (SEQ2SEQ, {"position_offset": 1}, "marian", "position_offset is 1"),
        (SEQ2SEQ, {"pad_token_id": None}, "marian", "pad_token_id is None"),
        (SEQ2SEQ, {"decoder_start_token_id": None}, "marian", "decoder_start_token_id is None, but a marian needs one"),
        (SEQ2SEQ, {}, "bart", "embedding_norm is False, but a bart has True"),
        (SEQ2SEQ, {}, "bert", "a VanillaSeq2SeqForConditionalGeneration cannot become a bert"),
        (SEQ2SEQ, {}, "t5", "model_type is 't5', which cannot be converted; supported are bert"),
        (CLASSIFIER, {"classifier_pooling": "mean"}, "bert", "classifier_pooling is 'mean', but a bert has 'cls'"),
        (CLASSIFIER, {"pooler": False}, "bert", "pooler is False, but a bert has True"),
        (CLASSIFIER, {"pooler_act": "relu"}, "bert", "pooler_act is 'relu', but a bert has 'tanh'"),
        (vanilla.VanillaEncoderModel, {"classifier_pooling": "mean"}, "bert", "classifier_pooling is 'mean', but a"),
        (MASKED_LM, {"norm_position": "pre"}, "bert", "norm_position is 'pre'"),
        (MASKED_LM, {"hidden_act": "relu"}, "roberta", "lm_head_act is 'relu', but a roberta has 'gelu'"),
        (MASKED_LM, {"lm_head_act": "relu"}, "bert", "lm_head_act is 'relu'"),
        (MASKED_LM, {}, "distilbert", "type_vocab_size is 2"),
        (CAUSAL_LM, {"norm_position": "post"}, "gpt2", "norm_position is 'post', but a gpt2 has 'pre'"),
        (CAUSAL_LM, {"scale_embeddings": True}, "gpt2", "scale_embeddings is True"),
        (CAUSAL_LM, {"layer_norm_eps": 1e-6}, "opt", "layer_norm_eps is 1e-06"),
    ],
    ids=str,
)
def test_what_a_target_cannot_express_is_refused_by_name(model_class, fields, target, message):
    with pytest.raises(InteropError, match=message.replace("(", r"\(")):
        convert(our_model(model_class, **fields), to=target)


def test_one_of_our_folders_becomes_stock(tmp_path):
    model = our_model(SEQ2SEQ)
    model.save_pretrained(tmp_path)
    assert not [check for check in compare(model, convert(tmp_path, to="marian")) if not check.passed]
    with pytest.raises(InteropError, match="the model is already a vanilla_seq2seq: name the stock model type"):
        convert(tmp_path)
    with pytest.raises(InteropError, match="head 'base': only for stock checkpoints, but this is a vanilla_seq2seq"):
        convert(tmp_path, to="marian", head="base")


def test_what_an_export_leaves_out_is_told():
    model = our_model(SEQ2SEQ, label_smoothing=0.1)
    marian = interop.ARCHITECTURES["marian"]
    smoothing, length, start = marian.notes_out(model.config, convert(model, to="marian"))
    assert smoothing == "label_smoothing=0.1 is left out: it acts in training only"
    assert length == "the exported model reads at most max_position_embeddings=40 tokens; ours has no limit"
    assert start.startswith("CTranslate2's own converter for Marian takes a zero vector")
    fields = dict(sinusoidal_layout="halves", sinusoidal_frequency="tensor2tensor", position_offset=1)
    apart = our_model(SEQ2SEQ, share_encoder_decoder_embeddings=False, source_vocab_size=29, **fields)
    (tie,) = interop.ARCHITECTURES["fsmt"].notes_out(apart.config, convert(apart, to="fsmt"))
    assert tie == "tie_word_embeddings becomes False: a fsmt ties all three embedding tables or none"
    gpt2 = our_model(CAUSAL_LM)
    assert interop.ARCHITECTURES["gpt2"].notes_out(gpt2.config, convert(gpt2, to="gpt2")) == []


def test_ctranslate2_converts_our_bart(tmp_path):
    import ctranslate2

    from vanilla_recipes.data.tokenizers import train_translation_tokenizer

    tokenizer = train_translation_tokenizer(["the dog bites the man ."] * 3, 300, 32)
    fields = {"embedding_norm": True, "position_embedding_type": "learned", "scale_embeddings": False}
    model = our_model(SEQ2SEQ, vocab_size=len(tokenizer), **fields)
    stock = convert(model, to="bart")
    stock.save_pretrained(tmp_path / "bart")
    tokenizer.save_pretrained(tmp_path / "bart")
    converter = ctranslate2.converters.TransformersConverter(str(tmp_path / "bart"))
    translator = ctranslate2.Translator(converter.convert(str(tmp_path / "ct2")))
    source = tokenizer.convert_ids_to_tokens(tokenizer("the dog bites")["input_ids"])
    start = tokenizer.convert_ids_to_tokens([stock.config.decoder_start_token_id])
    found = translator.translate_batch([source], beam_size=4, max_decoding_length=8)
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(source)])
    expected = stock.generate(ids, max_new_tokens=8, max_length=None, num_beams=4, early_stopping=True)[0].tolist()
    words = [word for word in tokenizer.convert_ids_to_tokens(expected) if word not in (*start, tokenizer.eos_token)]
    assert found[0].hypotheses[0] == words


def test_exported_folders_load_without_the_package(tmp_path):
    script = (
        "import json, sys, torch, transformers\n"
        "sys.modules['vanilla_transformers'] = None\n"
        "found = {}\n"
        "for name, auto in json.loads(sys.argv[1]).items():\n"
        "    model = getattr(transformers, auto).from_pretrained(name, trust_remote_code=False).eval()\n"
        "    ids = torch.arange(5, 13)[None]\n"
        "    extra = {'decoder_input_ids': ids} if model.config.is_encoder_decoder else {}\n"
        "    found[name] = model(input_ids=ids, **extra).logits.tolist()\n"
        "print(json.dumps(found))\n"
    )
    cases = {
        "marian": ("AutoModelForSeq2SeqLM", our_model(SEQ2SEQ)),
        "bert": ("AutoModelForMaskedLM", our_model(MASKED_LM)),
        "gpt2": ("AutoModelForCausalLM", our_model(CAUSAL_LM)),
    }
    for target, (_, model) in cases.items():
        convert(model, to=target).save_pretrained(tmp_path / target)
        assert not list((tmp_path / target).glob("*.py"))
    folders = {str(tmp_path / target): auto for target, (auto, _) in cases.items()}
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(folders)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    ids = torch.arange(5, 13)[None]
    for target, (_, model) in cases.items():
        extra = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
        expected = model(input_ids=ids, **extra).logits
        torch.testing.assert_close(torch.tensor(found[str(tmp_path / target)]), expected, rtol=1e-5, atol=1e-5)
