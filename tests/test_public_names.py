"""The public names: what is added or taken away shows in the diff of `tests/fixtures/public_names.txt`.

`python tests/test_public_names.py` writes the file. CHANGELOG says what each version may change.
"""

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path

import vanilla_recipes
import vanilla_transformers
from vanilla_recipes.cli.parser import build_parser
from vanilla_recipes.settings.config_files import leaf_types
from vanilla_transformers.model.configuration_base import VanillaConfig

FILE = Path(__file__).parent / "fixtures" / "public_names.txt"
EXPERIMENTS = {
    "translation": "TranslationExperiment",
    "classification": "ClassificationExperiment",
    "generation": "GenerationExperiment",
    "masked_lm": "MaskedLMExperiment",
}


def public_names() -> Iterator[str]:
    """Python names, fields of configurations, command-line options and settings of the recipes, a line each."""
    for package in (vanilla_transformers, vanilla_recipes):
        yield from (f"{package.__name__}.{name}" for name in sorted(package.__all__))
    for config in sorted(VanillaConfig.__subclasses__(), key=lambda each: each.__name__):
        own = {name for base in (config, VanillaConfig) for name in vars(base).get("__annotations__", {})}
        yield from (f"{config.__name__}.{name}" for name in sorted(own) if name not in ("minima", "family_auto_map"))
    for command, parser in build_parser()[1].items():
        yield from sorted(f"vanilla {command} {words}" for action in parser._actions if (words := words_of(action)))
    for recipe, name in EXPERIMENTS.items():
        experiment = getattr(importlib.import_module(f"vanilla_recipes.{recipe}"), name)
        yield from sorted(f"{recipe}: {key}" for key in leaf_types(experiment))


def words_of(action: argparse.Action) -> str:
    """How an argument is written; nothing of the help that each command has."""
    if "--help" in action.option_strings:
        return ""
    return ", ".join(action.option_strings) or str(action.metavar or action.dest)


def test_public_names():
    assert list(public_names()) == FILE.read_text(encoding="utf-8").splitlines(), f"python {Path(__file__).name}"


if __name__ == "__main__":
    FILE.write_text("\n".join(public_names()) + "\n", encoding="utf-8")
