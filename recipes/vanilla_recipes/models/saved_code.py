"""The code in a model folder: the files that its configurations name, and all that these import from beside them.

With this package a model is loaded by the installed classes, and the code in its folder is not run. Without it, with
`trust_remote_code=True`, that code is the model.
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
"""The files that name code, in their `auto_map`."""

_OTHER_REPOSITORY = "--"
_CACHE_NAMES = Path(caches.__file__).name  # code without this file knows the older name of the cache alone


class SavedCode(NamedTuple):
    """Files of code.

    Attributes:
        files: names of those that are there.
        missing: by the name of each that is not, the file that asks for it.
    """

    files: frozenset[str]
    missing: Mapping[str, str]


def saved_code(folder: Path, configs: Sequence[str] = CONFIGS) -> SavedCode:
    """The code that the configurations in a folder name, and what it imports."""
    named = {name: config for config in configs for name in files_of(auto_map(folder / config))}
    return with_imports(folder, named)


def with_imports(folder: Path, named: Mapping[str, str]) -> SavedCode:
    """Files of code and, in turn, all that they import from beside them, also where they do so for types alone.

    Args:
        folder: where they lie.
        named: the files to begin with, each with what names it.
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
    """What a configuration says of its code; `None` where it says nothing, or is not there or damaged."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # a damaged one is told where it is needed
        return None
    return content.get("auto_map") if isinstance(content, dict) else None


def files_of(classes: Any) -> list[str]:
    """The files that an `auto_map` names; those of other repositories do not lie beside it.

    Args:
        classes: paths such as `modeling_decoder.VanillaDecoderModel` by the Auto class; for a tokenizer there are two,
            either of which may be `None`.
    """
    if isinstance(classes, Mapping):
        classes = list(classes.values())
    if isinstance(classes, (list, tuple)):
        return [name for each in classes for name in files_of(each)]
    is_beside = isinstance(classes, str) and _OTHER_REPOSITORY not in classes
    return [f"{classes.rpartition('.')[0]}.py"] if is_beside else []


def _lies_in(folder: Path, name: str) -> bool:
    """Whether it is a file of the folder itself: transformers follows no imports into others."""
    return name == Path(name).name and (folder / name).is_file()


def _imported(file: Path) -> list[str]:
    """The files that a module imports from beside it. One that is no Python fails when it is run, and imports none."""
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
    """Why the code in a folder must be renewed, and how; `None` where it need not.

    `generate` hands over the cache under the name that the installed transformers has for it. Code that does not know
    the name takes it for one argument more, ignores it, and goes on from the last token alone.
    """
    if caches.CACHE != "cache" or not _generates(folder):
        return None
    code = saved_code(folder, [CONFIG]).files  # not what lies there: an older version may have saved over newer code
    if not code or _CACHE_NAMES in code:
        return None
    return (
        f"{folder}: the code in it is older than this package, without which it generates nonsense under transformers "
        f"{transformers.__version__}; renew it with `vanilla update {folder}`"
    )


def _generates(folder: Path) -> bool:
    """Whether the model was saved from a class of this package that generates."""
    try:
        architecture = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["architectures"][0]
    except (FileNotFoundError, ValueError, LookupError, TypeError):  # a damaged one is told where it is needed
        return False
    model_class: Any = getattr(vanilla_transformers, str(architecture), None)
    return hasattr(model_class, "can_generate") and model_class.can_generate()
