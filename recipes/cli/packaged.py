"""The packaged configurations, found without importing them. Standard library only, until one is at fault."""

import importlib.util
import itertools
import re
import sys
from pathlib import Path

from vanilla_cli.faults import UsageError
from vanilla_cli.parser import nearest

NOT_EXPERIMENTS = {"accelerate", "model"}  # folders of parts: how to launch, and architectures


def configs_folder() -> Path:
    """Where the package `vanilla_transformers.configs` lies, in a wheel as in an editable install.

    importlib.util.find_spec would import the parent package for this, and with it torch: several seconds.
    """
    parent = importlib.util.find_spec("vanilla_transformers")
    search = parent.submodule_search_locations if parent else None
    for finder in sys.meta_path:
        spec = finder.find_spec("vanilla_transformers.configs", search)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent
    raise UsageError("vanilla_transformers is not installed completely: its configurations are missing; reinstall it")


def packaged_configs() -> dict[str, Path]:
    """Every experiment by the name `vanilla train` takes, such as `translation/toy`."""
    files = sorted(configs_folder().glob("*/*.yaml"))
    return {f"{file.parent.name}/{file.stem}": file for file in files if file.parent.name not in NOT_EXPERIMENTS}


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
    if config in names:
        return config.split("/")[0]
    file = Path(config)
    if file.suffix not in {".yaml", ".yml"}:
        raise UsageError(f"there is no configuration {config!r}{nearest(config, names)} (`vanilla configs` lists them)")
    text = file.read_bytes().decode("utf-8", errors="replace")  # the recipe reports what is wrong with the rest
    line = re.search(r"""^recipe:[ \t]*["']?(\w+)""", text, re.MULTILINE)
    recipe = line[1] if line else file.resolve().parent.name
    recipes = sorted({name.split("/")[0] for name in names})
    if recipe not in recipes:
        from vanilla_transformers.recipes.errors import UserError  # takes seconds, so only when something is wrong

        fault = "it needs a line `recipe: NAME`"
        if line:
            number = text.count("\n", 0, line.start()) + 1
            fault = f"recipe={recipe} ({file.name}:{number}): there is no such recipe{nearest(recipe, recipes)}"
        raise UserError(f"{config}: {fault}; there are: {', '.join(recipes)}")
    return recipe
