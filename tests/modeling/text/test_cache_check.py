"""Classes of other people that lose their cache are found out when they are loaded."""

import copy

import pytest
import torch
from tiny import DECODERS, SEQ2SEQ, random_ids, tiny_model
from transformers import BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel

from vanilla_transformers import pipeline
from vanilla_transformers.text import cache_check
from vanilla_transformers.text.cache_check import with_right_cache

SIZES = {"vocab_size": 67, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 1}


def forgetful(stock_class):
    """A class that takes the cache, under any name, for one keyword argument more."""

    class Forgetful(stock_class):
        def forward(self, *args, **kwargs):
            known = {name: value for name, value in kwargs.items() if name not in ("past_key_values", "cache")}
            return super().forward(*args, **known)

    return Forgetful


def failing(stock_class):
    """A class whose cache ends in an error."""

    class Failing(stock_class):
        def forward(self, *args, **kwargs):
            if kwargs.get("use_cache"):
                raise RuntimeError("no such cache")
            return super().forward(*args, **kwargs)

    return Failing


def decoder(model_class):
    torch.manual_seed(0)
    config = GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.5, **SIZES)
    return model_class(config).eval()


def seq2seq(model_class):
    torch.manual_seed(0)
    sizes = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    sizes |= {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.5}
    config = BartConfig(
        **SIZES, **sizes, max_position_embeddings=64, decoder_start_token_id=2, forced_eos_token_id=None
    )
    return model_class(config).eval()


@pytest.mark.parametrize("change", [forgetful, failing])
@pytest.mark.parametrize(
    ("make", "stock"), [(decoder, GPT2LMHeadModel), (seq2seq, BartForConditionalGeneration)], ids=["decoder", "seq2seq"]
)
def test_a_lost_cache_is_told_and_not_used(make, stock, change, caplog):
    model = with_right_cache(make(change(stock)))
    (told,) = caplog.messages
    assert f"{change.__name__.title()} (test_cache_check) generates other tokens with a cache than without" in told
    assert "the model runs without a cache, correctly but slowly" in told
    ids = random_ids(2, 6)
    settings = {"max_new_tokens": 8, "attention_mask": torch.ones_like(ids), "do_sample": False}
    assert torch.equal(model.generate(ids, **settings), make(stock).generate(ids, **settings))


@pytest.mark.parametrize(
    "settings",
    [{"num_beams": 3, "num_return_sequences": 2}, {"penalty_alpha": 0.6, "top_k": 4}, {"max_time": 0.0}, {"top_k": 3}],
    ids=str,
)
def test_it_is_found_whatever_the_model_generates_with(settings, caplog):
    model = decoder(forgetful(GPT2LMHeadModel))
    model.generation_config.update(**settings)
    own = model.generation_config
    with_right_cache(model)
    assert len([record for record in caplog.records if record.name == cache_check.__name__]) == 1
    assert model.generation_config is own
    assert own.use_cache is False
    assert {name: getattr(own, name) for name in settings} == settings


def test_a_subclass_of_ours_is_asked(caplog):
    model = tiny_model(forgetful(DECODERS[1]), initializer_range=1.0)
    assert with_right_cache(model).generation_config.use_cache is False
    assert len(caplog.messages) == 1


def test_a_model_that_cannot_be_asked_is_told(caplog):
    class Strange(GPT2LMHeadModel):
        def forward(self, *args, **kwargs):
            raise ValueError("pictures are missing")

    with_right_cache(decoder(Strange))
    (told,) = caplog.messages
    assert told == "Strange (test_cache_check): its cache could not be checked (ValueError: pictures are missing)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("make", "stock"), [(decoder, GPT2LMHeadModel), (seq2seq, BartForConditionalGeneration)], ids=["decoder", "seq2seq"]
)
def test_a_right_cache_is_used(make, stock, dtype, caplog):
    model = with_right_cache(make(type("Another", (stock,), {"__module__": "elsewhere"})).to(dtype))
    assert caplog.messages == []
    assert model.generation_config.use_cache is not False


def test_ours_and_stock_models_are_not_asked(monkeypatch):
    monkeypatch.setattr(cache_check, "_continued", lambda *_, **__: pytest.fail("it was asked"))
    models = [decoder(GPT2LMHeadModel), seq2seq(BartForConditionalGeneration)]
    for model in (*models, tiny_model(DECODERS[1]), tiny_model(SEQ2SEQ[1]), tiny_model(SEQ2SEQ[0])):
        assert with_right_cache(model) is model


def test_a_model_is_asked_once(caplog):
    model = decoder(forgetful(GPT2LMHeadModel))
    assert with_right_cache(with_right_cache(model)) is model
    assert len(caplog.messages) == 1


def test_asking_draws_no_random_number():
    torch.manual_seed(3)
    expected = torch.rand(2)
    model = decoder(forgetful(GPT2LMHeadModel))
    torch.manual_seed(3)
    with_right_cache(model)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("task", ["text-generation", "text2text-generation"])
def test_pipelines_ask(task, tokenizer, caplog):
    tokenizer = copy.deepcopy(tokenizer)  # a pipeline changes the side of its padding
    make, stock = (decoder, GPT2LMHeadModel) if task == "text-generation" else (seq2seq, BartForConditionalGeneration)
    answers = [
        pipeline(task, model=make(model_class), tokenizer=tokenizer, device="cpu")(
            "w7 w8 w9", max_new_tokens=6, do_sample=False
        )
        for model_class in (forgetful(stock), stock)
    ]
    assert answers[0] == answers[1]
    (told,) = [record.getMessage() for record in caplog.records if record.name == cache_check.__name__]
    assert told.startswith("Forgetful (test_cache_check) generates other tokens")
