"""Undocumented names of transformers. Each is looked up once here, with a fallback that needs only public names.

A later release may remove any of these names, and a saved model may be loaded under that release.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import transformers
from torch import nn
from transformers.utils import can_return_tuple, logging

logger = logging.get_logger(__name__)


def find(path: str, *names: str) -> Any:
    """Import the module `path` and look up `names` in it, one inside the other; `None` if any of them is missing."""
    try:
        found: Any = importlib.import_module(path)
    except ImportError:
        return None
    for name in names:
        found = getattr(found, name, None)
    return found


_capture_outputs = find("transformers.utils.output_capturing", "capture_outputs")
_OutputRecorder = find("transformers.utils.output_capturing", "OutputRecorder")
_causal_models = find("transformers.models.auto.modeling_auto", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
_merge = find("transformers.utils.generic", "merge_with_config_defaults")
merge_with_config_defaults: Callable[..., Any] = _merge or (lambda forward: forward)
"""transformers' decorator that takes `use_cache` and `is_causal` from the configuration if a call does not set them."""


def let_trainer_shift_labels(model_class: type) -> None:
    """Add a causal language model to the table by which `transformers.Trainer` decides to shift labels.

    With `label_smoothing_factor` the Trainer computes the loss itself. If the class is not in the table, the Trainer
    does not shift the labels: the model learns to repeat its input, and no metric shows the error.
    """
    if _causal_models is not None:
        _causal_models.setdefault(f"{model_class.__module__}.{model_class.__qualname__}", model_class.__name__)
        return
    logger.warning(
        f"transformers {transformers.__version__} has no table of causal models any more: its Trainer may smooth the "
        f"labels of {model_class.__name__} without shifting them; set label_smoothing in the model's config instead"
    )


def capture_outputs(forward: Callable[..., Any]) -> Callable[..., Any]:
    """transformers' decorator that adds `hidden_states` and `attentions` to the output of a stack.

    If transformers has no such decorator, `output_hidden_states` and `output_attentions` raise a `ValueError`.
    """
    if _capture_outputs is not None:
        return _capture_outputs(forward)
    forward = can_return_tuple(forward)

    @functools.wraps(forward)
    def wrapped(self, *args, **kwargs):
        for name in ("output_hidden_states", "output_attentions"):
            if kwargs.pop(name, None) or getattr(self.config, name, False):
                raise ValueError(
                    f"{name}=True cannot be had: the installed transformers has no capture_outputs any more; leave it "
                    "out, or install a newer vanilla_transformers"
                )
        return forward(self, *args, **kwargs)

    return wrapped


def output_recorder(module_class: type[nn.Module], index: int, layer_name: str) -> Any:
    """Declare which output of a module class `capture_outputs` records, if the module has this name in its layer."""
    return None if _OutputRecorder is None else _OutputRecorder(module_class, index=index, layer_name=layer_name)
