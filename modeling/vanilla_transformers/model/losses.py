"""Losses whose gradient does not depend on how a batch is cut into micro-batches.

With `num_items_in_batch`, the number of targets in the whole optimizer step, a loss is the sum over its targets divided
by that number. Without it, a loss is the mean over its targets.
"""

from collections.abc import Sequence

import torch
from torch import nn

IGNORE_INDEX = -100


def reduce_loss(losses: torch.Tensor, num_targets: torch.Tensor | int, num_items_in_batch=None) -> torch.Tensor:
    """Sum of `losses` (any shape) divided by `num_items_in_batch` or, if that is `None`, by `num_targets`.

    If there is no target, the result is 0, not NaN.
    """
    return losses.sum() / loss_divisor(num_targets, num_items_in_batch, losses.device)


def loss_divisor(num_targets: torch.Tensor | int, num_items_in_batch, device: torch.device) -> torch.Tensor:
    """The divisor of `reduce_loss`, at least 1."""
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
    """Cross entropy in fp32, a scalar, with label smoothing as torch defines it: the mass is spread over all V classes.

    Args:
        logits: (..., V).
        labels: (...), class ids; -100 where there is no target.
        num_items_in_batch: Number of targets in the whole optimizer step.
        label_smoothing: Share of the probability mass that is spread (Szegedy et al. 2016; 2017 paper, section 5.4).

    Raises:
        ValueError: If a label is not a class id, or the shape of `labels` does not fit `logits`.
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
    """Flatten labels of the shape `shape` to class ids (N,).

    Raises:
        ValueError: If the labels have another shape, or are not integers.
    """
    shape = tuple(shape)
    _check_labels(labels, shape, *([(*shape, 1)] if len(shape) == 1 else []))
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels are {labels.dtype}, but class or token ids are needed: convert them with .long()")
    return labels.reshape(-1).long()


def out_of_range(labels: torch.Tensor, num_classes: int) -> ValueError:
    """The error to raise if a label is not a class id."""
    return ValueError(
        f"labels range from {labels.min()} to {labels.max()}, but there are {num_classes} classes or tokens, "
        f"and only {IGNORE_INDEX} marks a label to ignore: use the model's own tokenizer or label ids"
    )


def _check_labels(labels: torch.Tensor, *shapes: tuple[int, ...]) -> None:
    """Refuse labels of another shape, which would be compared with the wrong predictions."""
    if tuple(labels.shape) not in shapes:
        needed = " or ".join(str(tuple(map(int, shape))) for shape in shapes)
        raise ValueError(f"labels have the shape {tuple(labels.shape)}, but the predictions call for {needed}")


def shift_labels_left(labels: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Move each label (B, T) one position to the left, to the token that predicts it; -100 fills the last position.

    Raises:
        ValueError: If the labels do not have the given shape.
    """
    _check_labels(labels, tuple(shape))
    return nn.functional.pad(labels, (0, 1), value=IGNORE_INDEX)[..., 1:]


def shift_labels_right(
    labels: torch.Tensor, pad_token_id: int | None, decoder_start_token_id: int | None
) -> torch.Tensor:
    """Decoder input for labels (B, T): the start token, then all labels but the last; -100 becomes padding.

    Raises:
        ValueError: If `pad_token_id` or `decoder_start_token_id` is `None`.
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
    """Loss of one prediction for each sequence, of the type that `config.problem_type` sets.

    `"regression"`: squared error. `"single_label_classification"`: cross entropy. `"multi_label_classification"`:
    binary cross entropy of each class. If `config.problem_type` is `None`, it is set here: to regression if
    `num_labels` is 1, else to multi-label if the labels are floats, else to single-label classification.

    Args:
        logits: (B, num_labels).
        labels: (B,), or (B, num_labels) if a sequence has several classes or numbers.
    """
    labels = labels.to(logits.device)
    if config.problem_type is None:
        several = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
        config.problem_type = "regression" if config.num_labels == 1 else several
    if config.problem_type == "single_label_classification":
        return cross_entropy_loss(logits, labels, num_items_in_batch, label_smoothing)
    if config.problem_type == "regression":
        _check_labels(labels, tuple(logits.shape), *([tuple(logits.shape[:1])] if config.num_labels == 1 else []))
        losses = nn.functional.mse_loss(logits.view_as(labels).float(), labels.float(), reduction="none")
    else:
        _check_labels(labels, tuple(logits.shape))
        losses = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none")
    return reduce_loss(losses, losses.numel(), num_items_in_batch)


def span_loss(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    start_positions: torch.Tensor,
    end_positions: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Mean of the cross entropies of a span's start and end.

    A start or end outside the input or on padding is not a target. Probabilities are over positions that are not
    padding, so the width to which a batch is padded does not change the loss.

    Args:
        start_logits, end_logits: (B, S).
        start_positions, end_positions: (B,) or (B, 1).
        attention_mask: (B, S), 0 at padding; a mask of four dimensions is ignored.
        num_items_in_batch: Number of spans in the whole optimizer step.
        label_smoothing: Share of the probability mass that is spread over the positions that are not padding.
    """
    is_token = torch.ones_like(start_logits, dtype=torch.bool)
    if attention_mask is not None and attention_mask.ndim == 2:
        is_token = attention_mask.to(start_logits.device).bool()
    start_loss, end_loss = (
        _position_loss(logits, positions, is_token, num_items_in_batch, label_smoothing)
        for logits, positions in ((start_logits, start_positions), (end_logits, end_positions))
    )
    return (start_loss + end_loss) / 2


def _position_loss(logits, positions, is_token, num_items_in_batch, label_smoothing) -> torch.Tensor:
    """Cross entropy of one target position in each row. Only positions (B, S) where `is_token` is true are classes."""
    _check_labels(positions, tuple(logits.shape[:1]), (logits.shape[0], 1))
    positions = positions.reshape(-1, 1).to(logits.device)
    inside = positions.clamp(0, logits.shape[1] - 1)
    is_target = (positions == inside) & is_token.gather(1, inside)  # (B, 1)
    # Masked logits get the smallest number: with minus infinity, the gradient of a row of only padding would be NaN.
    log_probs = logits.float().masked_fill(~is_token, torch.finfo(torch.float32).min).log_softmax(-1)
    losses = -log_probs.gather(1, inside)
    if label_smoothing:
        spread = -log_probs.where(is_token, 0.0).sum(1, keepdim=True) / is_token.sum(1, keepdim=True).clamp(min=1)
        losses = (1 - label_smoothing) * losses + label_smoothing * spread
    return reduce_loss(losses.where(is_target, 0.0), is_target.sum(), num_items_in_batch)
