"""The wheel carries the whole tree, and what pyproject.toml says is true."""

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import jedi
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from project import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ROOTS = {"vanilla_transformers": ROOT / "modeling", "vanilla_recipes": ROOT / "recipes"}
SUFFIXES = (".py", ".typed", ".html", ".yaml", ".sh", ".md")


def files_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES)


SOURCES = [file for package, root in ROOTS.items() for file in files_below(root / package)]


def expected_in_wheel() -> set[str]:
    """The two packages, and beside the recipes what lies at the top of a checkout."""
    packages = {
        file.relative_to(root).as_posix() for root in ROOTS.values() for file in SOURCES if root in file.parents
    }
    configs = {f"vanilla_recipes/{file.relative_to(ROOT).as_posix()}" for file in files_below(ROOT / "configs")}
    return packages | configs | {"vanilla_recipes/model_card.md"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A source distribution of a copy of the tree, and the wheel that is made from it."""
    copy = tmp_path_factory.mktemp("build") / "tree"
    ignored = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", "runs", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=ignored)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {file.suffix: file for file in (copy / "dist").iterdir()}


def test_every_source_file_is_in_the_wheel_and_nothing_else(built):
    with zipfile.ZipFile(built[".whl"]) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = {name.split(".dist-info/")[1] for name in archive.namelist() if ".dist-info/" in name}
    assert packed == expected_in_wheel()
    assert "licenses/LICENSE" in metadata


def test_the_source_distribution_has_what_a_checkout_has(built):
    with tarfile.open(built[".gz"]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    top = {name.partition("/")[0] for name in packed}
    assert {file.relative_to(ROOT).as_posix() for file in (*SOURCES, *files_below(ROOT / "configs"))} <= packed
    assert top == {
        "modeling", "recipes", "configs", "tests", "docs", "benchmarks", "findings", ".ci", "model_card.md", "Makefile",
        "constraints.txt", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE",
        "pyproject.toml", "mkdocs.yml", ".gitignore", "PKG-INFO",
    }  # fmt: skip


def test_the_wheel_works_alone(built, tmp_path):
    """Unpacked away from the tree, it is what is imported, and its command finds its configurations."""
    zipfile.ZipFile(built[".whl"]).extractall(tmp_path)
    code = (
        "import sys, vanilla_recipes.cli, vanilla_recipes.packaged as p\n"
        "assert vanilla_recipes.cli.main(['configs']) == 0\n"
        "assert 'torch' not in sys.modules\n"
        "print(p.packaged('configs'), p.packaged('model_card.md'), sep='\\n')"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *configs, folder, card = done.stdout.splitlines()
    assert any(line.startswith("translation/toy ") for line in configs)
    assert Path(folder) == tmp_path / "vanilla_recipes" / "configs"
    assert Path(card) == tmp_path / "vanilla_recipes" / "model_card.md"


def test_every_folder_with_code_is_a_package():
    assert all((file.parent / "__init__.py").is_file() for file in SOURCES if file.suffix == ".py")


DEFINITIONS = {
    "vanilla_transformers.VanillaSeq2SeqModel": "modeling/vanilla_transformers/model/modeling_seq2seq.py",
    "vanilla_transformers.VanillaEncoderConfig": "modeling/vanilla_transformers/model/configuration_vanilla.py",
    "vanilla_transformers.model.attention.MultiHeadAttention": "modeling/vanilla_transformers/model/attention.py",
    "vanilla_transformers.interop.convert": "modeling/vanilla_transformers/interop/__init__.py",
    "vanilla_transformers.text.pipelines.pipeline": "modeling/vanilla_transformers/text/pipelines.py",
    "vanilla_recipes.engine.loop.fit": "recipes/vanilla_recipes/engine/loop.py",
    "vanilla_recipes.settings.experiment.Experiment": "recipes/vanilla_recipes/settings/experiment.py",
    "vanilla_recipes.translation.main": "recipes/vanilla_recipes/translation.py",
    "vanilla_recipes.cli.main": "recipes/vanilla_recipes/cli/__init__.py",
    "vanilla_recipes.data.toy.translation.translation_rows": "recipes/vanilla_recipes/data/toy/translation.py",
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_an_editor_finds_the_definition(name):
    """jedi, which many editors use, under the editable install that the tests run in."""
    module, _, attribute = name.rpartition(".")
    line = f"from {module} import {attribute}"
    (found,) = jedi.Script(line).goto(1, len(line), follow_imports=True)
    assert found.module_path == ROOT / DEFINITIONS[name]
    assert found.type != "module"


def test_the_version_is_the_same_everywhere():
    import vanilla_transformers

    version = PROJECT["project"]["version"]
    assert vanilla_transformers.__version__ == version
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line[:3] == "## "]
    assert version in headings[0]


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(text) for texts in lists for text in texts]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_constraints_are_versions_that_the_project_allows():
    pinned = constraints()
    assert not any("/" in line or line.startswith("-") for line in pinned), "no index and no path belongs there"
    for requirement in requirements():
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_every_library_that_is_imported_is_declared():
    declared = {canonicalize_name(requirement.name) for requirement in requirements()}
    distributions = packages_distributions()
    undeclared = {}
    for source in SOURCES:
        if source.suffix != ".py":
            continue
        for name in imported(source) - sys.stdlib_module_names - ROOTS.keys():
            found = {canonicalize_name(distribution) for distribution in distributions.get(name, [name])}
            if not found & declared:
                undeclared.setdefault(name, str(source))
    assert undeclared == {}


def imported(source: Path) -> set[str]:
    """The top-level names that a file imports absolutely, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names
