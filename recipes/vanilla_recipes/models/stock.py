"""Stock models of transformers: which models are stock, and what their classes and fields are called."""

from collections.abc import Mapping
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from vanilla_transformers import VanillaConfig, VanillaPreTrainedModel

# What stock configurations call the fields that can change when training goes on from a saved model.
STOCK_NAMES = {
    "hidden_dropout_prob": ("hidden_dropout_prob", "dropout", "resid_pdrop", "embd_pdrop", "seq_classif_dropout"),
    "attention_probs_dropout_prob": ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"),
    "label_smoothing": (),  # no stock model has it; it is kept beside their fields
}


# Where transformers publishes which class an Auto class makes of a configuration.
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
    """The classes that an Auto class makes, by the configuration; some have several."""
    return getattr(transformers, _MAPPINGS[auto_name])


def is_stock(model: PreTrainedModel) -> bool:
    """Whether a model is one of transformers' own rather than of this package."""
    return not isinstance(model, VanillaPreTrainedModel)


def set_field(config: PreTrainedConfig, name: str, value: Any) -> bool:
    """Sets a field of this package in a configuration, under the names that it has there; whether there are any."""
    if isinstance(config, VanillaConfig) or name == "label_smoothing":
        setattr(config, name, value)
        return True
    found = [stock_name for stock_name in STOCK_NAMES.get(name, ()) if hasattr(config, stock_name)]
    for stock_name in found:
        setattr(config, stock_name, value)
    return bool(found)
