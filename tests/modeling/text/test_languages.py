"""The languages of multilingual models: what transformers' own tokenizers and models are told."""

import re

import pytest
from tiny_languages import mbart, nllb
from transformers import (
    MBart50Tokenizer,
    MBartTokenizer,
)

from vanilla_transformers.text.languages import language_codes, set_direction
from vanilla_transformers.text.pipelines import Text2TextPipeline


def test_nllb_is_told_both_languages():
    model, tokenizer = nllb()
    assert len(language_codes(tokenizer)) == 202
    translate = Text2TextPipeline("translation", model, tokenizer, max_length=12)
    (found,) = translate("the dog", src_lang="fra_Latn", tgt_lang="deu_Latn")
    tokenizer.src_lang = "fra_Latn"
    inputs = tokenizer("the dog", return_tensors="pt")
    assert inputs["input_ids"][0, 0] == tokenizer.convert_tokens_to_ids("fra_Latn")
    forced = tokenizer.convert_tokens_to_ids("deu_Latn")
    output = model.generate(**inputs, forced_bos_token_id=forced, max_length=12)
    assert output[0, 1] == forced
    assert found["translation_text"] == tokenizer.decode(output[0], skip_special_tokens=True)
    assert found["translation_text"] != translate("the dog", src_lang="fra_Latn", tgt_lang="zho_Hans")


def test_the_score_leaves_the_forced_language_out():
    model, tokenizer = nllb()
    translate = Text2TextPipeline("translation", model, tokenizer, return_scores=True, max_length=12)
    (found,) = translate("the dog", src_lang="fra_Latn", tgt_lang="deu_Latn")
    inputs = tokenizer("the dog", return_tensors="pt")
    output = model.generate(
        **inputs, forced_bos_token_id=tokenizer.convert_tokens_to_ids("deu_Latn"), max_length=12,
        output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    tokens = model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)[0]
    assert tokens[0] == 0
    assert found["score"] == pytest.approx(tokens[1:].mean().item(), abs=1e-5)


def test_mbart_of_many_languages_forces_the_target():
    model, tokenizer = mbart(MBart50Tokenizer, decoder_start_token_id=2)
    direction = set_direction(model, tokenizer, "en_XX", "de_DE")
    assert direction.settings == {"forced_bos_token_id": tokenizer.lang_code_to_id["de_DE"]}
    assert tokenizer("the dog")["input_ids"][0] == tokenizer.lang_code_to_id["en_XX"]


def test_mbart_of_one_pair_begins_with_the_target():
    start = mbart(MBartTokenizer)[1].lang_code_to_id["ro_RO"]
    model, tokenizer = mbart(MBartTokenizer, decoder_start_token_id=start)
    assert set_direction(model, tokenizer, "en_XX", None).settings == {}
    direction = set_direction(model, tokenizer, "en_XX", "de_DE")
    assert direction.settings == {"decoder_start_token_id": tokenizer.lang_code_to_id["de_DE"]}


def test_a_target_that_is_saved_with_the_model_may_be_left_out():
    model, tokenizer = mbart(MBart50Tokenizer, decoder_start_token_id=2)
    model.generation_config.forced_bos_token_id = tokenizer.lang_code_to_id["en_XX"]
    assert set_direction(model, tokenizer, "de_DE", None).settings == {}


def test_a_source_that_is_saved_with_the_tokenizer_may_be_left_out(tmp_path):
    model, tokenizer = mbart(MBart50Tokenizer, decoder_start_token_id=2)
    with pytest.raises(ValueError, match="src_lang is missing"):
        set_direction(model, tokenizer, None, "en_XX")
    tokenizer.save_pretrained(tmp_path)
    set_direction(model, MBart50Tokenizer.from_pretrained(tmp_path, src_lang="de_DE"), None, "en_XX")


def test_the_task_may_name_the_languages():
    model, tokenizer = nllb()
    named = Text2TextPipeline("translation_fra_Latn_to_deu_Latn", model, tokenizer, max_length=12)
    plain = Text2TextPipeline("translation", model, tokenizer, max_length=12)
    assert named("the dog") == plain("the dog", src_lang="fra_Latn", tgt_lang="deu_Latn")
    with pytest.raises(ValueError, match=r"^src_lang='en': the model has no such language; did you mean 'eng_Latn'\?$"):
        Text2TextPipeline("translation_en_to_de", model, tokenizer)("the dog")


@pytest.mark.parametrize(
    ("languages", "text"),
    [
        ({}, "src_lang is missing: the model reads several languages; there are 202 codes, such as ace_Arab, ace_Latn"),
        ({"src_lang": "eng_Latn"}, "tgt_lang is missing: the model writes several languages; there are 202 codes"),
        ({"src_lang": "eng_Latn", "tgt_lang": "german"}, "tgt_lang='german': the model has no such language; "),
        (
            {"src_lang": "eng_Latn", "tgt_lang": "de"},
            "tgt_lang='de': the model has no such language; did you mean 'deu",
        ),
        ({"src_lang": "eng_latn", "tgt_lang": "deu_Latn"}, "did you mean 'eng_Latn'?"),
    ],
)
def test_languages_that_are_missing_or_unknown(languages, text):
    model, tokenizer = nllb()
    with pytest.raises(ValueError, match=re.escape(text)):
        Text2TextPipeline("translation", model, tokenizer, **languages)("the dog")
