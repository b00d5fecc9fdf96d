"""Stock models become ours and ours stock, in memory and without loss."""

import functools
import inspect
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from . import decoder, seq2seq
from .architecture import Architecture
from .bert import Bert, Roberta
from .checks import InteropError
from .distilbert import DistilBert
from .rules import Tensors, carry_in, carry_out

ARCHITECTURES: dict[str, Architecture] = {
    each.model_type: each for each in (Bert(), Roberta(), DistilBert(), *decoder.ARCHITECTURES, *seq2seq.ARCHITECTURES)
}
"""What can be converted, by model type."""

_WITH_SAME_HEAD = {"BertForPreTraining": "BertForMaskedLM"}


def architecture_of(model_type: str) -> Architecture:
    """The architecture of that model type.

    Raises:
        InteropError: it is not supported.
    """
    if model_type not in ARCHITECTURES:
        raise InteropError(
            f"model_type is {model_type!r}, which cannot be converted; supported are {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[model_type]


def stock_head(architecture: Architecture, class_name: str) -> str:
    """The task of a stock class.

    Raises:
        InteropError: there is no such head here.
    """
    class_name = _WITH_SAME_HEAD.get(class_name, class_name)
    for head, classes in architecture.heads.items():
        if classes.theirs == class_name:
            return head
    known = ", ".join(f"{classes.theirs} ({head})" for head, classes in architecture.heads.items())
    raise InteropError(
        f"{class_name} has no counterpart here; {architecture.model_type} models are converted from {known}"
    )


def class_for_head(config: PreTrainedConfig, head: str | None = None) -> type[PreTrainedModel]:
    """The stock class that a checkpoint is loaded as: that of a task, or the one which its configuration names.

    Raises:
        InteropError: there is no such task, or nothing names the class.
    """
    architecture = architecture_of(config.model_type)
    if head is not None:
        if head not in architecture.heads:
            raise InteropError(f"--head {head}: a {config.model_type} has {', '.join(architecture.heads)}")
        return architecture.heads[head].stock_class
    names = config.architectures or [architecture.heads.get("base", next(iter(architecture.heads.values()))).theirs]
    return architecture.heads[stock_head(architecture, names[0])].stock_class


def our_head(architecture: Architecture, model: PreTrainedModel) -> str:
    """The task of one of our models.

    Raises:
        InteropError: the architecture has no such head.
    """
    for head, classes in architecture.heads.items():
        if type(model) is classes.ours:
            return head
    known = ", ".join(classes.ours.__name__ for classes in architecture.heads.values())
    raise InteropError(f"a {type(model).__name__} cannot become a {architecture.model_type}, which takes {known}")


def from_stock(stock: PreTrainedModel) -> PreTrainedModel:
    """Our model with the weights of a stock one, in its dtype and in evaluation mode.

    Raises:
        InteropError: something of it cannot be expressed here; the line says what.
    """
    architecture = architecture_of(stock.config.model_type)
    head = stock_head(architecture, type(stock).__name__)
    try:
        config: Any = architecture.config_class(**architecture.config_in(stock, head))
    except StrictDataclassError as error:
        raise InteropError(str(error.__cause__ or error)) from error
    tensors = carry_in(architecture.rules(config, stock.config, head), stock.state_dict())
    if getattr(stock.config, seq2seq.LAYOUT_MARK, None) == "interleaved":
        tensors = seq2seq.permute_width(tensors, seq2seq.to_halves(config.hidden_size).argsort())
    model = _filled(architecture.heads[head].ours, config, tensors)
    if model.can_generate() and stock.generation_config is not None:
        model.generation_config = stock.generation_config
    return model


def to_stock(model: PreTrainedModel, model_type: str) -> PreTrainedModel:
    """A stock model with the weights of one of ours, in its dtype and in evaluation mode.

    Raises:
        InteropError: something of it cannot be expressed there; the line says what.
    """
    architecture = architecture_of(model_type)
    head = our_head(architecture, model)
    ours: Any = model.config
    fields = architecture.config_out(ours, head)
    try:
        config = AutoConfig.for_model(model_type, **fields)
    except StrictDataclassError as error:
        raise InteropError(str(error.__cause__ or error)) from error
    tensors = dict(model.state_dict())
    if seq2seq.LAYOUT_MARK in fields:
        tensors = seq2seq.permute_width(tensors, seq2seq.to_halves(ours.hidden_size))
    carried = carry_out(architecture.rules(ours, config, head), tensors)
    stock_class: Any = architecture.heads[head].stock_class
    if head == "base" and _may_lack_pooler(stock_class) and not ours.pooler:
        stock_class = functools.partial(stock_class, add_pooling_layer=False)
    stock = _filled(stock_class, config, carried)
    if stock.can_generate() and model.generation_config is not None:
        stock.generation_config = model.generation_config
    return stock


def load_stock(stock_class: Any, name: str, **kwargs: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A stock model and transformers' report on its loading; a bare encoder saved without a pooler has none.

    Args:
        stock_class: the class.
        name: a folder, or a name on the Hub.
        kwargs: for its `from_pretrained`.
    """
    stock, report = stock_class.from_pretrained(name, output_loading_info=True, **kwargs)
    missing = report["missing_keys"]
    if missing and _may_lack_pooler(stock_class) and all(key.startswith("pooler.") for key in missing):
        return stock_class.from_pretrained(name, output_loading_info=True, add_pooling_layer=False, **kwargs)
    return stock, report


def _may_lack_pooler(stock_class: Any) -> bool:
    return "add_pooling_layer" in inspect.signature(stock_class.__init__).parameters


def _filled(model_class: Any, config: Any, tensors: Tensors) -> PreTrainedModel:
    """A model of that class with those weights; what it computes by itself, it computes."""
    model = model_class(config)
    dtype = next(iter(tensors.values())).dtype
    lacking, unknown = model.load_state_dict(tensors, strict=False)
    lacking = [name for name in lacking if "embed_positions" not in name]
    if lacking or unknown:  # the rules are wrong, not the model
        raise RuntimeError(f"{type(model).__name__}: rules leave out {lacking} and make {unknown}")
    return model.to(dtype).eval()
