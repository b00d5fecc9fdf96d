"""What is wrong stops early with one clear line; what is merely unusual gives no NaN."""

import copy
import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny import (
    DECODERS,
    ENCODERS,
    HEADS,
    LM_HEADS,
    MODELS,
    PAD,
    SEQ2SEQ,
    SEQUENCE_HEADS,
    TOKEN_HEADS,
    VOCAB_SIZE,
    first_output,
    is_seq2seq,
    name_of,
    random_ids,
    tiny_config,
    tiny_inputs,
    tiny_labels,
    tiny_model,
)
from transformers import AutoConfig, AutoModel, DynamicCache, EncoderDecoderCache

from vanilla_transformers.model.caches import CACHE

BASES = (SEQ2SEQ[0], ENCODERS[0], DECODERS[0])
every_base = pytest.mark.parametrize("model_class", BASES, ids=name_of)
every_lm_head = pytest.mark.parametrize("model_class", LM_HEADS, ids=name_of)
GENERATORS = pytest.mark.parametrize("model_class", [SEQ2SEQ[1], DECODERS[1]], ids=name_of)


def message(error) -> str:
    """The texts of an error and of what caused it: strict configurations wrap what a check raised."""
    return f"{error.value} {error.value.__cause__}"


def long_inputs(model_class, length: int) -> dict[str, torch.Tensor]:
    inputs = {"input_ids": random_ids(1, length)}
    if is_seq2seq(model_class):
        inputs["decoder_input_ids"] = random_ids(1, 3)
    return inputs


@pytest.mark.parametrize(
    ("knobs", "text"),
    [
        ({"hidden_size": 30}, "hidden_size is 30, which num_attention_heads 4 does not divide: choose a multiple"),
        ({"hidden_act": "gelu_pytorch_tan"}, "'gelu_pytorch_tan' is unknown: did you mean 'gelu_pytorch_tanh'?"),
        ({"hidden_act": "zzz"}, "'zzz' is unknown: choose one of gelu"),
        ({"pooler_act": "than"}, "pooler_act 'than' is unknown: did you mean 'tanh'?"),
        ({"lm_head_act": "zzz"}, "lm_head_act 'zzz' is unknown: choose one of gelu"),
        (
            {"sinusoidal_frequency": "tensor2tensor", "hidden_size": 33, "num_attention_heads": 3},
            "hidden_size is 33, but sinusoidal_frequency 'tensor2tensor' needs an even number",
        ),
        ({"hidden_size": 0}, "hidden_size is 0, but must be at least 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0, but must be at least 1"),
        ({"position_offset": -1}, "position_offset is -1, but must be at least 0"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob is 1.5, but must lie in"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1, but must lie in"),
        ({"norm_position": "middle"}, "expected one of ('post', 'pre'), got middle"),
        ({"hidden_size": "32"}, "hidden_size"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
@every_base
def test_configuration_refuses(model_class, knobs, text):
    with pytest.raises(StrictDataclassError) as error:
        tiny_config(model_class, **knobs)
    assert text in message(error)


@every_base
def test_configuration_refuses_heads_set_after_it_was_made(model_class, tmp_path):
    config = tiny_config(model_class)
    config.num_attention_heads = 5
    with pytest.raises(StrictDataclassError) as error:
        model_class(config).save_pretrained(tmp_path)
    assert "num_attention_heads 5 does not divide" in message(error)


@every_base
def test_token_types_that_the_model_lacks(model_class):
    inputs = tiny_inputs(model_class)
    inputs["token_type_ids"] = torch.full_like(inputs["input_ids"], 3)
    with pytest.raises(ValueError, match="token_type_ids range from 3 to 3, but the model has type_vocab_size=2"):
        tiny_model(model_class, type_vocab_size=2)(**inputs)


@every_base
def test_ids_outside_the_vocabulary(model_class):
    text = f"input_ids range from 5 to {VOCAB_SIZE}, but the vocabulary ends at {VOCAB_SIZE - 1}: use the model's own"
    bad_ids = torch.tensor([[5, VOCAB_SIZE, 7]])
    inputs = {"input_ids": bad_ids}
    model = tiny_model(model_class)
    if is_seq2seq(model_class):
        with pytest.raises(ValueError, match=text):
            model(input_ids=torch.tensor([[5, 6]]), decoder_input_ids=bad_ids)
        inputs["decoder_input_ids"] = torch.tensor([[5]])
    with pytest.raises(ValueError, match=text):
        model(**inputs)
    with pytest.raises(ValueError, match="input_ids range from -1 to 7"):
        model(**inputs | {"input_ids": torch.tensor([[-1, 7]])})


@pytest.mark.parametrize("model_class", MODELS, ids=name_of)
def test_neither_or_both_of_ids_and_embeddings(model_class):
    model, inputs = tiny_model(model_class), tiny_inputs(model_class)
    input_ids = inputs.pop("input_ids")
    for given in ({}, {"input_ids": input_ids, "inputs_embeds": torch.zeros(*input_ids.shape, 32)}):
        with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds is needed"):
            model(**inputs, **given)


def test_multiple_choice_without_choices():
    model, inputs = tiny_model(ENCODERS[5]), tiny_inputs(ENCODERS[1])
    text = r"the inputs have the shape \(2, 7\), but one of \(B, choices, T\) is needed: stack the choices of each row"
    with pytest.raises(ValueError, match=text):
        model(**inputs)
    with pytest.raises(ValueError, match=r"the shape \(2, 7, 32\), but one of \(B, choices, T, D\) is needed"):
        model(inputs_embeds=torch.zeros(2, 7, 32))


def test_two_names_of_the_number_of_encoder_layers():
    config_class = SEQ2SEQ[0].config_class
    assert config_class(num_hidden_layers=3).encoder_layers == 3
    assert config_class(num_hidden_layers=3, encoder_layers=3).encoder_layers == 3
    for encoder_layers in (4, 6):  # 6 is the default
        text = f"num_hidden_layers is 3 and encoder_layers {encoder_layers}, but both are names of one number: give one"
        with pytest.raises(ValueError, match=text):
            config_class(num_hidden_layers=3, encoder_layers=encoder_layers)
        with pytest.raises(ValueError, match=text):
            config_class.from_dict({"num_hidden_layers": 3, "encoder_layers": encoder_layers})


def test_either_name_of_the_number_of_encoder_layers_changes_a_saved_one(tmp_path):
    config_class = SEQ2SEQ[0].config_class
    config = config_class(num_hidden_layers=3)
    config.save_pretrained(tmp_path)
    assert config_class.from_dict(config.to_dict()).to_dict() == copy.deepcopy(config).to_dict() == config.to_dict()
    assert AutoConfig.from_pretrained(tmp_path).num_hidden_layers == 3
    for name in ("num_hidden_layers", "encoder_layers"):
        assert AutoConfig.from_pretrained(tmp_path, **{name: 5}).encoder_layers == 5


@pytest.mark.parametrize("name", ["pad_token_id", "decoder_start_token_id"])
def test_seq2seq_labels_without_a_special_id(name):
    model = tiny_model(SEQ2SEQ[1], **{name: None})
    inputs = tiny_inputs(SEQ2SEQ[1])
    labels = tiny_labels(SEQ2SEQ[1], inputs)
    assert torch.isfinite(model(**inputs, **labels).loss)
    del inputs["decoder_input_ids"]
    with pytest.raises(ValueError, match=f"{name} is None, but labels are turned into decoder input with it: set"):
        model(**inputs, **labels)


@pytest.mark.parametrize(
    ("model_class", "pooling"), [(SEQUENCE_HEADS[0], "last"), (SEQUENCE_HEADS[0], "mean"), (SEQUENCE_HEADS[1], "last")]
)
def test_classifying_a_batch_without_a_pad_id(model_class, pooling):
    model = tiny_model(model_class, pad_token_id=None, classifier_pooling=pooling)
    inputs = tiny_inputs(model_class)
    assert torch.isfinite(first_output(model, inputs)).all()
    assert model(inputs["input_ids"][:1]).logits.shape == (1, 3)
    with pytest.raises(ValueError, match="2 sequences without attention_mask, and pad_token_id is None: give the mask"):
        model(inputs["input_ids"])


@every_base
def test_sequence_longer_than_the_learned_positions(model_class):
    model = tiny_model(model_class, position_embedding_type="learned", max_position_embeddings=8)
    assert torch.isfinite(first_output(model, long_inputs(model_class, 8))).all()
    with pytest.raises(ValueError, match="9 positions, but the model learned max_position_embeddings=8: shorten"):
        model(**long_inputs(model_class, 9))


@pytest.mark.parametrize("cache", ["dynamic", "static", None])
@GENERATORS
def test_generating_beyond_the_learned_positions(model_class, cache):
    model = tiny_model(model_class, position_embedding_type="learned", max_position_embeddings=8, eos_token_id=None)
    settings = {"use_cache": cache is not None, "do_sample": False}
    if cache:
        settings["cache_implementation"] = cache
    with pytest.raises(ValueError, match=r"the sequence has 9 positions, but .* max_position_embeddings=8: shorten"):
        model.generate(random_ids(1, 4), max_new_tokens=12, disable_compile=True, **settings)


@pytest.mark.parametrize("kind", ["sinusoidal", "learned"])
@every_base
def test_packed_row_may_be_longer_than_the_positions_of_its_sequences(model_class, kind):
    model = tiny_model(model_class, position_embedding_type=kind, max_position_embeddings=8)
    sequence = long_inputs(model_class, 6)
    packed = {name: ids.repeat(1, 3) for name, ids in sequence.items()}
    for name, prefix in {"input_ids": "", "decoder_input_ids": "decoder_"}.items():
        if name in sequence:
            packed[f"{prefix}position_ids"] = torch.arange(sequence[name].shape[1]).repeat(3)[None]
    output = first_output(model, packed)
    torch.testing.assert_close(output, first_output(model, sequence).repeat(1, 3, 1), rtol=0, atol=1e-5)


@every_base
def test_position_ids_beyond_the_learned_positions(model_class):
    model = tiny_model(model_class, position_embedding_type="learned", max_position_embeddings=8)
    with pytest.raises(ValueError, match=r"the sequence has 10 positions, but .* max_position_embeddings=8: shorten"):
        model(**long_inputs(model_class, 4), position_ids=torch.arange(6, 10)[None], use_cache=False)


@every_base
def test_sinusoids_go_on_beyond_their_table(model_class):
    short = tiny_model(model_class, position_embedding_type="sinusoidal", max_position_embeddings=8)
    long = tiny_model(model_class, position_embedding_type="sinusoidal", max_position_embeddings=64)
    inputs = long_inputs(model_class, 40)
    if is_seq2seq(model_class):
        inputs["decoder_input_ids"] = random_ids(1, 30)
    torch.testing.assert_close(first_output(short, inputs), first_output(long, inputs), rtol=0, atol=1e-6)


@GENERATORS
def test_sinusoids_go_on_beyond_their_table_in_generate(model_class):
    def tokens(max_positions: int, **settings) -> list[int]:
        knobs = {"position_embedding_type": "sinusoidal", "max_position_embeddings": max_positions}
        model = tiny_model(model_class, **knobs, eos_token_id=None)
        return model.generate(random_ids(1, 4), max_new_tokens=20, do_sample=False, **settings).tolist()

    expected = tokens(64, use_cache=False)
    assert tokens(8, use_cache=True) == tokens(8, use_cache=False) == expected
    assert tokens(8, cache_implementation="static", disable_compile=True) == expected


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("knobs", [{}, {"norm_position": "pre"}, {"norm_position": "post"}], ids=str)
@pytest.mark.parametrize("model_class", MODELS, ids=name_of)
def test_fully_padded_row_gives_no_nan(model_class, knobs, implementation):
    model = tiny_model(model_class, attn_implementation=implementation, **knobs).train()
    model.set_attn_implementation(implementation)
    inputs = tiny_inputs(model_class)
    inputs["attention_mask"][1] = 0
    inputs["input_ids"][1] = PAD
    if is_seq2seq(model_class):
        inputs["decoder_attention_mask"] = torch.ones_like(inputs["decoder_input_ids"])
        inputs["decoder_attention_mask"][1] = 0
    output = model(**inputs)[0]
    assert torch.isfinite(output).all()
    output.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    alone = {name: value[:1] for name, value in inputs.items()}
    torch.testing.assert_close(output[:1], model(**alone)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_generating_from_a_fully_padded_source(implementation):
    model = tiny_model(SEQ2SEQ[1])
    model.set_attn_implementation(implementation)
    inputs = tiny_inputs(SEQ2SEQ[0])
    del inputs["decoder_input_ids"]
    inputs["attention_mask"][1] = 0
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    both = model.generate(**inputs, **settings)
    alone = model.generate(**{name: value[:1] for name, value in inputs.items()}, **settings)
    assert torch.equal(both[:1], alone)


def truncate(folder) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def empty(folder) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def break_config(folder) -> None:
    (folder / "config.json").write_text('{"model_type": "vanilla_enc')


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (truncate, "incomplete metadata, file not fully covered"),
        (empty, "header too small"),
        (break_config, "config.json' is not a valid JSON file"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no file named model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
    ],
    ids=["truncated", "empty", "half a config", "no weights", "no config"],
)
def test_damaged_folder(damage, text, tmp_path):
    tiny_model(ENCODERS[0]).save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(Exception, match=text):  # safetensors and transformers raise classes of their own
        AutoModel.from_pretrained(tmp_path)


def test_layer_that_the_weights_lack_is_reported(tmp_path, caplog):
    model = tiny_model(ENCODERS[0])
    model.save_pretrained(tmp_path)
    model.config.num_hidden_layers = 3
    model.config.save_pretrained(tmp_path)
    _, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert "layers.2.self_attn.q_proj.weight" in info["missing_keys"]


@pytest.mark.parametrize("model_class", [*LM_HEADS, *SEQUENCE_HEADS], ids=name_of)
def test_labels_that_are_no_classes(model_class):
    inputs = tiny_inputs(model_class)
    labels = tiny_labels(model_class, inputs)["labels"]
    labels.view(-1)[-1] = VOCAB_SIZE
    with pytest.raises(ValueError, match=f"labels range from .* to {VOCAB_SIZE}, but there are .* classes or tokens"):
        tiny_model(model_class)(**inputs, labels=labels)


@pytest.mark.parametrize("model_class", HEADS, ids=name_of)
def test_labels_of_another_shape(model_class):
    model, inputs = tiny_model(model_class), tiny_inputs(model_class)
    labels = tiny_labels(model_class, inputs)
    assert torch.isfinite(model(**inputs, **{name: label.int() for name, label in labels.items()}).loss)
    for change in (lambda label: label[:1], lambda label: torch.cat((label, label)), lambda label: label[0]):
        with pytest.raises(ValueError, match=r"labels have the shape \(.*\), but the predictions call for \("):
            model(**inputs, **{name: change(label) for name, label in labels.items()})


@pytest.mark.parametrize("model_class", [*LM_HEADS, *TOKEN_HEADS], ids=name_of)
def test_labels_that_would_go_to_other_tokens(model_class):
    model, inputs = tiny_model(model_class), tiny_inputs(model_class)
    labels = tiny_labels(model_class, inputs)["labels"]
    for wrong in (labels.T, labels.flatten(), labels[..., None]):
        with pytest.raises(ValueError, match=r"labels have the shape \(.*\), but the predictions call for \(2, [57]\)"):
            model(**inputs, labels=wrong)
    with pytest.raises(ValueError, match=r"labels are torch.float32, but class or token ids are needed: convert them"):
        model(**inputs, labels=labels.float())


@pytest.mark.parametrize("model_class", SEQUENCE_HEADS, ids=name_of)
def test_labels_of_another_problem(model_class):
    inputs = tiny_inputs(model_class)
    for knobs, labels in (
        ({"num_labels": 1}, torch.zeros(2, 2)),
        ({"problem_type": "regression"}, torch.zeros(2)),
        ({}, torch.zeros(2)),  # several classes a row, by their type
        ({}, torch.zeros(2, 3).long()),  # one class a row, by their type
    ):
        with pytest.raises(ValueError, match=r"labels have the shape \(2.*\), but the predictions call for \(2"):
            tiny_model(model_class, **knobs)(**inputs, labels=labels)


@every_base
def test_inputs_of_another_shape(model_class):
    model, inputs = tiny_model(model_class), tiny_inputs(model_class)
    for ids in (inputs["input_ids"][0], inputs["input_ids"][None]):
        with pytest.raises(ValueError, match=r"input_ids have the shape \(.*\) and are torch.int64, but integers"):
            model(**inputs | {"input_ids": ids})
    with pytest.raises(ValueError, match=r"input_ids have the shape \(2, 7\) and are torch.float32"):
        model(**inputs | {"input_ids": inputs["input_ids"].float()})
    del inputs["input_ids"]
    with pytest.raises(ValueError, match=r"inputs_embeds have the shape \(2, 7, 31\), but \(B, T, 32\) is needed"):
        model(**inputs, inputs_embeds=torch.zeros(2, 7, 31))


@pytest.mark.parametrize(
    ("knobs", "text"),
    [
        (
            {"pad_token_id": VOCAB_SIZE},
            f"pad_token_id is {VOCAB_SIZE}, which is no token of a vocabulary of {VOCAB_SIZE}",
        ),
        ({"pad_token_id": -1}, "pad_token_id is -1, which is no token"),
        ({"layer_norm_eps": -1.0}, "layer_norm_eps is -1.0, but must be greater than 0"),
        ({"initializer_range": 0.0}, "initializer_range is 0.0, but must be greater than 0"),
        ({"layer_norm_eps": math.inf}, "layer_norm_eps is inf, but must be greater than 0 and finite"),
        ({"initializer_range": math.nan}, "initializer_range is nan, but must be greater than 0 and finite"),
        ({"hidden_dropout_prob": math.nan}, "hidden_dropout_prob is nan, but must lie in"),
        ({"problem_type": "guess"}, "problem_type is 'guess', but must be None or one of regression, single_label_"),
    ],
)
def test_values_that_no_model_can_have(knobs, text):
    with pytest.raises(StrictDataclassError) as error:
        tiny_config(SEQ2SEQ[0], **knobs)
    assert text in message(error)


def test_left_padding_takes_no_learned_positions():
    model = tiny_model(DECODERS[1], position_embedding_type="learned", max_position_embeddings=6)
    ids = random_ids(1, 6)
    padded = torch.cat((torch.full((1, 3), PAD), ids), dim=1)
    logits = first_output(model, {"input_ids": padded, "attention_mask": (padded != PAD).long()})
    torch.testing.assert_close(logits[:, 3:], first_output(model, {"input_ids": ids}), rtol=1e-5, atol=1e-5)


def test_a_plain_cache_is_completed_for_cross_attention():
    model = tiny_model(SEQ2SEQ[1])
    inputs = tiny_inputs(SEQ2SEQ[1])
    expected = first_output(model, inputs)
    with torch.no_grad():
        outputs = model(**inputs, **{CACHE: DynamicCache(config=model.config)})
    torch.testing.assert_close(outputs.logits, expected, rtol=1e-5, atol=1e-5)
    assert isinstance(outputs[CACHE], EncoderDecoderCache)


@pytest.mark.parametrize(
    ("knobs", "text"),
    [
        ({"source_vocab_size": 29}, "source_vocab_size is 29, but source and target share a table of vocab_size 67"),
        ({"source_vocab_size": 0, "share_encoder_decoder_embeddings": False}, "source_vocab_size is 0, but must be"),
    ],
    ids=str,
)
def test_tables_that_contradict_each_other(knobs, text):
    with pytest.raises(StrictDataclassError) as error:
        tiny_config(SEQ2SEQ[1], **knobs)
    assert text in message(error)


def test_two_vocabularies():
    model = tiny_model(SEQ2SEQ[1], source_vocab_size=29, share_encoder_decoder_embeddings=False)
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight
    with pytest.raises(ValueError, match="input_ids range from 66 to 66, but the vocabulary ends at 28"):
        model(input_ids=torch.tensor([[66]]), decoder_input_ids=torch.tensor([[66]]))
    with pytest.raises(ValueError, match="share_encoder_decoder_embeddings is False, so there are two vocabularies"):
        model.resize_token_embeddings(50)


def test_an_end_token_that_also_pads_is_learned():
    """As in GPT-2, whose texts end with the token that fills up the shorter ones."""
    model = tiny_model(DECODERS[1], pad_token_id=3)
    assert model.config.eos_token_id == 3
    ids = torch.tensor([[5, 3, 6, 7]])
    model.model(input_ids=ids).last_hidden_state.square().sum().backward()
    assert model.model.embed_tokens.weight.grad[3].abs().max() > 0
    assert model.model.embed_tokens.weight[3].abs().max() > 0
