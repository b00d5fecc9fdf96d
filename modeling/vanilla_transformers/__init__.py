"""The original Transformer and its BERT- and GPT-style descendants as Hugging Face models.

Importing the package registers its classes with transformers' Auto classes, so that `AutoModel.from_pretrained` and the
other Auto classes load them.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from vanilla_transformers import releases  # noqa: F401  # first, to warn before an import below fails

# isort: split
import transformers

from vanilla_transformers import fast
from vanilla_transformers.model import modeling_decoder, modeling_encoder, modeling_seq2seq
from vanilla_transformers.model.base import VanillaPreTrainedModel
from vanilla_transformers.model.configuration_base import VanillaConfig
from vanilla_transformers.model.configuration_vanilla import (
    VanillaDecoderConfig,
    VanillaEncoderConfig,
    VanillaSeq2SeqConfig,
)
from vanilla_transformers.model.modeling_decoder import (
    VanillaDecoderForCausalLM,
    VanillaDecoderForSequenceClassification,
    VanillaDecoderForTokenClassification,
    VanillaDecoderModel,
)
from vanilla_transformers.model.modeling_encoder import (
    VanillaEncoderForMaskedLM,
    VanillaEncoderForMultipleChoice,
    VanillaEncoderForQuestionAnswering,
    VanillaEncoderForSequenceClassification,
    VanillaEncoderForTokenClassification,
    VanillaEncoderModel,
)
from vanilla_transformers.model.modeling_seq2seq import (
    VanillaSeq2SeqForConditionalGeneration,
    VanillaSeq2SeqModel,
)

if TYPE_CHECKING:
    from vanilla_transformers.inspection.attention_maps import attention_maps
    from vanilla_transformers.interop import convert
    from vanilla_transformers.text.pipelines import pipeline

__version__ = "0.1.0"


def _register() -> None:
    """Registers all configurations and models with the Auto classes of transformers.

    `family_auto_map` of a configuration names the Auto class of each model. `register_for_auto_class` makes
    `save_pretrained` copy the Python files of a class into the model folder.
    """
    for module in (modeling_seq2seq, modeling_encoder, modeling_decoder):
        classes = {name: getattr(module, name) for name in module.__all__}
        config = next(iter(classes.values())).config_class
        transformers.AutoConfig.register(config.model_type, config, exist_ok=True)
        config.register_for_auto_class()
        for auto_name, path in config.family_auto_map.items():
            if auto_name != "AutoConfig":
                model = classes[path.rsplit(".", 1)[1]]
                getattr(transformers, auto_name).register(config, model, exist_ok=True)
                model.register_for_auto_class(auto_name)


_register()
if os.environ.get("VANILLA_TRANSFORMERS_FAST") != "0":  # 0, to see whether a fast function causes an error
    fast.plug_in()

_LAZY = {
    "attention_maps": "vanilla_transformers.inspection.attention_maps",
    "convert": "vanilla_transformers.interop",
    "pipeline": "vanilla_transformers.text.pipelines",
    "publish": "vanilla_recipes.publishing.publication",
}
"""Public functions that are imported on first use, and their modules. No module may have the name of its function,
because importing the module would replace the function."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


__all__ = [
    "VanillaConfig",
    "VanillaDecoderConfig",
    "VanillaDecoderForCausalLM",
    "VanillaDecoderForSequenceClassification",
    "VanillaDecoderForTokenClassification",
    "VanillaDecoderModel",
    "VanillaEncoderConfig",
    "VanillaEncoderForMaskedLM",
    "VanillaEncoderForMultipleChoice",
    "VanillaEncoderForQuestionAnswering",
    "VanillaEncoderForSequenceClassification",
    "VanillaEncoderForTokenClassification",
    "VanillaEncoderModel",
    "VanillaPreTrainedModel",
    "VanillaSeq2SeqConfig",
    "VanillaSeq2SeqForConditionalGeneration",
    "VanillaSeq2SeqModel",
    "attention_maps",
    "convert",
    "pipeline",
    "publish",  # a function of vanilla_recipes, which depends on this package
]
