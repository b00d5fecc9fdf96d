"""Stock models become ours and ours stock, in memory and without loss."""

import copy
import functools
import inspect
import re
from collections.abc import Iterable
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.modeling_utils import local_torch_dtype

from vanilla_transformers.interop import decoder, seq2seq
from vanilla_transformers.interop.architecture import Architecture
from vanilla_transformers.interop.bert import Bert, Roberta
from vanilla_transformers.interop.checks import InteropError
from vanilla_transformers.interop.distilbert import DistilBert
from vanilla_transformers.interop.permutation import is_permuted, permute_width, to_halves
from vanilla_transformers.interop.rules import Tensors, carry_in, carry_out

ARCHITECTURES: dict[str, Architecture] = {
    each.model_type: each for each in (Bert(), Roberta(), DistilBert(), *decoder.ARCHITECTURES, *seq2seq.ARCHITECTURES)
}
"""What can be converted, by model type."""

# Of the name of a weight the part that names its layer: encoder.layer.11, h.0.
_LAYER = re.compile(r"(?:(?:encoder|decoder|transformer)\.)?(?:layers?|h)\.\d+(?=\.)")
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


def our_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class of ours that a configuration of ours names.

    Raises:
        InteropError: it names none.
    """
    classes = {each.ours.__name__: each.ours for every in ARCHITECTURES.values() for each in every.heads.values()}
    name = (config.architectures or [""])[0]
    if name not in classes:
        raise InteropError(f"the architecture in its config.json is {name!r}, but must be one of {', '.join(classes)}")
    return classes[name]


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
    """Our model with copies of the weights of a stock one, in its dtype and on its device, in evaluation mode.

    Raises:
        InteropError: something of it cannot be expressed here; the line says what.
    """
    architecture = architecture_of(stock.config.model_type)
    head = stock_head(architecture, type(stock).__name__)
    try:
        config: Any = architecture.config_class(**architecture.config_in(stock, head))
    except StrictDataclassError as error:
        raise InteropError(str(error.__cause__ or error)) from error
    return _filled(architecture.heads[head].ours, config, tensors_in(architecture, config, stock, head), stock)


def to_stock(model: PreTrainedModel, model_type: str) -> PreTrainedModel:
    """A stock model with copies of the weights of one of ours, in its dtype and on its device, in evaluation mode.

    Raises:
        InteropError: something of it cannot be expressed there; the line says what.
    """
    architecture = architecture_of(model_type)
    head = our_head(architecture, model)
    ours: Any = model.config
    try:
        config = AutoConfig.for_model(model_type, **architecture.config_out(ours, head))
    except StrictDataclassError as error:
        raise InteropError(str(error.__cause__ or error)) from error
    stock_class: Any = architecture.heads[head].stock_class
    if head == "base" and _may_lack_pooler(stock_class) and not ours.pooler:
        stock_class = functools.partial(stock_class, add_pooling_layer=False)
    return _filled(stock_class, config, tensors_out(architecture, model, config, head), model)


def tensors_in(architecture: Architecture, config: Any, stock: PreTrainedModel, head: str) -> Tensors:
    """What the weights of a stock model are in one of ours with that configuration.

    Raises:
        InteropError: a weight is missing, left over, or cannot be expressed here.
    """
    tensors = carry_in(architecture.rules(config, stock.config, head), stock.state_dict())
    if is_permuted(stock.config):
        tensors = permute_width(tensors, to_halves(config.hidden_size).argsort())
    return tensors


def tensors_out(architecture: Architecture, ours: PreTrainedModel, config: Any, head: str) -> Tensors:
    """What the weights of one of our models are in a stock one with that configuration; see [`tensors_in`]."""
    tensors: Tensors = dict(ours.state_dict())
    if is_permuted(config):
        tensors = permute_width(tensors, to_halves(ours.config.hidden_size))
    return carry_out(architecture.rules(ours.config, config, head), tensors)


def load_stock(stock_class: Any, name: str, **kwargs: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A stock model and transformers' report on its loading; a bare encoder saved without a pooler has none.

    Args:
        stock_class: the class.
        name: a folder, or a name on the Hub.
        kwargs: for its `from_pretrained`.

    Raises:
        InteropError: the checkpoint has more layers than its configuration.
    """
    stock, report = stock_class.from_pretrained(name, output_loading_info=True, **kwargs)
    _refuse_spare_layers(stock, report["unexpected_keys"])
    missing = report["missing_keys"]
    if missing and _may_lack_pooler(stock_class) and all(key.startswith("pooler.") for key in missing):
        return stock_class.from_pretrained(name, output_loading_info=True, add_pooling_layer=False, **kwargs)
    return stock, report


def _refuse_spare_layers(stock: PreTrainedModel, unexpected: Iterable[str]) -> None:
    """Whole layers that are left out change the model, as the weights of another head do not."""
    known = {layer for name in stock.state_dict() for layer in _LAYER.findall(name)}
    spare = sorted({layer for name in unexpected for layer in _LAYER.findall(name)} - known)
    if spare:
        raise InteropError(
            f"the weights hold {', '.join(spare)}, but config.json has no such layers: the two files do not belong "
            "together, or one was edited"
        )


def _may_lack_pooler(stock_class: Any) -> bool:
    return "add_pooling_layer" in inspect.signature(stock_class.__init__).parameters


def _filled(model_class: Any, config: Any, tensors: Tensors, source: PreTrainedModel) -> PreTrainedModel:
    """A model of that class with those weights; what it computes by itself, it computes."""
    if source.device.type == "meta":
        raise InteropError("the model is on the device meta, where it has no weights: load them first")
    with local_torch_dtype(next(iter(tensors.values())).dtype):  # as from_pretrained, which keeps fixed tables in fp32
        model = model_class(config)
    lacking, unknown = model.load_state_dict(tensors, strict=False)
    lacking = [name for name in lacking if "embed_positions" not in name]
    if lacking or unknown:  # the rules are wrong, not the model
        raise RuntimeError(f"{type(model).__name__}: rules leave out {lacking} and make {unknown}")
    if model.can_generate() and source.generation_config is not None:
        model.generation_config = copy.deepcopy(source.generation_config)
    return model.to(source.device).eval()
