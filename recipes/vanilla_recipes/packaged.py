"""Finds the packaged configurations: in a wheel beside the code, in a checkout at its top.

This module imports only the standard library.
"""

from pathlib import Path

from vanilla_recipes.errors import UserError

_PACKAGE = Path(__file__).parent
_LAUNCH_SETTINGS = "accelerate"
"""The folder of `configs/` that holds launch settings for Accelerate instead of experiments."""

RENAMED = {"sentiment": "classification"}
"""Old recipe name -> current name. Old names remain valid in the names of configurations and in saved files."""


def packaged(name: str) -> Path:
    """The path of a file or folder that is shipped with the package: `configs` or `model_card.md`.

    Raises:
        UserError: it is neither beside the code nor at the top of the checkout.
    """
    for path in (_PACKAGE / name, _PACKAGE.parents[1] / name):
        if path.exists():
            return path
    raise UserError(f"vanilla_recipes is not installed completely: {name} is missing; reinstall vanilla_transformers")


def current_name(config: str) -> str:
    """The current name of a configuration or recipe that may be given by its old name."""
    recipe, slash, name = config.partition("/")
    return f"{RENAMED.get(recipe, recipe)}{slash}{name}"


def packaged_configs() -> dict[str, Path]:
    """The files of all packaged experiments, by the name that `vanilla train` takes, such as `translation/toy`."""
    files = sorted(packaged("configs").glob("*/*.yaml"))
    return {f"{file.parent.name}/{file.stem}": file for file in files if file.parent.name != _LAUNCH_SETTINGS}
