"""What was saved loads with the package through every Auto class of its family, and is what it was."""

import json
import warnings

import pytest
import torch
import transformers
from safetensors import safe_open
from tiny import (
    DECODERS,
    ENCODERS,
    LM_HEADS,
    MODELS,
    SEQ2SEQ,
    VOCAB_SIZE,
    first_output,
    is_seq2seq,
    name_of,
    tiny_inputs,
    tiny_model,
)
from transformers import AutoConfig, AutoModel, AutoTokenizer, GenerationConfig

every_model = pytest.mark.parametrize("model_class", MODELS, ids=name_of)
every_lm_head = pytest.mark.parametrize("model_class", LM_HEADS, ids=name_of)
tied_or_not = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])


def auto_classes(model_class) -> dict:
    """Each Auto class of the family, and the class that it must load."""
    family = next(classes for classes in (SEQ2SEQ, ENCODERS, DECODERS) if model_class in classes)
    by_name = {loaded.__name__: loaded for loaded in family}
    auto_map = model_class.config_class.family_auto_map
    pairs = {
        getattr(transformers, name): by_name[path.split(".")[1]]
        for name, path in auto_map.items()
        if name != "AutoConfig"
    }
    assert set(pairs.values()) == set(family)
    return pairs


def base_of(model):
    return getattr(model, model.base_model_prefix, model)


def report(loading_info: dict) -> dict:
    return {name: keys for name, keys in loading_info.items() if keys}


@every_model
def test_same_class_gives_identical_outputs_and_misses_nothing(model_class, saved_models):
    folder = saved_models[name_of(model_class)]
    loaded, info = model_class.from_pretrained(folder, output_loading_info=True)
    assert report(info) == {}
    inputs = tiny_inputs(model_class)
    assert torch.equal(first_output(loaded, inputs), first_output(tiny_model(model_class), inputs))


@every_model
def test_every_auto_class_of_the_family_loads_every_folder(model_class, saved_models):
    folder = saved_models[name_of(model_class)]
    assert type(AutoConfig.from_pretrained(folder)) is model_class.config_class
    inputs = tiny_inputs(ENCODERS[0]) | ({"decoder_input_ids": tiny_inputs(ENCODERS[0])["input_ids"]})
    if not is_seq2seq(model_class):
        del inputs["decoder_input_ids"]
    expected = first_output(base_of(tiny_model(model_class)), inputs)
    for auto_class, loaded_class in auto_classes(model_class).items():
        model = auto_class.from_pretrained(folder)
        assert type(model) is loaded_class
        assert torch.equal(first_output(base_of(model), inputs), expected), auto_class


@every_model
def test_folder_is_complete(model_class, saved_models):
    folder = saved_models[name_of(model_class)]
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"] == model_class.config_class.family_auto_map
    assert config["architectures"] == [model_class.__name__]
    for path in config["auto_map"].values():
        assert (folder / f"{path.split('.')[0]}.py").is_file()
    ids = AutoTokenizer.from_pretrained(folder)("w7 w8 w99")["input_ids"]
    assert ids == [2, 7, 8, 0, 3]


def test_three_way_tie_is_one_stored_matrix_and_one_parameter_again(saved_models):
    folder = saved_models["Seq2SeqForConditionalGeneration"]
    with safe_open(folder / "model.safetensors", "pt") as file:
        tables = [name for name in file.keys() if file.get_slice(name).get_shape() == [VOCAB_SIZE, 32]]  # noqa: SIM118
    assert len(tables) == 1
    model = SEQ2SEQ[1].from_pretrained(folder)
    source, target = model.model.encoder.embed_tokens.weight, model.model.decoder.embed_tokens.weight
    assert source is target is model.lm_head.weight


@every_lm_head
def test_untied_tables_stay_apart(model_class, tmp_path):
    model = tiny_model(model_class, tie_word_embeddings=False, lm_head_bias=True)
    model.save_pretrained(tmp_path)
    loaded, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert report(info) == {}
    assert loaded.lm_head.weight is not loaded.get_input_embeddings().weight
    inputs = tiny_inputs(model_class)
    assert torch.equal(first_output(loaded, inputs), first_output(model, inputs))
    if is_seq2seq(model_class):  # source and target share their table in any case
        assert loaded.model.encoder.embed_tokens.weight is loaded.model.decoder.embed_tokens.weight


@tied_or_not
@every_model
def test_resized_model_reloads_and_keeps_its_answers_for_old_tokens(model_class, tied, tmp_path):
    model = tiny_model(model_class, tie_word_embeddings=tied, lm_head_bias=True)
    inputs = tiny_inputs(model_class)
    before = first_output(model, inputs)
    for new_size in (VOCAB_SIZE + 6, VOCAB_SIZE + 2):
        model.resize_token_embeddings(new_size, mean_resizing=False)
        assert model.config.vocab_size == new_size
        after = first_output(model, inputs)
        if model_class in LM_HEADS:
            assert after.shape[-1] == new_size
            after = after[..., :VOCAB_SIZE]
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    for name in inputs.keys() & {"input_ids", "decoder_input_ids"}:
        inputs[name].view(-1)[0] = VOCAB_SIZE + 1
    expected = first_output(model, inputs)
    model.save_pretrained(tmp_path)
    loaded, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert report(info) == {}
    assert torch.equal(first_output(loaded, inputs), expected)
    if model_class in LM_HEADS:
        assert (loaded.lm_head.weight is loaded.get_input_embeddings().weight) == tied


def test_resized_to_a_multiple():
    model = tiny_model(SEQ2SEQ[1], tie_word_embeddings=False)
    model.resize_token_embeddings(pad_to_multiple_of=64)
    tables = (model.model.encoder.embed_tokens, model.model.decoder.embed_tokens, model.lm_head)
    assert [len(table.weight) for table in tables] == [128] * 3


@every_model
def test_imported_package_wins_over_the_code_in_the_folder(model_class, saved_models):
    for trust in (None, False, True):
        model = AutoModel.from_pretrained(saved_models[name_of(model_class)], trust_remote_code=trust)
        assert type(model).__module__.startswith("vanilla_transformers.")


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("model_class", [SEQ2SEQ[0], ENCODERS[0], DECODERS[0]], ids=name_of)
def test_sinusoids_are_right_after_loading(model_class, dtype, layout, tmp_path):
    knobs = {"position_embedding_type": "sinusoidal", "sinusoidal_layout": layout}
    tiny_model(model_class, **knobs).save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, dtype=dtype)
    stack = model.encoder if is_seq2seq(model_class) else model
    table = stack.input_embedding.positions.table
    angles = torch.arange(64)[:, None] / 10000 ** (torch.arange(0, 32, 2) / 32)
    sines, cosines = angles.sin(), angles.cos()
    pairs = torch.stack((sines, cosines), -1).flatten(1) if layout == "interleaved" else torch.cat((sines, cosines), 1)
    assert table.dtype == torch.float32
    torch.testing.assert_close(table, pairs, rtol=0, atol=1e-5)


@every_model
def test_bfloat16_loading_rounds_the_weights_and_nothing_else(model_class, saved_models):
    folder = saved_models[name_of(model_class)]
    loaded = model_class.from_pretrained(folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    inputs = tiny_inputs(model_class)
    rounded = tiny_model(model_class).bfloat16()
    output = first_output(loaded, inputs)
    assert output.dtype == torch.bfloat16
    assert torch.isfinite(output).all()
    exact = first_output(tiny_model(model_class), inputs)
    assert (output - exact).abs().mean() < 0.05 * exact.abs().mean()
    if model_class.config_class().position_embedding_type == "learned":
        assert torch.equal(output, first_output(rounded, inputs))


@pytest.mark.parametrize("model_class", [SEQ2SEQ[1], DECODERS[1]], ids=name_of)
def test_generation_settings_are_saved_apart_from_the_model_config(model_class, tmp_path):
    model = tiny_model(model_class)
    model.generation_config.num_beams = 4
    model.generation_config.max_new_tokens = 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert not set(config) & set(GenerationConfig().to_dict()) - {
        "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "transformers_version", "use_cache",
        "output_attentions", "output_hidden_states",
    }  # fmt: skip
    loaded = model_class.from_pretrained(tmp_path)
    assert loaded.generation_config.num_beams == 4
    assert loaded.generation_config.eos_token_id == 3
    assert loaded.generation_config.pad_token_id == 1
    assert loaded.generate(**tiny_inputs(SEQ2SEQ[0] if is_seq2seq(model_class) else DECODERS[0])).shape[0] == 2


def test_model_read_from_a_folder_saves_a_complete_folder_again(saved_models, tmp_path):
    model = AutoModel.from_pretrained(saved_models["EncoderForMaskedLM"])
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["auto_map"] == model.config.family_auto_map
    assert (tmp_path / "modeling_encoder.py").is_file()
