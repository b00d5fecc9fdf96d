"""The forward pass of a training or scoring step: the loss of a batch, and its logits.

transformers' own models (called stock models in the code) are trained with the losses of this package too, label
smoothing included. Only the logits of these models are used. The reason: in transformers, the losses of Marian, BART
and all classifiers are means over the targets of one micro-batch. Such means do not add up to the loss of the batch.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from vanilla_recipes.engine.task import Batch
from vanilla_recipes.models.stock import is_stock
from vanilla_transformers.model.losses import cross_entropy_loss, shift_labels_right


def training_loss(model: PreTrainedModel, batch: Batch, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    """The loss of a micro-batch: summed over its targets, divided by the number of targets of the optimizer step.

    Args:
        model: one of this package's models, or one of transformers' own models.
        batch: the micro-batch.
        num_items_in_batch: number of targets of the optimizer step, over all micro-batches and processes.
    """
    if not is_stock(model):
        options = {"return_logits": False} if "return_logits" in _arguments(type(model).forward) else {}
        return model(**batch, num_items_in_batch=num_items_in_batch, **options).loss
    labels = batch["shift_labels"] if "shift_labels" in batch else batch["labels"]
    label_smoothing = getattr(model.config, "label_smoothing", 0.0) if model.training else 0.0
    return cross_entropy_loss(logits_of(model, batch), labels, num_items_in_batch, label_smoothing)


def logits_of(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """The logits of a batch, aligned with its `labels` or `shift_labels`."""
    if not is_stock(model):
        return model(**batch).logits
    inputs = {name: tensor for name, tensor in batch.items() if name not in ("labels", "shift_labels")}
    positions = inputs.pop("masked_positions", None)
    labels = batch.get("labels")
    if model.config.is_encoder_decoder and labels is not None and labels.ndim == 2:
        start, pad = model.config.decoder_start_token_id, model.config.pad_token_id
        inputs.setdefault("decoder_input_ids", shift_labels_right(labels, pad, start))
    known = _arguments(type(model).forward)
    inputs = {name: tensor for name, tensor in inputs.items() if name in known}
    logits = model(**inputs, **({"use_cache": False} if "use_cache" in known else {})).logits
    return logits if positions is None else logits.flatten(0, 1)[positions]


@functools.cache
def _arguments(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)
