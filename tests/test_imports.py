"""Which room may import which: no import runs up or around, and what travels to the Hub imports nothing of ours."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from project import ROOT

ROOTS = {"vanilla_transformers": ROOT / "modeling", "vanilla_recipes": ROOT / "recipes"}
RANKS = [
    ["vanilla_transformers.releases", "vanilla_transformers.plot_style"],
    ["vanilla_transformers.model"],
    ["vanilla_transformers.fast", "vanilla_transformers.interop"],
    ["vanilla_transformers.text"],
    ["vanilla_transformers.inspection"],
    ["vanilla_transformers"],
    ["vanilla_recipes", "vanilla_recipes.errors"],
    ["vanilla_recipes.folders", "vanilla_recipes.hub", "vanilla_recipes.packaged"],
    ["vanilla_recipes.settings"],
    ["vanilla_recipes.models", "vanilla_recipes.processes", "vanilla_recipes.reports", "vanilla_recipes.run_folder"],
    ["vanilla_recipes.engine"],
    ["vanilla_recipes.data"],
    ["vanilla_recipes.scoring"],
    [f"vanilla_recipes.{recipe}" for recipe in ("translation", "classification", "generation", "masked_lm")]
    + ["vanilla_recipes.demo"],
    ["vanilla_recipes.publishing", "vanilla_recipes.sentiment"],
    ["vanilla_recipes.cli"],
]
"""A room may import itself and those in the lines above its own; the rooms of one line do not import each other."""

RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
MODULES = {
    ".".join((package, *file.relative_to(root / package).with_suffix("").parts)).removesuffix(".__init__"): file
    for package, root in ROOTS.items()
    for file in (root / package).rglob("*.py")
}


def room_of(module: str) -> str:
    """The longest name in the list that the module is, or lies in."""
    parts = module.split(".")
    return next(name for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in RANK)


def imports_of(module: str) -> Iterator[str]:
    """The modules of both packages that a module imports, inside functions too."""
    file = MODULES[module]
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
            submodules = [name for alias in node.names if (name := f"{base}.{alias.name}") in MODULES]
            yield from submodules
            if base in MODULES and len(submodules) < len(node.names):
                yield base


GRAPH = {module: set(imports_of(module)) - {module} for module in MODULES}


def test_the_graph_is_seen():
    """A reader that looks at files alone finds the arrows: all modules but a few are at an end of one."""
    ends = {end for module, imported in GRAPH.items() for end in (imported | {module} if imported else set())}
    lonely = {module for module in GRAPH.keys() - ends if MODULES[module].name != "__init__.py"}
    assert lonely == {"vanilla_recipes.publishing.reader", "vanilla_recipes.cli.__main__"} - ends
    assert sum(map(len, GRAPH.values())) > 500


def test_no_import_runs_up():
    wrong = [
        f"{module} -> {other}"
        for module, imported in GRAPH.items()
        for other in imported
        if (here := room_of(module)) != (there := room_of(other)) and RANK[there] >= RANK[here]
    ]
    assert wrong == []


def test_no_import_runs_in_a_circle():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) == "vanilla_transformers.model"])
def test_what_travels_imports_siblings_alone(module):
    """By one dot and one name, which is all that transformers copies."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, ast.unparse(node)
            assert str(node.module).isidentifier(), ast.unparse(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            assert not any(name.split(".")[0] in ROOTS for name in names), ast.unparse(node)


def test_every_folder_has_its_line():
    folders = {file.parent for file in MODULES.values()}
    rooms = {Path(*room.split(".")) for room in RANK}
    for package, root in ROOTS.items():
        assert {
            f.relative_to(root) for f in folders if f.is_relative_to(root / package) and f.parent.parent == root
        } <= rooms
