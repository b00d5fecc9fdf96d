"""`model/` is what travels with saved weights, whole and alone, and needs nothing that a release may take away."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import HELPERS, ROOT
from tiny import MODELS, name_of, tiny_model
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel

from vanilla_recipes.models.saved_code import saved_code

MODEL = ROOT / "modeling" / "vanilla_transformers" / "model"
FILES = sorted(file for file in MODEL.glob("*.py") if file.name != "__init__.py")
MOST_LINES, MOST_LINES_OF_A_FILE = 2500, 350
EXTENSIONS = {
    # Attributes of a model class that transformers reads: what it supports, ties, splits and records.
    "_supports_sdpa", "_supports_flash_attn", "_supports_flex_attn", "_supports_attention_backend",
    "_can_compile_fullgraph", "_no_split_modules", "_skip_keys_device_placement", "_tied_weights_keys", "_tp_plan",
    "_pp_plan", "_fsdp_plan", "_can_record_outputs",
    # Methods that transformers calls.
    "_init_weights", "_sample", "_beam_search",
    # What `set_attn_implementation` sets, and each model of transformers reads.
    "_attn_implementation",
}  # fmt: skip
"""The names by which transformers wants a class to be extended, underscores notwithstanding."""

PROCESSORS = r"cpu|gpu|tpu|amd|intel|nvidia|onednn|mkl\w*|avx\w*|cuda|triton|cudnn|\w*flash\w*|mps|varlen"


def test_each_class_saves_these_files_and_no_others(tmp_path):
    saved = {}
    for model_class in MODELS:
        folder = tmp_path / name_of(model_class)
        tiny_model(model_class).save_pretrained(folder)
        saved[model_class] = {file.name for file in folder.glob("*.py")}
        code = saved_code(folder)
        assert (code.files, code.missing) == (saved[model_class], {})
    assert set().union(*saved.values()) == {file.name for file in FILES}
    of_families = {file.name for file in FILES if file.name.startswith("modeling_")}
    shared = set.intersection(*saved.values())
    left_out = {name for names in saved.values() for name in {file.name for file in FILES} - names}
    assert left_out <= of_families | {"generation.py"}, (
        "a family without `generate` needs neither it nor other families"
    )
    assert shared >= {file.name for file in FILES} - of_families - {"generation.py"}


def test_it_works_alone(tmp_path):
    """A copy of the folder, where neither package can be imported: trains a step, saves, loads and generates."""
    shutil.copytree(MODEL, tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-P", str(HELPERS / "model_alone.py"), str(tmp_path), str(tmp_path / "report.json")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    reports = json.loads((tmp_path / "report.json").read_text())
    assert {name: len(report["tokens"]) for name, report in reports.items()} == {
        "VanillaSeq2SeqForConditionalGeneration": 3, "VanillaEncoderForMaskedLM": 0, "VanillaDecoderForCausalLM": 3
    }  # fmt: skip
    for report in reports.values():
        before, after = report["losses"]
        assert after < before


def private_names(file: Path) -> set[str]:
    """Private names that a file uses or defines, in strings too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {alias.name for alias in node.names} | set((node.module or "").split("."))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return {name for name in found if re.fullmatch(r"_(?!_)\w+", name)}


def defined_names(files: list[Path]) -> set[str]:
    """Private names of our own: those that are defined here, and that no class of torch or transformers has."""
    names = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
                names.add(node.id if isinstance(node, ast.Name) else node.attr)
    classes = (PreTrainedModel, GenerationMixin, PreTrainedConfig, nn.Module)
    return {name for name in names if not any(hasattr(each, name) for each in classes)}


def test_no_name_is_private_but_those_of_the_list():
    own = defined_names(FILES)
    assert set().union(*map(private_names, FILES)) - own == EXTENSIONS


def test_nothing_is_there_for_one_kind_of_processor():
    found = {}
    for file in FILES:
        words = set(re.findall(rf"(?i)(?<![a-z])(?:{PROCESSORS})(?![a-z])", file.read_text(encoding="utf-8")))
        found |= {file.name: words - {"_supports_flash_attn"}}
    assert {name: words for name, words in found.items() if words} == {}


def test_shapes_are_written_in_one_alphabet():
    """That of `base.py`: B, T, S, P, D, H, K, V and N; other sizes by their names."""
    legend = re.search(
        r"Shapes in all files of this folder.*?tokens\.", (MODEL / "base.py").read_text(encoding="utf-8"), re.DOTALL
    )[0]
    alphabet = set(re.findall(r"\b([A-Z]) [a-z]", legend))
    size = r"(?:\.\.\.|\d|[A-Z](?: (?:or|\+|x) [A-Z\d])?|ceil\(D / 2\)|[a-z_]+)"
    shapes = [
        shape
        for file in FILES
        for shape in re.findall(rf"\({size}(?:, {size})*,?\)", file.read_text(encoding="utf-8"))
        if re.search(r"\b[A-Z]\b", shape)
    ]
    assert len(shapes) > 100
    assert {letter for shape in shapes for letter in re.findall(r"\b[A-Z]\b", shape)} == alphabet
    others = [file.name for file in FILES if "Shapes:" in file.read_text(encoding="utf-8")]
    assert others == [], "the alphabet is stated once"


def test_it_can_be_read_in_an_evening():
    lines = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert sum(lines.values()) <= MOST_LINES
    assert {name: number for name, number in lines.items() if number > MOST_LINES_OF_A_FILE} == {}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_only_torch_transformers_and_siblings_are_imported(file):
    known = {"torch", "transformers", "huggingface_hub", "packaging"}
    imported = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(str(node.module).split(".")[0])
    assert imported - sys.stdlib_module_names <= known
