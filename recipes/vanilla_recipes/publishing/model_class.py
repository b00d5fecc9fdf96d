"""A saved model, by the name of its class in the configuration."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

import vanilla_transformers
from vanilla_recipes.errors import UserError
from vanilla_recipes.models.model_folder import load_saved


def class_of(config: PreTrainedConfig) -> Any:
    """The class that the configuration names, one of ours or of transformers' own.

    Raises:
        UserError: it names none that there is.
    """
    name = (config.architectures or [""])[0]
    found = getattr(vanilla_transformers, name, None) or getattr(transformers, name, None) if name else None
    if found is None:
        raise UserError(
            f"the architecture in config.json is {name!r}, which neither this package nor transformers has; save the "
            "model again with save_pretrained()"
        )
    return found


def load_as_saved(folder: Path, tells_outdated: bool = True) -> tuple[PreTrainedModel, Any]:
    """The model as its class has it, in evaluation mode, in fp32 and on the CPU, and its tokenizer if it has one.

    Args:
        folder: of `save_pretrained`.
        tells_outdated: as in `load_saved`.

    Raises:
        UserError: the folder is damaged.
    """
    model, tokenizer = load_saved(
        str(folder), None, class_of, needs_tokenizer=False, tells_outdated=tells_outdated, dtype=torch.float32
    )
    return model.eval(), tokenizer
