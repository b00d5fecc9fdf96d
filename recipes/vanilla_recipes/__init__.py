"""Training recipes over one engine. The modules of this folder, and `publish`, are what a user runs.

Importing this package does not import torch.
"""

import importlib
from typing import Any

_LAZY = {"publish": "vanilla_recipes.publishing.publication"}
"""Name of a function that is loaded on first use -> module of the function."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


__all__ = ["publish"]
