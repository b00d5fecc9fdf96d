"""Lists the Python files of a model folder: the files named in `auto_map`, and the files that they import.

If this package is installed, the model is loaded with the installed classes, and the code in the folder is not run.
Without this package, `trust_remote_code=True` runs the code in the folder.
"""

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import transformers

import vanilla_transformers
from vanilla_transformers.model import caches

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
CONFIGS = (CONFIG, TOKENIZER_CONFIG)
"""The configuration files that name code in their `auto_map`."""

_OTHER_REPOSITORY = "--"  # separates a repository's name from the class path in an `auto_map`
_CACHE_NAMES = Path(caches.__file__).name  # code without this file only has the old argument name of the cache


class SavedCode(NamedTuple):
    """Names of Python files that a model folder needs.

    Attributes:
        files: the names of the files that exist.
        missing: the name of each missing file -> the file that names or imports it.
    """

    files: frozenset[str]
    missing: Mapping[str, str]


def saved_code(folder: Path, configs: Sequence[str] = CONFIGS) -> SavedCode:
    """The code that the configurations in a folder name, and the files that this code imports."""
    named = {name: config for config in configs for name in files_of(auto_map(folder / config))}
    return with_imports(folder, named)


def with_imports(folder: Path, named: Mapping[str, str]) -> SavedCode:
    """The given files and all files that they import, directly or indirectly, with relative imports.

    Imports for type checking only count too.

    Args:
        folder: the folder of the files.
        named: the name of each given file -> the file that names it.
    """
    asking = dict(named)
    waiting = list(named)
    while waiting:
        name = waiting.pop()
        new = [other for other in _imported(folder / name) if other not in asking] if _lies_in(folder, name) else []
        asking |= dict.fromkeys(new, name)
        waiting += new
    files = frozenset(name for name in asking if _lies_in(folder, name))
    return SavedCode(files, {name: asking[name] for name in sorted(asking.keys() - files)})


def auto_map(config: Path) -> Any:
    """The `auto_map` of a configuration file; `None` if the file has none, does not exist or is damaged."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # loading the model reports a damaged file
        return None
    return content.get("auto_map") if isinstance(content, dict) else None


def files_of(classes: Any) -> list[str]:
    """The names of the files that an `auto_map` names, without files of other repositories.

    Args:
        classes: Auto class -> class path, such as `modeling_decoder.VanillaDecoderModel`. A tokenizer has a list of two
            class paths, either of which may be `None`.
    """
    if isinstance(classes, Mapping):
        classes = list(classes.values())
    if isinstance(classes, (list, tuple)):
        return [name for each in classes for name in files_of(each)]
    is_beside = isinstance(classes, str) and _OTHER_REPOSITORY not in classes
    return [f"{classes.rpartition('.')[0]}.py"] if is_beside else []


def _lies_in(folder: Path, name: str) -> bool:
    """Whether a file exists directly in the folder: transformers follows no imports into subfolders."""
    return name == Path(name).name and (folder / name).is_file()


def _imported(file: Path) -> list[str]:
    """The files that a module imports with relative imports; none if the module is not valid Python."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):
        return []
    modules: list[str] = []
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            modules += [node.module] if node.module else [alias.name for alias in node.names]
    return [f"{module.replace('.', '/')}.py" for module in modules]


def outdated(folder: Path) -> str | None:
    """Explains why the code in a folder must be renewed, and how; `None` if it need not be renewed.

    `generate` passes the cache under an argument name that depends on the version of transformers. Older code does not
    have the newer name and ignores the argument. It then predicts from the last token only.
    """
    if caches.CACHE != "cache" or not _generates(folder):
        return None
    # Unused files do not count. They may be newer than the code in use, if older code was saved into the folder later.
    code = saved_code(folder, [CONFIG]).files
    if not code or _CACHE_NAMES in code:
        return None
    return (
        f"{folder}: the code in it is older than this package, without which it generates nonsense under transformers "
        f"{transformers.__version__}; renew it with `vanilla update {folder}`"
    )


def _generates(folder: Path) -> bool:
    """Whether the model was saved from a class of this package that can generate."""
    try:
        architecture = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["architectures"][0]
    except (FileNotFoundError, ValueError, LookupError, TypeError):  # loading the model reports a damaged file
        return False
    model_class: Any = getattr(vanilla_transformers, str(architecture), None)
    return hasattr(model_class, "can_generate") and model_class.can_generate()
