"""Stock checkpoints in and out: BERT, RoBERTa, DistilBERT, GPT-2, OPT, Marian, BART, mBART, M2M100 and FSMT.

Nothing of it goes to the Hub with a model, and nothing is registered with transformers: a model that was imported is
saved under our own names and loads without this package's converters.
"""

import os
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from vanilla_transformers.interop.checks import Check, InteropError
from vanilla_transformers.interop.conversion import (
    ARCHITECTURES,
    class_for_head,
    from_stock,
    load_stock,
    our_class,
    to_stock,
)
from vanilla_transformers.interop.proof import compare
from vanilla_transformers.model.configuration_base import VanillaConfig


def convert(
    model: PreTrainedModel | str | os.PathLike, to: str | None = None, head: str | None = None, **kwargs: Any
) -> PreTrainedModel:
    """A stock model as one of ours or, with `to`, one of ours as a stock model.

        model = vanilla_transformers.convert("google-bert/bert-base-uncased")
        stock = vanilla_transformers.convert(model, to="bert")

    The result is in evaluation mode, has the dtype and the device of the model, and shares nothing with it.

    Args:
        model: a model, or its folder or name on the Hub.
        to: the model type to export to, such as `"marian"`, `"bart"`, `"bert"` or `"gpt2"`.
        head: the task as which a stock checkpoint is loaded, such as `"base"` or `"sequence-classification"`; by
            default that of the class which its configuration names.
        kwargs: for `from_pretrained` of a model that is given by name.

    Raises:
        InteropError: a property of the model cannot be expressed on the other side, or a weight is missing; the line
            says which.
    """
    if not isinstance(model, PreTrainedModel):
        model = _load(os.fspath(model), head, **kwargs)
    elif head is not None or kwargs:
        raise InteropError(
            f"{', '.join(['head'] * (head is not None) + list(kwargs))}: for a model that is given by name; this one "
            f"is loaded already, as a {type(model).__name__}"
        )
    is_ours = isinstance(model.config, VanillaConfig)
    if to is not None and not is_ours:
        raise InteropError(f"this is a {model.config.model_type}, and to={to!r} is for our models: convert it first")
    if to is not None:
        return to_stock(model, to)
    if is_ours:
        raise InteropError(f"this is a {model.config.model_type} already: say what it is to become (to='bert')")
    return from_stock(model)


def _load(name: str, head: str | None, **kwargs: Any) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(name, **kwargs)
    loaded_class = _class_of_ours(config, head) if isinstance(config, VanillaConfig) else class_for_head(config, head)
    model, report = load_stock(loaded_class, name, **kwargs)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise InteropError(
            f"{name} lacks {len(missing)} weights of a {loaded_class.__name__}, for instance {missing[0]}: load it as "
            "what it was saved from (head='base')"
        )
    return model.eval()


def _class_of_ours(config: PreTrainedConfig, head: str | None) -> type[PreTrainedModel]:
    if head is not None:
        raise InteropError(f"head {head!r}: for stock checkpoints, and this is a {config.model_type}")
    return our_class(config)


__all__ = ["ARCHITECTURES", "Check", "InteropError", "compare", "convert"]
