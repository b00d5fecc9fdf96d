"""Converts transformers' own models to models of this package, and back.

The supported models of transformers are BERT, RoBERTa, DistilBERT, GPT-2, OPT, Marian, BART, mBART, M2M100 and FSMT. In
the names of functions and arguments, `stock` means a class that transformers itself defines, such as `BertForMaskedLM`.

This code is not saved with a model and registers nothing with transformers. An imported model is saved as one of our
model types and loads without the converters.
"""

import os
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from vanilla_transformers.interop.checks import Check, InteropError
from vanilla_transformers.interop.comparison import compare
from vanilla_transformers.interop.conversion import (
    ARCHITECTURES,
    class_for_head,
    from_stock,
    load_stock,
    our_class,
    to_stock,
)
from vanilla_transformers.model.configuration_base import VanillaConfig


def convert(
    model: PreTrainedModel | str | os.PathLike, to: str | None = None, head: str | None = None, **kwargs: Any
) -> PreTrainedModel:
    """Converts a transformers model to a model of this package or, if `to` is given, in the other direction.

        model = vanilla_transformers.convert("google-bert/bert-base-uncased")
        stock = vanilla_transformers.convert(model, to="bert")

    The result is in evaluation mode, has the dtype and the device of `model`, and shares no tensor with it.

    Args:
        model: a loaded model, a model folder, or the name of a model on the Hub.
        to: the model type of transformers to export to, such as `"marian"`, `"bart"`, `"bert"` or `"gpt2"`; `None`
            imports a transformers model.
        head: the task head with which a transformers checkpoint is loaded, such as `"base"` or
            `"sequence-classification"`; by default the head of the class that config.json names. Only allowed if
            `model` is a folder or a name.
        kwargs: passed to `from_pretrained`. Only allowed if `model` is a folder or a name.

    Raises:
        InteropError: If the target architecture cannot express a property of the model, or a weight is missing. The
            message names the property or the weight.
    """
    if not isinstance(model, PreTrainedModel):
        model = _load(os.fspath(model), head, **kwargs)
    elif head is not None or kwargs:
        raise InteropError(
            f"{', '.join(['head'] * (head is not None) + list(kwargs))}: only for a model given by folder or name, but "
            f"this {type(model).__name__} is already loaded; leave them out"
        )
    is_ours = isinstance(model.config, VanillaConfig)
    if to is not None and not is_ours:
        raise InteropError(
            f"the model is a {model.config.model_type}, but to={to!r} exports only our models: convert it to a "
            "model of this package first, without `to`"
        )
    if to is not None:
        return to_stock(model, to)
    if is_ours:
        raise InteropError(
            f"the model is already a {model.config.model_type}: name the stock model type to export to (to='bert')"
        )
    return from_stock(model)


def _load(name: str, head: str | None, **kwargs: Any) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(name, **kwargs)
    loaded_class = _class_of_ours(config, head) if isinstance(config, VanillaConfig) else class_for_head(config, head)
    model, report = load_stock(loaded_class, name, **kwargs)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise InteropError(
            f"{name} lacks {len(missing)} weights of a {loaded_class.__name__}, for instance {missing[0]}: load it "
            "with the head that it was saved with, or with head='base'"
        )
    return model.eval()


def _class_of_ours(config: PreTrainedConfig, head: str | None) -> type[PreTrainedModel]:
    if head is not None:
        raise InteropError(
            f"head {head!r}: only for stock checkpoints, but this is a {config.model_type}; leave it out"
        )
    return our_class(config)


__all__ = ["ARCHITECTURES", "Check", "InteropError", "compare", "convert"]
