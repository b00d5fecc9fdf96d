"""`generate` by CTranslate2 comes to the tokens of the model's own."""

import sys

import pytest
import torch
from tiny import DECODERS, PAD, SEQ2SEQ, tiny_model

import vanilla_transformers as vt
from vanilla_transformers.interop.checks import InteropError
from vanilla_transformers.interop.ctranslate2_search import generate_with_ctranslate2

TEXTS = ["w5 w6 w7 w8", "w9 w11 w13 w17 w30 w40 w50", "w66", "w20 w21"]
SETTINGS = [
    {"max_length": 12},
    {"max_new_tokens": 5},
    {"max_length": 12, "num_beams": 4, "early_stopping": True},
    {"max_length": 9, "num_beams": 3, "early_stopping": True, "num_return_sequences": 2, "length_penalty": 0.6},
    {"max_length": 12, "bad_words_ids": [[9], [11, 12]], "suppress_tokens": [13, 14]},
    {"max_length": 12, "forced_bos_token_id": 17, "num_beams": 2, "early_stopping": True},
    {"max_length": 12, "min_length": 8, "num_beams": 2, "early_stopping": True},
    {"max_length": 12, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3},
]


@pytest.fixture
def model():
    return tiny_model(SEQ2SEQ[1], encoder_layers=2, decoder_layers=2, decoder_start_token_id=2).eval()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_tokens_are_those_of_generate(settings, model, tokenizer):
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)
    # CTranslate2 never gives padding, and neither do models that recipes save.
    settings = {"bad_words_ids": []} | settings
    settings["bad_words_ids"] = [[PAD], *settings["bad_words_ids"]]
    expected = model.generate(**inputs, **settings)
    found = generate_with_ctranslate2(model, tokenizer, "float32").generate(**inputs, **settings)
    assert found.tolist() == expected.tolist()


def test_torch_keeps_its_threads(model, tokenizer):
    before = torch.get_num_threads()
    generate_with_ctranslate2(model, tokenizer).generate(torch.tensor([[5, 6, 7]]), max_length=9)
    assert torch.get_num_threads() == before


def test_a_pipeline_with_eight_bits(model, tokenizer):
    model.generation_config.update(max_length=12, bad_words_ids=[[PAD]])
    plain = vt.pipeline("translation", model, tokenizer)(TEXTS, num_beams=2, return_scores=True)
    found = vt.pipeline("translation", model, tokenizer, dtype="int8")(TEXTS, num_beams=2, return_scores=True)
    assert [record.keys() for record in found] == [record.keys() for record in plain]
    scores = [torch.tensor([record["score"] for record in records]) for records in (found, plain)]
    torch.testing.assert_close(*scores, rtol=0, atol=0.5)


@pytest.mark.parametrize(
    ("settings", "name"), [({"do_sample": True}, "do_sample"), ({"logits_processor": [len]}, "logits_processor")]
)
def test_settings_without_equal_are_named(settings, name, model, tokenizer):
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)
    with pytest.raises(ValueError, match=f"{name}: CTranslate2 has no such setting"):
        generate_with_ctranslate2(model, tokenizer).generate(**inputs, **settings)


def test_what_it_is_not_for(tokenizer, monkeypatch, model):
    with pytest.raises(InteropError, match="int8 is for encoder-decoders"):
        generate_with_ctranslate2(tiny_model(DECODERS[1]), tokenizer)
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(InteropError, match="is not installed: pip install"):
        generate_with_ctranslate2(model, tokenizer)
