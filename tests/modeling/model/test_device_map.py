"""Models spread over devices by Accelerate, parts of them on the disk, compute what a whole one does."""

import re

import pytest
import torch
from tiny import LM_HEADS, MODELS, first_output, is_seq2seq, name_of, random_ids, tiny_inputs, tiny_model

every_model = pytest.mark.parametrize("model_class", MODELS, ids=name_of)
GENERATORS = (LM_HEADS[0], LM_HEADS[2])


def stacks_of(model) -> list[str]:
    """Names of the stacks, as a prefix of their layers."""
    return sorted({name.rsplit("layers.", 1)[0] for name, _ in model.named_modules() if ".layers.0" in f".{name}"})


def half_on_disk(model) -> dict[str, str]:
    """Every top module on the CPU, except the second layer of each stack and its input embedding."""
    places: dict[str, str] = {}
    for stack in stacks_of(model):
        names = [f"{stack}{name}" for name, _ in model.get_submodule(stack.rstrip(".")).named_children()]
        places |= dict.fromkeys(names, "cpu")
        del places[f"{stack}layers"]
        places |= {f"{stack}layers.0": "cpu", f"{stack}layers.1": "disk", f"{stack}input_embedding": "disk"}
    heads = [name for name, _ in model.named_children() if not any(place.startswith(name) for place in places)]
    return places | dict.fromkeys(heads, "cpu")


def load(model_class, folder, **settings):
    return model_class.from_pretrained(folder, offload_folder=folder / "offload", **settings)


@pytest.mark.parametrize("device_map", ["auto", "balanced", {"": "cpu"}], ids=str)
@every_model
def test_whole_on_one_device(model_class, device_map, saved_models):
    model = model_class.from_pretrained(saved_models[name_of(model_class)], device_map=device_map)
    inputs = tiny_inputs(model_class)
    assert torch.equal(first_output(model, inputs), first_output(tiny_model(model_class), inputs))


@every_model
def test_parts_on_disk(model_class, tmp_path):
    reference = tiny_model(model_class)
    reference.save_pretrained(tmp_path)
    model = load(model_class, tmp_path, device_map=half_on_disk(reference))
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu", "meta"}
    inputs = tiny_inputs(model_class)
    torch.testing.assert_close(first_output(model, inputs), first_output(reference, inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("model_class", LM_HEADS, ids=name_of)
def test_automatic_map_with_little_memory(model_class, tied, tmp_path):
    reference = tiny_model(model_class, tie_word_embeddings=tied)
    reference.save_pretrained(tmp_path)
    model = load(model_class, tmp_path, device_map="auto", max_memory={"cpu": 45_000})
    assert "disk" in model.hf_device_map.values()
    assert not [name for name in model.hf_device_map if re.search(r"layers\.\d+\.|input_embedding\.", name)]
    inputs = tiny_inputs(model_class)
    torch.testing.assert_close(first_output(model, inputs), first_output(reference, inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("model_class", GENERATORS, ids=name_of)
def test_generation_with_parts_on_disk(model_class, positions, tmp_path):
    reference = tiny_model(model_class, position_embedding_type=positions, eos_token_id=None)
    reference.save_pretrained(tmp_path)
    model = load(model_class, tmp_path, device_map=half_on_disk(reference))
    settings = {"max_new_tokens": 6, "do_sample": False}
    ids = random_ids(2, 5)
    for beams in (1, 3):
        expected = reference.generate(ids, num_beams=beams, **settings)
        assert torch.equal(model.generate(ids, num_beams=beams, **settings), expected)
    assert expected.shape[1] == (7 if is_seq2seq(model_class) else 11)
