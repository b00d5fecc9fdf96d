"""The functions of the subcommands. They import their modules when they run, because some imports take seconds."""

import argparse
import importlib
from collections.abc import Callable

from vanilla_recipes.cli.configurations import description, recipe_of
from vanilla_recipes.cli.workers import end_with_launcher, must_start, run_workers
from vanilla_recipes.packaged import packaged_configs


def configs(arguments: argparse.Namespace) -> int:
    """Lists the packaged configurations with their descriptions."""
    found = packaged_configs()
    width = max((len(name) for name in found), default=0)
    for name, file in found.items():
        print(f"{name:{width}}  {description(file)}".rstrip())
    return 0


def train(arguments: argparse.Namespace) -> int:
    """Runs the recipe of the configuration; with --num_processes, starts the processes that run it."""
    name = recipe_of(arguments.config)
    if must_start(arguments.num_processes):
        options = ["--debug"] if arguments.debug else []
        return run_workers(["train", *options, arguments.config, *arguments.overrides], arguments.num_processes)
    end_with_launcher()
    recipe = importlib.import_module(f"vanilla_recipes.{name}")
    return recipe.main([arguments.config, *arguments.overrides])


def infer(arguments: argparse.Namespace) -> int:
    """Translates, classifies or continues texts."""
    from vanilla_recipes.cli.inference import run

    return run(arguments)


def demo(arguments: argparse.Namespace) -> int:
    """Shows models on a web page."""
    from vanilla_recipes.cli.demo import demo as show_models

    return show_models(arguments)


def serve(arguments: argparse.Namespace) -> int:
    """Serves a decoder over HTTP."""
    from vanilla_recipes.cli.server import serve as serve_model

    return serve_model(arguments)


def import_(arguments: argparse.Namespace) -> int:
    """Converts one of transformers' own models to a model of this package."""
    from vanilla_recipes.cli.converter import import_model

    return import_model(arguments)


def export(arguments: argparse.Namespace) -> int:
    """Converts a model of this package to one of transformers' own models or to the format of another library."""
    from vanilla_recipes.cli.converter import export_model

    return export_model(arguments)


def push(arguments: argparse.Namespace) -> int:
    """Pushes a model to the Hub."""
    from vanilla_recipes.cli.push import push as push_model

    return push_model(arguments)


def update(arguments: argparse.Namespace) -> int:
    """Renews the code in a saved folder."""
    from vanilla_recipes.cli.update import update as update_folder

    return update_folder(arguments)


def attention(arguments: argparse.Namespace) -> int:
    """Shows the attention maps of a model."""
    from vanilla_recipes.cli.attention import show_attention

    return show_attention(arguments)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "attention": attention,
    "classify": infer,
    "configs": configs,
    "demo": demo,
    "export": export,
    "generate": infer,
    "import": import_,
    "push": push,
    "serve": serve,
    "train": train,
    "translate": infer,
    "update": update,
}
