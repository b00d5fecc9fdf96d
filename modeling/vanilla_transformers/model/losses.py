"""Losses that give the same gradient however a batch is cut into micro-batches.

With `num_items_in_batch`, the number of targets in the whole optimizer step, each loss is a sum over its targets
divided by that number; without it, a mean over the targets at hand.
"""

from collections.abc import Sequence

import torch
from torch import nn

IGNORE_INDEX = -100


def reduce_loss(losses: torch.Tensor, num_targets: torch.Tensor | int, num_items_in_batch=None) -> torch.Tensor:
    """Sum of `losses` (any shape) over `num_items_in_batch`, or over `num_targets` where that is `None`.

    Without a single target the result is 0 rather than NaN.
    """
    return losses.sum() / loss_divisor(num_targets, num_items_in_batch, losses.device)


def loss_divisor(num_targets: torch.Tensor | int, num_items_in_batch, device: torch.device) -> torch.Tensor:
    """What `reduce_loss` divides by."""
    divisor = num_targets if num_items_in_batch is None else num_items_in_batch
    if not torch.is_tensor(divisor):
        divisor = torch.tensor(divisor)
    return divisor.to(device).clamp(min=1)


def cross_entropy_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross entropy in fp32 with label smoothing as torch defines it: its mass is spread over all classes.

    Args:
        logits: (..., C).
        labels: (...), class ids; -100 marks what is no target.
        num_items_in_batch: Number of targets in the whole optimizer step.
        label_smoothing: Share of the mass that is spread (Szegedy et al. 2016; 2017 paper, section 5.4).

    Returns:
        A scalar.

    Raises:
        ValueError: A label is no class, or there is not one label for each target.
    """
    labels = flat_labels(labels, logits.shape[:-1]).to(logits.device)
    try:
        losses = nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]).float(),
            labels,
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=label_smoothing,
        )
    except IndexError:
        raise out_of_range(labels, logits.shape[-1]) from None
    return reduce_loss(losses, labels.ne(IGNORE_INDEX).sum(), num_items_in_batch)


def flat_labels(labels: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The class ids (N,) of predictions of a shape, which `labels` must have too.

    Raises:
        ValueError: They have another shape, or are no ids.
    """
    shape = tuple(shape)
    _check_labels(labels, shape, *([(*shape, 1)] if len(shape) == 1 else []))
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels are {labels.dtype}, but class or token ids are needed: convert them with .long()")
    return labels.reshape(-1).long()


def out_of_range(labels: torch.Tensor, num_classes: int) -> ValueError:
    """What is to be raised where a label is no class."""
    return ValueError(
        f"labels range from {labels.min()} to {labels.max()}, but there are {num_classes} classes or tokens, "
        f"and only {IGNORE_INDEX} marks what is no target: use the model's own tokenizer or label ids"
    )


def _check_labels(labels: torch.Tensor, *shapes: tuple[int, ...]) -> None:
    """Refuse labels that would be matched with other predictions than theirs, or with none."""
    if tuple(labels.shape) not in shapes:
        needed = " or ".join(str(tuple(map(int, shape))) for shape in shapes)
        raise ValueError(f"labels have the shape {tuple(labels.shape)}, but the predictions call for {needed}")


def shift_labels_left(labels: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The labels (B, T) of an input of that shape, each moved to the token before it, which predicts it.

    Raises:
        ValueError: They have another shape.
    """
    _check_labels(labels, tuple(shape))
    return nn.functional.pad(labels, (0, 1), value=IGNORE_INDEX)[..., 1:]


def shift_labels_right(
    labels: torch.Tensor, pad_token_id: int | None, decoder_start_token_id: int | None
) -> torch.Tensor:
    """The decoder's input for labels (B, T): each moved to the token after it, behind the start token.

    Ignored labels become padding.

    Raises:
        ValueError: A special id is missing.
    """
    if pad_token_id is None or decoder_start_token_id is None:
        name = "pad_token_id" if pad_token_id is None else "decoder_start_token_id"
        raise ValueError(
            f"{name} is None, but labels are turned into decoder input with it: set config.{name} to the tokenizer's "
            "id, or give decoder_input_ids"
        )
    shifted = labels.roll(1, dims=-1)
    shifted[:, 0] = decoder_start_token_id
    return shifted.masked_fill(shifted == IGNORE_INDEX, pad_token_id)


def sequence_classification_loss(
    logits: torch.Tensor, labels: torch.Tensor, config, num_items_in_batch=None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Loss of one prediction a sequence.

    `config.problem_type` decides, and is set from the labels where it is `None`: squared error for one label a row of
    floats (`"regression"`), cross entropy for class ids (`"single_label_classification"`), else binary cross entropy
    of each class (`"multi_label_classification"`).

    Args:
        logits: (B, num_labels).
        labels: (B,) or, for several labels a row, (B, num_labels).
    """
    labels = labels.to(logits.device)
    if config.problem_type is None:
        config.problem_type = _problem_type(config.num_labels, labels)
    if config.problem_type == "single_label_classification":
        return cross_entropy_loss(logits, labels, num_items_in_batch, label_smoothing)
    if config.problem_type == "regression":
        _check_labels(labels, tuple(logits.shape), *([tuple(logits.shape[:1])] if config.num_labels == 1 else []))
        losses = nn.functional.mse_loss(logits.view_as(labels).float(), labels.float(), reduction="none")
    else:
        _check_labels(labels, tuple(logits.shape))
        losses = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none")
    return reduce_loss(losses, losses.numel(), num_items_in_batch)


def _problem_type(num_labels: int, labels: torch.Tensor) -> str:
    if num_labels == 1:
        return "regression"
    return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"


def span_loss(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    start_positions: torch.Tensor,
    end_positions: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Mean of the cross entropies of a span's two ends; an end outside the input or on padding is no target.

    Padding is no place where a span could end, so the width to which a batch is padded does not change the loss.

    Args:
        start_logits, end_logits: (B, S).
        start_positions, end_positions: (B,) or (B, 1).
        attention_mask: (B, S), 0 at padding; one of four dimensions says nothing of it.
        num_items_in_batch: Number of spans in the whole optimizer step.
        label_smoothing: Share of the mass that is spread over the places that are not padding.
    """
    is_place = torch.ones_like(start_logits, dtype=torch.bool)
    if attention_mask is not None and attention_mask.ndim == 2:
        is_place = attention_mask.to(start_logits.device).bool()
    start_loss, end_loss = (
        _place_loss(logits, places, is_place, num_items_in_batch, label_smoothing)
        for logits, places in ((start_logits, start_positions), (end_logits, end_positions))
    )
    return (start_loss + end_loss) / 2


def _place_loss(logits, places, is_place, num_items_in_batch, label_smoothing) -> torch.Tensor:
    """Cross entropy over the places of a row (B, S) where `is_place`; `places` holds one of them a row."""
    _check_labels(places, tuple(logits.shape[:1]), (logits.shape[0], 1))
    places = places.reshape(-1, 1).to(logits.device)
    inside = places.clamp(0, logits.shape[1] - 1)
    is_target = (places == inside) & is_place.gather(1, inside)  # (B, 1)
    # Not minus infinity, whose gradient is NaN in a row of padding alone.
    log_probs = logits.float().masked_fill(~is_place, torch.finfo(torch.float32).min).log_softmax(-1)
    losses = -log_probs.gather(1, inside)
    if label_smoothing:
        spread = -log_probs.where(is_place, 0.0).sum(1, keepdim=True) / is_place.sum(1, keepdim=True).clamp(min=1)
        losses = (1 - label_smoothing) * losses + label_smoothing * spread
    return reduce_loss(losses.where(is_target, 0.0), is_target.sum(), num_items_in_batch)
