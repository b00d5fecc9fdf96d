"""A saved folder works in a process without the package, with `trust_remote_code=True`."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from project import HELPERS
from safetensors.torch import load_file
from tiny import DECODERS, MODELS, first_output, name_of, tiny_inputs, tiny_model
from transformers import AutoModelForCausalLM, pipeline
from transformers.dynamic_module_utils import get_relative_import_files, get_relative_imports

READER = HELPERS / "remote_reader.py"
PIPELINES = {
    "fill-mask": {"folder": "EncoderForMaskedLM", "text": "w7 <mask> w9"},
    "text-classification": {"folder": "DecoderForSequenceClassification", "text": "w7 w8"},
}
GENERATORS = {"Seq2SeqForConditionalGeneration": "AutoModelForSeq2SeqLM", "DecoderForCausalLM": "AutoModelForCausalLM"}
SOURCE = [[7, 8, 9], [10, 11, 12]]


def inputs_of(auto_name: str, family: str) -> dict:
    """Inputs for the class that an Auto class loads."""
    classes = {path.split(".")[1]: name for name, path in class_map(family).items()}
    model_class = next(model for model in MODELS if classes.get(model.__name__) == auto_name)
    return tiny_inputs(model_class)


def class_map(family: str) -> dict[str, str]:
    return next(model for model in MODELS if name_of(model) == family).config_class.family_auto_map


def entry(name: str, folder: Path) -> dict:
    """What the other process does with a folder: open it through every Auto class of its family."""
    auto_names = [auto_name for auto_name in class_map(name) if auto_name != "AutoConfig"]
    inputs = {
        auto_name: {key: value.tolist() for key, value in inputs_of(auto_name, name).items()}
        for auto_name in auto_names
    }
    return {"folder": str(folder), "auto_names": auto_names, "inputs": inputs}


@pytest.fixture(scope="module")
def elsewhere(saved_models, tmp_path_factory):
    """Tensors and report of a process without the package and with an empty Hugging Face cache."""
    place = tmp_path_factory.mktemp("elsewhere")
    manifest = {
        "folders": {name: entry(name, folder) for name, folder in saved_models.items()},
        "pipelines": {
            task: {"folder": str(saved_models[settings["folder"]]), "text": settings["text"]}
            for task, settings in PIPELINES.items()
        },
        "generators": GENERATORS,
        "source": SOURCE,
        "saved_again": str(place / "saved_again"),
        "tensors": str(place / "tensors.safetensors"),
        "report": str(place / "report.json"),
    }
    (place / "manifest.json").write_text(json.dumps(manifest))
    environment = os.environ | {
        "HF_HOME": str(place / "hf"),
        "HF_MODULES_CACHE": str(place / "hf" / "modules"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(READER), str(place / "manifest.json")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return load_file(manifest["tensors"]), json.loads(Path(manifest["report"]).read_text()), place


def test_the_other_process_lacks_the_package_and_any_older_copy_of_the_code(elsewhere):
    _, report, place = elsewhere
    assert report["package"] is False
    assert Path(report["cache"]).is_relative_to(place)


@pytest.mark.parametrize("model_class", MODELS, ids=name_of)
def test_outputs_are_identical_through_every_auto_class(model_class, elsewhere, saved_models):
    tensors, report, _ = elsewhere
    name = name_of(model_class)
    for auto_name, path in class_map(name).items():
        if auto_name == "AutoConfig":
            continue
        here = getattr(transformers, auto_name).from_pretrained(saved_models[name]).eval()
        inputs = inputs_of(auto_name, name)
        flat = {key: value.reshape(-1, value.shape[-1]) for key, value in inputs.items()}
        assert torch.equal(tensors[f"{name}.{auto_name}.base"], first_output(here.base_model, flat)), auto_name
        if path.endswith(f".{model_class.__name__}"):
            assert torch.equal(tensors[f"{name}.{auto_name}.own"], first_output(tiny_model(model_class), inputs))
            assert report[name][auto_name] == {}


@pytest.mark.parametrize("model_class", MODELS, ids=name_of)
def test_tokenizer_needs_no_code(model_class, elsewhere):
    assert elsewhere[1][name_of(model_class)]["tokens"] == [2, 7, 8, 3]


@pytest.mark.parametrize("task", PIPELINES)
def test_pipeline_answers_alike(task, elsewhere, saved_models):
    settings = PIPELINES[task]
    expected = pipeline(task, model=str(saved_models[settings["folder"]]), device="cpu")(settings["text"])
    assert elsewhere[1]["pipelines"][task] == expected


@pytest.mark.parametrize("name", GENERATORS)
def test_generation_gives_the_same_tokens(name, elsewhere, saved_models):
    model = getattr(transformers, GENERATORS[name]).from_pretrained(saved_models[name])
    tokens = model.generate(torch.tensor(SOURCE), max_new_tokens=6, num_beams=3)
    assert elsewhere[1]["generated"][name] == tokens.tolist()


def test_a_folder_saved_there_is_complete_here(elsewhere):
    folder = elsewhere[2] / "saved_again"
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"] == DECODERS[1].config_class.family_auto_map
    assert all((folder / f"{path.split('.')[0]}.py").is_file() for path in config["auto_map"].values())
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tiny_inputs(DECODERS[1])
    assert torch.equal(first_output(model, inputs), first_output(tiny_model(DECODERS[1]), inputs))


@pytest.mark.parametrize("family", ["seq2seq", "encoder", "decoder"])
def test_the_code_names_all_its_files_at_once(family):
    """transformers takes what a copied file names for copied too, so that processes that load at once would miss it."""
    file = Path(inspect.getfile(MODELS[0])).with_name(f"modeling_{family}.py")
    assert {Path(other).stem for other in get_relative_import_files(file)} == set(get_relative_imports(file))
