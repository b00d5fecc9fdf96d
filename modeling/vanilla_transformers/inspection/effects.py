"""Measures the loss of a model on a text, and its change without each head. This code is not saved with models.

Shapes: H heads, V vocabulary or classes, R rows on which a loss is measured, N predictions of a row, S source length,
T target length (or the length of the only sequence), D width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

from vanilla_transformers.inspection.passages import Passage
from vanilla_transformers.inspection.probe import Head, Probe, Site, probing
from vanilla_transformers.model.losses import IGNORE_INDEX, shift_labels_left

NUM_MASKED = 8
"""The largest number of tokens that are masked, one in each copy of the text, to measure a masked language model."""

_LOGITS_AT_ONCE = 1 << 26  # maximum number of logits of a forward pass: 256 MiB in fp32


class Measure(NamedTuple):
    """How a loss is measured.

    Attributes:
        meaning: the definition of the loss in words.
        inputs: the inputs of the model, (R, ...) each.
        labels: (R,) or (R, N), -100 where nothing is predicted.
        logits: (R, V) or (R, N, V) of the model with all heads, or `None` if they are not computed yet.
    """

    meaning: str
    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    logits: torch.Tensor | None = None


# The loss


def forward(model: PreTrainedModel, inputs: dict[str, Any]) -> Any:
    """The outputs of a forward pass without a cache, by name."""
    without_cache = {"use_cache": False} if hasattr(model.config, "use_cache") else {}
    return model(**inputs, **without_cache, return_dict=True)


def _logits(outputs: Any) -> torch.Tensor | None:
    """The logits (R, V) or (R, N, V); of a span head (R, 2, T), start and end; `None` for a model without a head."""
    if "start_logits" in outputs:
        return torch.stack((outputs["start_logits"], outputs["end_logits"]), dim=1)
    return outputs.get("logits")


def measure_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    passage: Passage,
    outputs: Any,
    sites: Sequence[Site],
) -> Measure | str:
    """How the loss is measured, or why it cannot be measured. `outputs` come from the model with all heads."""
    logits = _logits(outputs)
    if logits is None:
        return "no loss: the model has no prediction head"
    if model.get_output_embeddings() is None:
        return _prediction_measure(model, passage, logits)
    if passage.labels is not None:
        return Measure("mean -log p of the target's tokens", passage.inputs, passage.labels, logits)
    if any(site.kind == "decoder" for site in sites):
        labels = shift_labels_left(passage.inputs["input_ids"], logits.shape[:-1])
        if labels.shape[1] < 2:
            return "no loss: a text of one token has no next token"
        return Measure("mean -log p of each token given the tokens before it", passage.inputs, labels, logits)
    return masked_measure(tokenizer, passage)


def _prediction_measure(model: PreTrainedModel, passage: Passage, logits: torch.Tensor) -> Measure | str:
    problem_type = getattr(model.config, "problem_type", None)
    if logits.shape[-1] == 1 or problem_type in ("regression", "multi_label_classification"):
        return "no loss: the model does not choose one class, so its prediction cannot be used as the label"
    labels = logits.argmax(-1)
    what = "mean -log p of the predictions with all attention heads"
    names: Any = model.config.id2label
    if labels.ndim == 1 and names:
        what = f"-log p of the class that the model predicts with all attention heads, {names[int(labels[0])]}"
    return Measure(what, passage.inputs, labels, logits)


def masked_measure(tokenizer: PreTrainedTokenizerBase, passage: Passage) -> Measure | str:
    """How the loss of masked tokens is measured: at most `NUM_MASKED` copies of the text, with one mask per copy."""
    if tokenizer.mask_token_id is None:
        return "no loss: the tokenizer has no mask token"
    ids = passage.inputs["input_ids"]  # (1, T)
    special = tokenizer.get_special_tokens_mask(ids[0].tolist(), already_has_special_tokens=True)
    ordinary = torch.tensor([index for index, is_special in enumerate(special) if not is_special], device=ids.device)
    count = min(NUM_MASKED, len(ordinary))
    spread = ((torch.arange(count, device=ids.device) + 0.5) * len(ordinary) / count).long()
    positions = ordinary[spread]  # (R,)
    masked = torch.arange(ids.shape[1], device=ids.device) == positions[:, None]  # (R, T)
    inputs = {name: tensor.repeat(count, 1) for name, tensor in passage.inputs.items()}
    inputs["input_ids"] = inputs["input_ids"].masked_fill(masked, tokenizer.mask_token_id)
    labels = ids.repeat(count, 1).masked_fill(~masked, IGNORE_INDEX)
    meaning = f"mean -log p of {count} tokens spread over the text, each masked in turn (pseudo-likelihood)"
    return Measure(meaning, inputs, labels)


def row_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean cross entropy (R,) of each row in nats, summed in fp64.

    Args:
        logits: (R, V) or (R, N, V).
        labels: (R,) or (R, N), -100 where nothing is predicted.
    """
    losses = nn.functional.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="none"
    )
    num_rows = labels.shape[0]
    counts = labels.reshape(num_rows, -1).ne(IGNORE_INDEX).sum(1)
    return losses.double().view(num_rows, -1).sum(1) / counts


# The heads


def effects_of(
    model: PreTrainedModel,
    chosen: Sequence[tuple[Site, list[int]]],
    measure: Measure,
    outputs: Any,
    progress: bool,
) -> tuple[float, dict[Head, float]]:
    """The loss of the model with all heads, and the increase of the loss for each head that is switched off alone."""
    most = max(1, _LOGITS_AT_ONCE // _logits(outputs)[0].numel())  # type: ignore[index]
    if model.get_output_embeddings() is None and model.config.pad_token_id is None:
        most = 1  # without a padding token, transformers' decoder classifiers accept only one row
    encoded = outputs.get("encoder_last_hidden_state") if model.config.is_encoder_decoder else None
    if measure.logits is not None:
        loss = row_losses(measure.logits, measure.labels).mean().item()
    else:
        (loss,) = _losses_without(model, chosen[0][0], [None], measure, None, most)
    changes: dict[Head, float] = {}
    for site, heads in tqdm(chosen, unit=" layers", leave=False, disable=not progress):
        states = None if site.kind == "encoder" else encoded
        losses = _losses_without(model, site, heads, measure, states, most)
        changes |= {
            Head(site.kind, site.layer, head): without - loss for head, without in zip(heads, losses, strict=True)
        }
    return loss, changes


def _losses_without(
    model: PreTrainedModel,
    site: Site,
    heads: Sequence[int | None],
    measure: Measure,
    encoded: torch.Tensor | None,
    most: int,
) -> list[float]:
    """The losses of the model if heads of one attention module are switched off, one head at a time.

    Args:
        model: the model.
        site: the attention module.
        heads: the heads that are switched off; `None` stands for the model with all heads.
        measure: how the loss is measured.
        encoded: the output (1, S, D) of the encoder with all heads, to be reused; `None` to run the encoder.
        most: the largest number of rows of a forward pass.

    Returns:
        A loss in nats for each of `heads`.
    """
    num_rows = len(measure.labels)
    pairs = [(head, row) for head in heads for row in range(num_rows)]
    losses = []
    for start in range(0, len(pairs), most):
        part = pairs[start : start + most]
        rows = torch.tensor([row for _, row in part], device=measure.labels.device)
        off = torch.zeros(len(part), site.num_heads, dtype=torch.bool, device=rows.device)
        for position, (head, _) in enumerate(part):
            if head is not None:
                off[position, head] = True
        inputs: dict[str, Any] = {name: tensor[rows] for name, tensor in measure.inputs.items()}
        if encoded is not None:
            inputs = {name: inputs[name] for name in ("attention_mask", "decoder_input_ids")}
            inputs["encoder_outputs"] = BaseModelOutput(last_hidden_state=encoded[rows])
        with probing(model, {site.module: Probe(off=off)}):
            logits = _logits(forward(model, inputs))
        losses.append(row_losses(logits, measure.labels[rows]))  # type: ignore[arg-type]
    return torch.cat(losses).view(len(heads), num_rows).mean(1).tolist()
