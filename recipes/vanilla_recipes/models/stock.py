"""transformers' own models, called stock models in the code: how to recognize them, their classes and config fields."""

from collections.abc import Mapping
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from vanilla_transformers import VanillaConfig, VanillaPreTrainedModel

# Field that can change when training starts from a saved model -> names of the field in configs of transformers.
STOCK_NAMES = {
    "hidden_dropout_prob": ("hidden_dropout_prob", "dropout", "resid_pdrop", "embd_pdrop", "seq_classif_dropout"),
    "attention_probs_dropout_prob": ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"),
    "label_smoothing": (),  # no config of transformers has this field; `set_field` adds it
}


# Auto class -> the mapping in transformers from config classes to the model classes that the Auto class makes.
_MAPPINGS = {
    "AutoModel": "MODEL_MAPPING",
    "AutoModelForCausalLM": "MODEL_FOR_CAUSAL_LM_MAPPING",
    "AutoModelForMaskedLM": "MODEL_FOR_MASKED_LM_MAPPING",
    "AutoModelForMultipleChoice": "MODEL_FOR_MULTIPLE_CHOICE_MAPPING",
    "AutoModelForQuestionAnswering": "MODEL_FOR_QUESTION_ANSWERING_MAPPING",
    "AutoModelForSeq2SeqLM": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "AutoModelForSequenceClassification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "AutoModelForTokenClassification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING",
}


def classes_of(auto_name: str) -> Mapping[type[PreTrainedConfig], Any]:
    """The model classes that an Auto class makes, by config class. A config class may have several model classes."""
    return getattr(transformers, _MAPPINGS[auto_name])


def is_stock(model: PreTrainedModel) -> bool:
    """Whether a model is one of transformers' own models, and not a model of this package."""
    return not isinstance(model, VanillaPreTrainedModel)


def set_field(config: PreTrainedConfig, name: str, value: Any) -> bool:
    """Sets a config field, by its name in this package; returns whether the config has this field.

    In a config of transformers, the field is set under the names in `STOCK_NAMES`.
    """
    if isinstance(config, VanillaConfig) or name == "label_smoothing":
        setattr(config, name, value)
        return True
    found = [stock_name for stock_name in STOCK_NAMES.get(name, ()) if hasattr(config, stock_name)]
    for stock_name in found:
        setattr(config, stock_name, value)
    return bool(found)
