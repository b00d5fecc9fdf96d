"""Finds the recipe and the description of a configuration. Imports the standard library only."""

import itertools
import re
from pathlib import Path

from vanilla_recipes.cli.faults import UsageError
from vanilla_recipes.cli.parser import nearest
from vanilla_recipes.errors import UserError
from vanilla_recipes.packaged import current_name, packaged_configs


def description(file: Path) -> str:
    """Returns the first comment line at the top of a configuration that shows no `vanilla train` command."""
    with file.open(encoding="utf-8") as lines:
        comments = [line.lstrip("#").strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines)]
    return next((comment for comment in comments if not comment.startswith("vanilla train")), "")


def recipe_of(config: str) -> str:
    """Returns the name of the recipe that trains `config`, a packaged name or a YAML file.

    The first part of a packaged name is the recipe. A file names its recipe in a line such as `recipe: translation`;
    without this line the name of its folder is the recipe.

    Raises:
        UsageError: If the configuration does not exist.
        UserError: If the file does not name its recipe, or the recipe does not exist.
    """
    names = packaged_configs()
    if current_name(config) in names:
        return current_name(config).split("/")[0]
    file = Path(config)
    if file.suffix not in {".yaml", ".yml"}:
        raise UsageError(f"there is no configuration {config!r}{nearest(config, names)} (`vanilla configs` lists them)")
    text = file.read_bytes().decode("utf-8", errors="replace")  # the recipe itself reports invalid bytes
    line = re.search(r"""^recipe:[ \t]*["']?(\w+)""", text, re.MULTILINE)
    recipe = current_name(line[1] if line else file.resolve().parent.name)
    recipes = sorted({name.split("/")[0] for name in names})
    if recipe not in recipes:
        fault = "it needs a line `recipe: NAME`"
        if line:
            number = text.count("\n", 0, line.start()) + 1
            fault = f"recipe={recipe} ({file.name}:{number}): there is no such recipe{nearest(recipe, recipes)}"
        raise UserError(f"{config}: {fault}; the recipes are: {', '.join(recipes)}")
    return recipe
