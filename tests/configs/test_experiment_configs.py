"""Every packaged experiment is read by the recipe after which its folder is named."""

import importlib
import inspect

import pytest

from vanilla_recipes.packaged import packaged_configs
from vanilla_recipes.settings.config_files import load_experiment
from vanilla_recipes.settings.experiment import Experiment


def experiment_class(recipe: str) -> type[Experiment]:
    module = importlib.import_module(f"vanilla_recipes.{recipe}")
    return next(kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__
                and issubclass(kind, Experiment))  # fmt: skip


@pytest.mark.parametrize("name", packaged_configs())
def test_it_is_read(name):
    recipe, _, own_name = name.partition("/")
    experiment = load_experiment(experiment_class(recipe), name)
    assert (experiment.recipe, experiment.output_dir) == (recipe, f"runs/{recipe}-{own_name}")
    first_line = packaged_configs()[name].read_text("utf-8").splitlines()[0]
    assert first_line.split()[:4] == ["#", "vanilla", "train", name]


def test_every_recipe_has_some():
    recipes = {name.partition("/")[0] for name in packaged_configs()}
    assert recipes == {"translation", "classification", "generation", "masked_lm"}
