"""Every packaged experiment is read by the recipe after which its folder is named."""

import importlib
import inspect
from importlib import resources

import pytest

from vanilla_transformers.recipes.engine.config_files import config_names, load_experiment
from vanilla_transformers.recipes.engine.experiment import Experiment


def experiment_class(recipe: str) -> type[Experiment]:
    module = importlib.import_module(f"vanilla_transformers.recipes.{recipe}")
    return next(kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__
                and issubclass(kind, Experiment))  # fmt: skip


@pytest.mark.parametrize("name", config_names())
def test_it_is_read(name):
    recipe, _, own_name = name.partition("/")
    experiment = load_experiment(experiment_class(recipe), name)
    assert (experiment.recipe, experiment.output_dir) == (recipe, f"runs/{recipe}-{own_name}")
    first_line = (resources.files("vanilla_transformers.configs") / f"{name}.yaml").read_text("utf-8").splitlines()[0]
    assert first_line.split()[:4] == ["#", "vanilla", "train", name]


def test_every_recipe_has_some():
    recipes = {name.partition("/")[0] for name in config_names()}
    assert recipes == {"translation", "sentiment", "generation", "masked_lm"}
