"""The class of a saved model, by the name in its configuration."""

from typing import Any

import transformers
from transformers import PreTrainedConfig

import vanilla_transformers
from vanilla_transformers.recipes.errors import UserError


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
