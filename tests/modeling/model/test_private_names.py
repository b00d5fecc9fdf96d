"""Every private name of torch and transformers can go: what is loaded without it computes the same, or says so.

Publicly named things that are not documented count as private here.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from project import HELPERS, ROOT
from tiny import DECODERS, LM_HEADS, random_ids, tiny_model

from vanilla_transformers.fast import generation
from vanilla_transformers.model import compatibility

PACKAGE = ROOT / "modeling" / "vanilla_transformers"
MODEL_FILES = sorted((PACKAGE / "model").glob("*.py"))
NOTHING = "nothing"
OF_MODELS = [
    "_get_current_dispatch_mode", "peek_interpreter_stack", "_current_level",
    "_linear_pointwise", "binary", "_reorder_linear_weight", "_is_mkldnn_bf16_supported",
    "_forward_hooks", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks",
    "_has_any_global_hook", "_attn_implementation", "_pad_token_tensor", "_eos_token_tensor",
    "varlen_attn", "capture_outputs", "OutputRecorder", "merge_with_config_defaults",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "_sample", "_beam_search", "_is_user_defined",
]  # fmt: skip
OF_FOLDERS = [name for name in OF_MODELS if any(name in file.read_text("utf-8") for file in MODEL_FILES)]
OF_RECIPES = ["_foreach_lerp_", "_reset_state", "_get_default_store", "_can_set_attn_implementation", "_actions"]


def reports(folder: Path, work: str, names: list[str]) -> dict[str, dict]:
    environment = os.environ | {"PYTHONPATH": str(HELPERS), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment |= {"HF_MODULES_CACHE": str(folder / "modules")}
    command = [sys.executable, str(HELPERS / "without_names.py"), str(folder), work, NOTHING, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def of_models(tmp_path_factory):
    return reports(tmp_path_factory.mktemp("models"), "models", OF_MODELS)


@pytest.fixture(scope="module")
def of_folders(tmp_path_factory):
    """Of models that lie in folders with their code, in a process that cannot import this package."""
    folder = tmp_path_factory.mktemp("folders")
    for model_class, name in zip(LM_HEADS, ("Seq2SeqLM", "MaskedLM", "CausalLM"), strict=True):
        model = tiny_model(model_class, initializer_range=1.0, norm_position="pre", tie_word_embeddings=False)
        model.save_pretrained(folder / "saved" / name)
    return reports(folder, "folders", OF_FOLDERS)


@pytest.fixture(scope="module")
def of_recipes(tmp_path_factory):
    return reports(tmp_path_factory.mktemp("recipes"), "recipe", OF_RECIPES)


def assert_same(found: dict, expected: dict) -> None:
    assert "fault" not in found, found["fault"]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (value if name.startswith("tokens") else pytest.approx(value, rel=1e-5)), name


@pytest.mark.parametrize("name", OF_MODELS)
def test_models_train_search_and_save_without_it(name, of_models):
    assert_same(of_models[name], of_models[NOTHING])


@pytest.mark.parametrize("name", OF_FOLDERS)
def test_saved_folders_train_search_and_save_without_it(name, of_folders):
    assert_same(of_folders[name], of_folders[NOTHING])


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_RECIPES)
def test_recipes_train_without_it(name, of_recipes):
    assert_same(of_recipes[name], of_recipes[NOTHING])


@pytest.mark.parametrize("work", ["of_models", "of_folders"])
def test_the_names_are_asked_for(work, request):
    """With nothing taken away, three searches found different tokens, and losses fell."""
    report = request.getfixturevalue(work)[NOTHING]
    assert "fault" not in report, report["fault"]
    for name, value in report.items():
        if name.startswith("tokens") and value:
            assert len({json.dumps(rows) for rows in value}) == 3
        elif value:
            assert value[1] < value[0]


def test_the_list_is_complete():
    """Each name that one of the two files asks for is taken away here."""
    asked = set()
    for file in (PACKAGE / "model" / "compatibility.py", PACKAGE / "fast" / "private_names.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("find", "_any_of"):
                asked |= {word.value for word in node.args[1:] if isinstance(word, ast.Constant)}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("_"):
                asked.add(node.value)
    assert asked - {"_functorch", "ops", "mkldnn"} <= set(OF_MODELS)


def test_searches_of_another_signature_are_left_alone(monkeypatch):
    model = tiny_model(DECODERS[1])
    expected = model.generate(random_ids(2, 5), max_new_tokens=6)
    monkeypatch.setattr(generation, "HAS_KNOWN_SEARCHES", False)
    monkeypatch.setattr(generation, "find_tokens_here", lambda *_, **__: pytest.fail("ours was used"))
    assert torch.equal(model.generate(random_ids(2, 5), max_new_tokens=6), expected)


@pytest.mark.parametrize("name", ["output_hidden_states", "output_attentions"])
def test_without_a_recorder_outputs_are_refused(name, monkeypatch):
    monkeypatch.setattr(compatibility, "_capture_outputs", None)
    forward = compatibility.capture_outputs(lambda self, **_: None)
    with pytest.raises(ValueError, match=f"{name}=True cannot be had: the installed transformers has no capture_out"):
        forward(tiny_model(DECODERS[0]), **{name: True})
