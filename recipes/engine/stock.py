"""Trains the stock models of transformers as they are, with the losses of this package.

Their own losses do not all add up over micro-batches: Marian, BART and every classifier take the mean over the targets
at hand. So their logits are used alone, and the losses of this package on them, label smoothing included.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from vanilla_transformers import VanillaConfig, VanillaPreTrainedModel
from vanilla_transformers.losses import IGNORE_INDEX, cross_entropy_loss
from vanilla_transformers.recipes.engine.task import Batch

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


def training_loss(model: PreTrainedModel, batch: Batch, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    """The loss of a batch, summed over its targets and divided by those of the whole optimizer step."""
    if not is_stock(model):
        options = {"return_logits": False} if "return_logits" in _arguments(type(model).forward) else {}
        return model(**batch, num_items_in_batch=num_items_in_batch, **options).loss
    labels = batch["shift_labels"] if "shift_labels" in batch else batch["labels"]
    label_smoothing = getattr(model.config, "label_smoothing", 0.0) if model.training else 0.0
    return cross_entropy_loss(logits_of(model, batch), labels, num_items_in_batch, label_smoothing)


def logits_of(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """What a model predicts for the targets of a batch: the logits that `labels` or `shift_labels` are aligned with."""
    if not is_stock(model):
        return model(**batch).logits
    inputs = {name: tensor for name, tensor in batch.items() if name not in ("labels", "shift_labels")}
    positions = inputs.pop("masked_positions", None)
    labels = batch.get("labels")
    if model.config.is_encoder_decoder and labels is not None and labels.ndim == 2:
        inputs.setdefault("decoder_input_ids", _shifted(model.config, labels))
    known = _arguments(type(model).forward)
    inputs = {name: tensor for name, tensor in inputs.items() if name in known}
    logits = model(**inputs, **({"use_cache": False} if "use_cache" in known else {})).logits
    return logits if positions is None else logits.flatten(0, 1)[positions]


@functools.cache
def _arguments(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)


def _shifted(config: PreTrainedConfig, labels: torch.Tensor) -> torch.Tensor:
    """The decoder's inputs for labels (B, T): they begin with the start token, as in `generate`."""
    shifted = torch.cat((labels.new_full((len(labels), 1), config.decoder_start_token_id), labels[:, :-1]), dim=1)
    return shifted.masked_fill(shifted == IGNORE_INDEX, config.pad_token_id)
