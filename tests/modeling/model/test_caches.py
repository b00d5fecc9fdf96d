"""The cache under both of its names, and under one that nobody knows."""

import inspect
import warnings

import peft
import pytest
import torch
from tiny import DECODERS, ENCODERS, MODELS, SEQ2SEQ, is_seq2seq, name_of, random_ids, tiny_inputs, tiny_model
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    GenerationMixin,
    Trainer,
    TrainingArguments,
)
from transformers.generation import BaseStreamer

from vanilla_transformers.model.caches import CACHE, NAMES
from vanilla_transformers.model.stacks import VanillaDecoderStack

TOLERANCE = dict(rtol=1e-5, atol=1e-5)
CAUSAL, SEQ2SEQ_LM = DECODERS[1], SEQ2SEQ[1]
WITH_CACHE = (*SEQ2SEQ, *DECODERS)
every_with_cache = pytest.mark.parametrize("model_class", WITH_CACHE, ids=name_of)
either_generator = pytest.mark.parametrize("model_class", [SEQ2SEQ_LM, CAUSAL], ids=name_of)
UNKNOWN = "keys_and_values"


def new_cache(model):
    caches = [DynamicCache(config=model.config) for _ in range(1 + model.config.is_encoder_decoder)]
    return EncoderDecoderCache(*caches) if model.config.is_encoder_decoder else caches[0]


def halves(model_class) -> tuple[dict, dict]:
    """The inputs of a step and of the one after it."""
    inputs = tiny_inputs(model_class) | {"use_cache": True}
    if is_seq2seq(model_class):
        ids = inputs["decoder_input_ids"]
        return inputs | {"decoder_input_ids": ids[:, :3]}, inputs | {"decoder_input_ids": ids[:, 3:]}
    ids = inputs["input_ids"]
    first = {"input_ids": ids[:, :3], "attention_mask": inputs["attention_mask"][:, :3], "use_cache": True}
    return first, inputs | {"input_ids": ids[:, 3:]}


def last_row(outputs) -> torch.Tensor:
    values = outputs[0]
    return values[:, -1] if values.ndim == 3 else values


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", NAMES)
@every_with_cache
def test_either_name_is_the_cache(model_class, name):
    model = tiny_model(model_class)
    first, second = halves(model_class)
    expected = last_row(model(**tiny_inputs(model_class) | {"use_cache": False}))
    cache = new_cache(model)
    model(**first, **{name: cache})
    torch.testing.assert_close(last_row(model(**second, **{name: cache})), expected, **TOLERANCE)
    assert cache.get_seq_length() == (7 if not is_seq2seq(model_class) else tiny_length(model_class))


def tiny_length(model_class) -> int:
    return tiny_inputs(model_class)["decoder_input_ids"].shape[1]


@every_with_cache
def test_both_names_at_once_are_refused(model_class):
    model = tiny_model(model_class)
    with pytest.raises(ValueError, match="cache and past_key_values are two names of one argument: give one of them"):
        model(**tiny_inputs(model_class), cache=new_cache(model), past_key_values=new_cache(model))


@pytest.mark.parametrize("model_class", MODELS, ids=name_of)
def test_a_cache_under_another_name_is_refused(model_class):
    """The next change of the name has to be an error."""
    model = tiny_model(model_class)
    with pytest.raises(
        ValueError, match=f"passes the cache as '{UNKNOWN}', but this code .* or generate with use_cach"
    ):
        model(**tiny_inputs(model_class), **{UNKNOWN: DynamicCache(config=model.config)})


def renamed(prepare):
    def prepare_inputs_for_generation(self, *args, **kwargs):
        inputs = prepare(self, *args, **kwargs)
        return inputs | {UNKNOWN: inputs.pop(CACHE)}

    return prepare_inputs_for_generation


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"cache_implementation": "static"}], ids=str)
@either_generator
def test_a_generate_that_renames_the_cache_is_refused(model_class, settings, monkeypatch):
    prepare = GenerationMixin.prepare_inputs_for_generation
    monkeypatch.setattr(GenerationMixin, "prepare_inputs_for_generation", renamed(prepare))
    ours = {"return_dict_in_generate": True}  # by transformers' loops, which call the model
    with pytest.raises(ValueError, match=f"passes the cache as '{UNKNOWN}'"):
        tiny_model(model_class).generate(random_ids(2, 5), max_new_tokens=4, **settings, **ours)


@pytest.mark.parametrize("model_class", MODELS, ids=name_of)
def test_what_is_no_cache_passes(model_class):
    """Such as the pages of continuous batching, which are for the attention function."""
    model = tiny_model(model_class)
    inputs = tiny_inputs(model_class)
    assert torch.equal(model(**inputs, anything=object())[0], model(**inputs)[0])


def test_an_encoder_ignores_a_cache():
    model = tiny_model(ENCODERS[0])
    inputs = tiny_inputs(ENCODERS[0])
    assert torch.equal(model(**inputs, **{CACHE: DynamicCache(config=model.config)})[0], model(**inputs)[0])


class OlderCache(DynamicCache):
    """Somebody's own, with the signature that sufficed before pages."""

    def update(self, key_states, value_states, layer_idx):
        return super().update(key_states, value_states, layer_idx)


@pytest.mark.parametrize("generate", [GenerationMixin.generate, CAUSAL.generate, CAUSAL.generate.__wrapped__])
def test_a_cache_of_ones_own_is_filled_whoever_is_asked(generate):
    model = tiny_model(CAUSAL)
    for cache in (DynamicCache(config=model.config), OlderCache(config=model.config)):
        generate(model, random_ids(2, 5), max_new_tokens=4, eos_token_id=None, pad_token_id=1, **{CACHE: cache})
        assert cache.get_seq_length() == 5 + 3


@every_with_cache
def test_the_signature_has_the_name_that_transformers_uses(model_class):
    parameters = inspect.signature(model_class.forward).parameters
    assert [name for name in parameters if name in NAMES] == [CACHE]
    assert [name for name in inspect.signature(VanillaDecoderStack.forward).parameters if name in NAMES] == [CACHE]


@either_generator
def test_the_old_name_is_told_where_there_is_a_new_one(model_class):
    model = tiny_model(model_class)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model(**tiny_inputs(model_class), past_key_values=new_cache(model))
        told = [str(each.message) for each in caught if each.category is FutureWarning]
        assert told == (["`past_key_values` is deprecated: use `cache`"] if CACHE == "cache" else [])


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_beams": 3}, {"do_sample": True}, {"cache_implementation": "static"}, {"prompt_lookup_num_tokens": 2}],
    ids=str,
)
@either_generator
def test_nothing_of_ours_warns(model_class, settings):
    model = tiny_model(model_class)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        warnings.simplefilter("error", DeprecationWarning)
        model.generate(random_ids(1, 5), max_new_tokens=4, **settings)
        model(**tiny_inputs(model_class))


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"return_dict_in_generate": True}], ids=str)
@either_generator
def test_with_a_cache_as_without(model_class, settings):
    """In evaluation and in training mode, by our searches and by transformers' loops."""
    model = tiny_model(model_class, initializer_range=1.0)
    for is_training in (False, True):
        found = []
        for use_cache in (True, False):
            tokens = model.train(is_training).generate(
                random_ids(5, 6), max_new_tokens=12, use_cache=use_cache, **settings
            )
            found.append(tokens["sequences"] if "return_dict_in_generate" in settings else tokens)
        assert torch.equal(*found)


@pytest.mark.parametrize("use_reentrant", [False, True])
@either_generator
def test_a_checkpointed_layer_leaves_the_cache_empty(model_class, use_reentrant):
    """It is computed twice, and would add its keys twice."""
    model = tiny_model(model_class).train()
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    cache = new_cache(model)
    model(**tiny_inputs(model_class), **{CACHE: cache})
    assert cache.get_seq_length() == 0


def test_predictions_of_a_trainer_hold_no_cache(tmp_path):
    model = tiny_model(CAUSAL)
    rows = [{"input_ids": ids, "labels": ids} for ids in random_ids(4, 6)]
    arguments = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    predicted = Trainer(model, arguments).predict(rows)
    assert predicted.predictions.shape == (4, 6, model.config.vocab_size)
    ids = random_ids(4, 6)
    assert predicted.metrics["test_loss"] == pytest.approx(float(model(ids, labels=ids).loss), rel=1e-5)


@either_generator
def test_an_assistant_changes_no_token(model_class):
    model, assistant = (tiny_model(model_class, initializer_range=width) for width in (1.0, 0.5))
    prompt = random_ids(1, 6)
    expected = model.generate(prompt, max_new_tokens=12)
    assert torch.equal(model.generate(prompt, max_new_tokens=12, assistant_model=assistant), expected)


class Kept(BaseStreamer):
    """Keeps what is streamed to it: the prompt, then token by token."""

    def __init__(self):
        self.tokens = []

    def put(self, value):
        self.tokens += value.flatten().tolist()

    def end(self):
        self.tokens.append("end")


@either_generator
def test_what_is_streamed_is_what_is_found(model_class):
    model, streamer = tiny_model(model_class, initializer_range=1.0), Kept()
    found = model.generate(random_ids(1, 6), max_new_tokens=12, streamer=streamer)
    assert streamer.tokens == [*found[0].tolist(), "end"]
    assert torch.equal(found, model.generate(random_ids(1, 6), max_new_tokens=12))


def test_a_conversation_goes_on_with_its_cache():
    model = tiny_model(CAUSAL, initializer_range=1.0)
    cache = DynamicCache(config=model.config)
    settings = GenerationConfig(max_new_tokens=5, eos_token_id=None, pad_token_id=1)
    first = model.generate(random_ids(1, 6), generation_config=settings, **{CACHE: cache})
    more = torch.cat((first, random_ids(1, 3, seed=5)), dim=1)
    with_cache = model.generate(more, generation_config=settings, **{CACHE: cache})
    assert torch.equal(with_cache, model.generate(more, generation_config=settings))


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["PrefixTuningConfig", "PromptTuningConfig", "PromptEncoderConfig"])
@either_generator
def test_prompts_that_peft_has_learned(model_class, kind):
    """PEFT 0.21 knows the cache as `past_key_values` alone. A loop of forward passes without a cache is right."""
    sizes = {"num_virtual_tokens": 4, "token_dim": 32, "num_attention_heads": 4, "num_layers": 2}
    sizes |= {"encoder_hidden_size": 16} if kind == "PromptEncoderConfig" else {}
    task = "SEQ_2_SEQ_LM" if is_seq2seq(model_class) else "CAUSAL_LM"
    base = tiny_model(model_class, initializer_range=1.0, norm_position="pre", tie_word_embeddings=False)
    model = peft.get_peft_model(base, getattr(peft, kind)(task_type=task, **sizes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "prompt_encoder" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(3))
    ids = random_ids(3, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # nobody but us has named the cache by its old name
        found = model.generate(input_ids=ids, max_new_tokens=6, eos_token_id=None, pad_token_id=1)
    assert torch.equal(found, tokens_one_by_one(model, ids, 6))
    assert len(found[:, -6:].unique()) > 4


@torch.no_grad()
def tokens_one_by_one(model, ids: torch.Tensor, number: int) -> torch.Tensor:
    is_encoder_decoder = model.config.is_encoder_decoder
    start = torch.full((len(ids), 1), model.config.decoder_start_token_id) if is_encoder_decoder else ids
    for _ in range(number):
        inputs = {"input_ids": ids, "decoder_input_ids": start} if is_encoder_decoder else {"input_ids": start}
        start = torch.cat((start, model(**inputs).logits[:, -1:].argmax(-1)), dim=1)
    return start
