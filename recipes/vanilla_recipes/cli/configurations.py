"""Which recipe a configuration is for, and what it says of itself. Standard library only."""

import itertools
import re
from pathlib import Path

from vanilla_recipes.cli.faults import UsageError
from vanilla_recipes.cli.parser import nearest
from vanilla_recipes.errors import UserError
from vanilla_recipes.packaged import current_name, packaged_configs


def description(file: Path) -> str:
    """What the comment that opens a configuration says first, apart from the command that runs it."""
    with file.open(encoding="utf-8") as lines:
        comments = [line.lstrip("#").strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines)]
    return next((comment for comment in comments if not comment.startswith("vanilla train")), "")


def recipe_of(config: str) -> str:
    """The name of the recipe that trains `config`, a packaged name or a YAML file.

    The first part of a packaged name is its recipe. A file says it in a line such as `recipe: translation`, or else
    belongs to the recipe after which its folder is named.

    Raises:
        UsageError: there is no such configuration.
        UserError: the file does not say which recipe it is for, or names one that there is not.
    """
    names = packaged_configs()
    if current_name(config) in names:
        return current_name(config).split("/")[0]
    file = Path(config)
    if file.suffix not in {".yaml", ".yml"}:
        raise UsageError(f"there is no configuration {config!r}{nearest(config, names)} (`vanilla configs` lists them)")
    text = file.read_bytes().decode("utf-8", errors="replace")  # the recipe reports what is wrong with the rest
    line = re.search(r"""^recipe:[ \t]*["']?(\w+)""", text, re.MULTILINE)
    recipe = current_name(line[1] if line else file.resolve().parent.name)
    recipes = sorted({name.split("/")[0] for name in names})
    if recipe not in recipes:
        fault = "it needs a line `recipe: NAME`"
        if line:
            number = text.count("\n", 0, line.start()) + 1
            fault = f"recipe={recipe} ({file.name}:{number}): there is no such recipe{nearest(recipe, recipes)}"
        raise UserError(f"{config}: {fault}; there are: {', '.join(recipes)}")
    return recipe
