"""Converts models in memory between transformers' classes and ours. The values of the weights do not change."""

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
"""The architectures that can be converted, by their `model_type` in transformers."""

# The part of a weight's name that identifies its layer, such as encoder.layer.11 or h.0.
_LAYER = re.compile(r"(?:(?:encoder|decoder|transformer)\.)?(?:layers?|h)\.\d+(?=\.)")
_WITH_SAME_HEAD = {"BertForPreTraining": "BertForMaskedLM"}


def architecture_of(model_type: str) -> Architecture:
    """The `Architecture` that converts a model type of transformers.

    Raises:
        InteropError: If the model type is not supported.
    """
    if model_type not in ARCHITECTURES:
        raise InteropError(
            f"model_type is {model_type!r}, which cannot be converted; supported are {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[model_type]


def stock_head(architecture: Architecture, class_name: str) -> str:
    """The task name of a transformers class, such as `"masked-lm"`.

    Raises:
        InteropError: If none of our classes corresponds to the transformers class.
    """
    class_name = _WITH_SAME_HEAD.get(class_name, class_name)
    for head, classes in architecture.heads.items():
        if classes.theirs == class_name:
            return head
    known = ", ".join(f"{classes.theirs} ({head})" for head, classes in architecture.heads.items())
    raise InteropError(
        f"{class_name} has no counterpart here; the {architecture.model_type} classes that can be converted are {known}"
    )


def class_for_head(config: PreTrainedConfig, head: str | None = None) -> type[PreTrainedModel]:
    """The transformers class with which a checkpoint is loaded.

    Args:
        config: the transformers configuration.
        head: the task name; by default the task of the class that the configuration names. If the configuration names
            no class, the default is the model without a head, or the first head if `"base"` is not supported.

    Raises:
        InteropError: If the model type has no such head, or the class that the configuration names is not supported.
    """
    architecture = architecture_of(config.model_type)
    if head is not None:
        if head not in architecture.heads:
            raise InteropError(f"--head {head}: a {config.model_type} has the heads {', '.join(architecture.heads)}")
        return architecture.heads[head].stock_class
    names = config.architectures or [architecture.heads.get("base", next(iter(architecture.heads.values()))).theirs]
    return architecture.heads[stock_head(architecture, names[0])].stock_class


def our_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Our model class that one of our configurations names in `architectures`.

    Raises:
        InteropError: If the configuration names no class, or a class that cannot be converted.
    """
    classes = {each.ours.__name__: each.ours for every in ARCHITECTURES.values() for each in every.heads.values()}
    name = (config.architectures or [""])[0]
    if name not in classes:
        raise InteropError(
            f"the class in config.json (architectures) is {name!r}, but must be one of {', '.join(classes)}"
        )
    return classes[name]


def our_head(architecture: Architecture, model: PreTrainedModel) -> str:
    """The task name of one of our models, such as `"masked-lm"`.

    Raises:
        InteropError: If the transformers architecture has no such head.
    """
    for head, classes in architecture.heads.items():
        if type(model) is classes.ours:
            return head
    known = ", ".join(classes.ours.__name__ for classes in architecture.heads.values())
    raise InteropError(f"a {type(model).__name__} cannot become a {architecture.model_type}; only {known} can")


def from_stock(stock: PreTrainedModel) -> PreTrainedModel:
    """Converts a transformers model to our model of the same dtype and device, in evaluation mode. Weights are copied.

    Raises:
        InteropError: If our model cannot express a property or a weight of the transformers model. The message names
            the property or the weight.
    """
    architecture = architecture_of(stock.config.model_type)
    head = stock_head(architecture, type(stock).__name__)
    try:
        config: Any = architecture.config_class(**architecture.config_in(stock, head))
    except StrictDataclassError as error:
        raise InteropError(str(error.__cause__ or error)) from error
    return _filled(architecture.heads[head].ours, config, tensors_in(architecture, config, stock, head), stock)


def to_stock(model: PreTrainedModel, model_type: str) -> PreTrainedModel:
    """Converts our model to a transformers model of the same dtype and device, in evaluation mode. Weights are copied.

    Raises:
        InteropError: If the transformers model cannot express a property or a weight of our model. The message names
            the property or the weight.
    """
    architecture = architecture_of(model_type)
    head = our_head(architecture, model)
    ours: Any = model.config
    try:
        config = AutoConfig.for_model(model_type, **architecture.config_out(ours, head))
    except StrictDataclassError as error:  # only the message of the cause describes the problem
        raise InteropError(str(error.__cause__ or error)) from error
    stock_class: Any = architecture.heads[head].stock_class
    if head == "base" and _may_lack_pooler(stock_class) and not ours.pooler:
        stock_class = functools.partial(stock_class, add_pooling_layer=False)
    return _filled(stock_class, config, tensors_out(architecture, model, config, head), model)


def tensors_in(architecture: Architecture, config: Any, stock: PreTrainedModel, head: str) -> Tensors:
    """The weights of a transformers model, converted to the state dict of one of our models.

    Args:
        architecture: the architecture of the transformers model.
        config: our configuration.
        stock: the transformers model.
        head: the task name.

    Raises:
        InteropError: If a weight is missing, has no counterpart in our model, or has values that our model cannot
            express.
    """
    tensors = carry_in(architecture.rules(config, stock.config, head), stock.state_dict())
    if is_permuted(stock.config):
        tensors = permute_width(tensors, to_halves(config.hidden_size).argsort())
    return tensors


def tensors_out(architecture: Architecture, ours: PreTrainedModel, config: Any, head: str) -> Tensors:
    """The weights of our model, converted to the state dict of a transformers model with the configuration `config`.

    Raises:
        InteropError: As in `tensors_in`, in the other direction.
    """
    tensors: Tensors = dict(ours.state_dict())
    if is_permuted(config):
        tensors = permute_width(tensors, to_halves(ours.config.hidden_size))
    return carry_out(architecture.rules(ours.config, config, head), tensors)


def load_stock(stock_class: Any, name: str, **kwargs: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Loads a transformers model and returns the model and the loading report of `from_pretrained`.

    If the checkpoint of an encoder without a head has no pooler, the model is loaded without a pooler.

    Args:
        stock_class: the class to load.
        name: a model folder, or the name of a model on the Hub.
        kwargs: passed to `from_pretrained`.

    Raises:
        InteropError: If the checkpoint has more layers than its configuration.
    """
    stock, report = stock_class.from_pretrained(name, output_loading_info=True, **kwargs)
    _refuse_spare_layers(stock, report["unexpected_keys"])
    missing = report["missing_keys"]
    if missing and _may_lack_pooler(stock_class) and all(key.startswith("pooler.") for key in missing):
        return stock_class.from_pretrained(name, output_loading_info=True, add_pooling_layer=False, **kwargs)
    return stock, report


def _refuse_spare_layers(stock: PreTrainedModel, unexpected: Iterable[str]) -> None:
    """Raises an error if the checkpoint has layers that the model lacks.

    Leaving out a layer would change the outputs. Leaving out the weights of an unused head does not.
    """
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
    """Builds a model from its class, configuration and weights, with the device and generation settings of `source`.

    Weights named `embed_positions` may be missing from `tensors`, because the class computes its sinusoids.
    """
    if source.device.type == "meta":
        raise InteropError("the model is on the device meta, where it has no weights: load them first")
    # As in `from_pretrained`, the default dtype is set while the model is built. Position tables that the class
    # computes then stay in fp32.
    with local_torch_dtype(next(iter(tensors.values())).dtype):
        model = model_class(config)
    lacking, unknown = model.load_state_dict(tensors, strict=False)
    lacking = [name for name in lacking if "embed_positions" not in name]
    if lacking or unknown:  # a bug in the conversion rules, not in the model
        raise RuntimeError(f"{type(model).__name__}: the rules leave out {lacking} and write unknown weights {unknown}")
    if model.can_generate() and source.generation_config is not None:
        model.generation_config = copy.deepcopy(source.generation_config)
    return model.to(source.device).eval()
