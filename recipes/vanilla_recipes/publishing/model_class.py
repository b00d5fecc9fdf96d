"""Finds and loads the class that a saved model names in its configuration."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

import vanilla_transformers
from vanilla_recipes.errors import UserError
from vanilla_recipes.models.model_folder import load_saved


def class_of(config: PreTrainedConfig) -> Any:
    """Returns the class named by `architectures` in the configuration, from this package or from transformers.

    Raises:
        UserError: If the configuration names no class, or a class that neither package has.
    """
    name = (config.architectures or [""])[0]
    found = getattr(vanilla_transformers, name, None) or getattr(transformers, name, None) if name else None
    if found is None:
        raise UserError(
            f"the architecture in config.json is {name!r}, which neither this package nor transformers has; save the "
            "model again with save_pretrained()"
        )
    return found


def load_as_saved(folder: Path, warns_of_old_code: bool = True) -> tuple[PreTrainedModel, Any]:
    """Loads a model with the class that it was saved as (evaluation mode, fp32, CPU), and its tokenizer or `None`.

    Args:
        folder: a folder written by `save_pretrained`.
        warns_of_old_code: passed to `load_saved`: whether outdated code in the folder causes a warning.

    Raises:
        UserError: If the folder is damaged.
    """
    model, tokenizer = load_saved(
        str(folder), None, class_of, needs_tokenizer=False, warns_of_old_code=warns_of_old_code, dtype=torch.float32
    )
    return model.eval(), tokenizer
