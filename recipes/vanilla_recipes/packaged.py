"""The packaged configurations: in a wheel beside the code, in a checkout at its top. Standard library only."""

from pathlib import Path

from vanilla_recipes.errors import UserError

_PACKAGE = Path(__file__).parent
_LAUNCH_SETTINGS = "accelerate"
"""The one folder of `configs/` that is no recipe: how to launch."""

RENAMED = {"sentiment": "classification"}
"""Recipes by the names that they had before. These go on working, in the names of configurations and in saved files."""


def packaged(name: str) -> Path:
    """A file or folder that the wheel carries beside the code: `configs` or `model_card.md`.

    Raises:
        UserError: It is in neither place.
    """
    for place in (_PACKAGE / name, _PACKAGE.parents[1] / name):
        if place.exists():
            return place
    raise UserError(f"vanilla_recipes is not installed completely: {name} is missing; reinstall vanilla_transformers")


def current_name(config: str) -> str:
    """The name of a configuration, or of a recipe, if it is given by the one that it had before."""
    recipe, slash, name = config.partition("/")
    return f"{RENAMED.get(recipe, recipe)}{slash}{name}"


def packaged_configs() -> dict[str, Path]:
    """Every experiment by the name `vanilla train` takes, such as `translation/toy`."""
    files = sorted(packaged("configs").glob("*/*.yaml"))
    return {f"{file.parent.name}/{file.stem}": file for file in files if file.parent.name != _LAUNCH_SETTINGS}
