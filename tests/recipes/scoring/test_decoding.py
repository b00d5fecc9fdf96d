"""Translating a model whose tokenizer or positions set a limit, or none."""

import logging

import pytest
import torch
from transformers import MarianConfig, MarianMTModel

from vanilla_recipes.data.tokenizers import train_translation_tokenizer
from vanilla_recipes.errors import UserError
from vanilla_recipes.scoring.decoding import translate
from vanilla_transformers import VanillaSeq2SeqConfig, VanillaSeq2SeqForConditionalGeneration

SENTENCES = ["the dog bites the man .", "the man bites the dog ."]
LONG = "the dog " * 60
CUT = "cut to the {} tokens that the model reads: 1 of 2 sentences, the longest with 122 tokens"
SIZES = {"encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 16}


@pytest.fixture
def tokenizer():
    return train_translation_tokenizer(SENTENCES * 3, vocab_size=400, max_length=32)


def vanilla(tokenizer, positions):
    """A random model that never ends a sentence of its own accord."""
    torch.manual_seed(0)
    config = VanillaSeq2SeqConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        position_embedding_type=positions,
        eos_token_id=None,
        **SIZES,
    )
    model = VanillaSeq2SeqForConditionalGeneration(config).eval()
    model.generation_config.max_length = 1000
    return model


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.name.endswith("pipelines")]


@pytest.mark.parametrize("tokenizer_limit", [32, 10**30])
def test_learned_positions_limit_source_and_output(tokenizer, tokenizer_limit, caplog):
    tokenizer.model_max_length = tokenizer_limit
    with caplog.at_level(logging.WARNING):
        assert all(translate(vanilla(tokenizer, "learned"), tokenizer, [LONG, "the dog"]))
    assert warnings(caplog) == [CUT.format(16)]


def test_the_tokenizer_limits_the_source(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        translate(vanilla(tokenizer, "sinusoidal"), tokenizer, [LONG, "the dog"])
    assert warnings(caplog) == [CUT.format(32)]


def test_without_any_limit_nothing_is_cut(tokenizer, caplog):
    tokenizer.model_max_length = 10**30
    with caplog.at_level(logging.WARNING):
        assert all(translate(vanilla(tokenizer, "sinusoidal"), tokenizer, [LONG]))
    assert warnings(caplog) == []


def test_marian(tokenizer, caplog):
    config = MarianConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        pad_token_id=0,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
        **SIZES | {"max_position_embeddings": 64},
    )
    model = MarianMTModel(config).eval()
    model.generation_config.max_length = 64
    with caplog.at_level(logging.WARNING):
        translate(model, tokenizer, [LONG, "the dog"])
    assert warnings(caplog) == [CUT.format(32)]


def test_one_translation_a_sentence_whatever_the_model_was_saved_to_return(tokenizer):
    model = vanilla(tokenizer, "sinusoidal")
    model.generation_config.update(num_beams=2, num_return_sequences=2, return_dict_in_generate=True)
    assert len(translate(model, tokenizer, SENTENCES)) == 2


@pytest.mark.parametrize(("limits", "length"), [({}, 24), ({"max_new_tokens": 9}, 10), ({"max_new_tokens": 99}, 24)])
def test_the_model_limits_the_translation(tokenizer, limits, length, monkeypatch):
    model = vanilla(tokenizer, "sinusoidal")
    model.generation_config.update(**limits)
    outputs = []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **settings: outputs.append(generate(**settings)) or outputs[-1])
    assert len(tokenizer("dog")["input_ids"]) == 2
    translate(model, tokenizer, ["dog"])
    assert outputs[0].shape[1] == length


@pytest.mark.parametrize("error", [TypeError("'<' not\nsupported"), RuntimeError("no probability"), OverflowError()])
def test_whatever_generate_stumbles_over_names_the_model(tokenizer, error, monkeypatch):
    model = vanilla(tokenizer, "sinusoidal")
    monkeypatch.setattr(model, "generate", lambda **settings: raise_(error))
    with pytest.raises(UserError, match=r"^VanillaSeq2SeqForConditionalGeneration: the model cannot translate: .*;"):
        translate(model, tokenizer, SENTENCES)


def test_a_sentence_that_is_not_utf8(tokenizer):
    sentence = b"the \xff dog".decode(errors="surrogateescape")  # as Python reads the arguments of a command
    with pytest.raises(UserError, match=r"^sentence 2, 'the \\udcff dog': it is not UTF-8; convert it first"):
        translate(vanilla(tokenizer, "sinusoidal"), tokenizer, ["the dog", sentence])


def test_out_of_memory(tokenizer, monkeypatch):
    model = vanilla(tokenizer, "sinusoidal")
    monkeypatch.setattr(model, "generate", lambda **settings: raise_(torch.OutOfMemoryError("tried to\nallocate")))
    with pytest.raises(UserError, match=r"^out of memory: tried to allocate; lower the batch tokens or the beams$"):
        translate(model, tokenizer, SENTENCES)


def raise_(error):
    raise error


def test_generation_settings_that_do_not_work_name_the_model(tokenizer):
    model = vanilla(tokenizer, "sinusoidal")
    model.generation_config.num_beams = 0
    message = "^VanillaSeq2SeqForConditionalGeneration: the model cannot translate: .*generation_config.json"
    with pytest.raises(UserError, match=message):
        translate(model, tokenizer, SENTENCES)
