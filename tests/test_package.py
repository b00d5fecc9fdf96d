"""The wheel carries the whole tree, and what pyproject.toml says is true."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = {"recipes/cli": "vanilla_cli", "recipes": "vanilla_transformers.recipes"}
FOLDERS |= {"configs": "vanilla_transformers.configs", "modeling": "vanilla_transformers"}
SOURCES = sorted(
    file.relative_to(ROOT)
    for folder in ("modeling", "recipes", "configs")
    for file in (ROOT / folder).rglob("*")
    if file.suffix in (".py", ".yaml", ".sh", ".typed", ".html") or file.name == "model_card.md"
)


def package_of(folder: Path) -> str:
    """The package as which a folder of the tree is imported."""
    root = next(root for root in FOLDERS if folder.is_relative_to(root))
    return ".".join([FOLDERS[root], *folder.relative_to(root).parts])


def place_in_wheel(source: Path) -> str:
    """Where a file belongs: that of a folder without a package (YAML by recipe) below the package above it."""
    return str(PurePosixPath(package_of(source.parent).replace(".", "/"), source.name))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a copy of the tree, so that no build/ is left behind or taken over."""
    copy = tmp_path_factory.mktemp("build") / "tree"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("modeling", "recipes", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_every_source_file_is_in_the_wheel_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = {name.split(".dist-info/")[1] for name in archive.namelist() if ".dist-info/" in name}
    assert packed == {place_in_wheel(source) for source in SOURCES}
    assert "licenses/LICENSE" in metadata


def test_the_wheel_works_alone(wheel, tmp_path):
    """Unpacked away from the tree, it is what is imported, and its command finds its configurations."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys, vanilla_cli, vanilla_cli.packaged as p\n"
        "assert vanilla_cli.main(['configs']) == 0\n"
        "assert 'torch' not in sys.modules\n"
        "from vanilla_transformers.recipes import errors\n"
        "print(p.configs_folder(), errors.__file__, sep='\\n')"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *configs, folder, errors = done.stdout.splitlines()
    assert any(line.startswith("translation/toy ") for line in configs)
    assert Path(folder) == tmp_path / "vanilla_transformers" / "configs"
    assert Path(errors).is_relative_to(tmp_path)


def test_every_folder_with_code_is_a_listed_package():
    folders = {source.parent for source in SOURCES if source.suffix == ".py"}
    assert {package_of(folder) for folder in folders} == set(PROJECT["tool"]["setuptools"]["packages"])
    assert all((ROOT / folder / "__init__.py").is_file() for folder in folders)


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
        for name in imported(source) - sys.stdlib_module_names - {"vanilla_transformers", "vanilla_cli"}:
            found = {canonicalize_name(distribution) for distribution in distributions.get(name, [name])}
            if not found & declared:
                undeclared.setdefault(name, str(source))
    assert undeclared == {}


def imported(source: Path) -> set[str]:
    """The top-level names that a file imports absolutely, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / source).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names
