"""Losses that give the same gradient however a batch is cut into micro-batches.

With `num_items_in_batch`, the number of targets in the whole optimizer step, each loss is a sum over its targets
divided by that number; without it, a mean over the targets at hand.
"""

import torch
from torch import nn

IGNORE_INDEX = -100


def reduce_loss(losses: torch.Tensor, num_targets: torch.Tensor | int, num_items_in_batch=None) -> torch.Tensor:
    """Sum of `losses` (any shape) over `num_items_in_batch`, or over `num_targets` where that is `None`.

    Without a single target the result is 0 rather than NaN.
    """
    divisor = num_targets if num_items_in_batch is None else num_items_in_batch
    if not torch.is_tensor(divisor):
        divisor = torch.tensor(divisor)
    return losses.sum() / divisor.to(losses.device).clamp(min=1)


def cross_entropy_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = IGNORE_INDEX,
) -> torch.Tensor:
    """Cross entropy in fp32 with label smoothing as torch defines it: its mass is spread over all classes.

    Args:
        logits: (..., C).
        labels: (...), class ids; `ignore_index` marks what is no target.
        num_items_in_batch: Number of targets in the whole optimizer step.
        label_smoothing: Share of the mass that is spread (Szegedy et al. 2016; 2017 paper, section 5.4).

    Returns:
        A scalar.

    Raises:
        ValueError: A label is no class.
    """
    labels = labels.reshape(-1).to(logits.device)
    try:
        losses = nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]).float(),
            labels,
            ignore_index=ignore_index,
            reduction="sum",
            label_smoothing=label_smoothing,
        )
    except IndexError:
        raise ValueError(
            f"labels range from {labels.min()} to {labels.max()}, but there are {logits.shape[-1]} classes or tokens, "
            f"and only {ignore_index} marks what is no target: use the model's own tokenizer or label ids"
        ) from None
    return reduce_loss(losses, labels.ne(ignore_index).sum(), num_items_in_batch)


def causal_lm_loss(
    logits: torch.Tensor, labels: torch.Tensor | None, shift_labels: torch.Tensor | None = None, **kwargs
) -> torch.Tensor:
    """Cross entropy of the next token.

    Args:
        logits: (B, T, V).
        labels: (B, T), aligned with the input; they are shifted here, once.
        shift_labels: (B, T), already shifted; takes the place of `labels`.
        kwargs: `num_items_in_batch` and `label_smoothing`, see [`cross_entropy_loss`].
    """
    if shift_labels is None:
        assert labels is not None, "the head asks for a loss only with one of the two"
        shift_labels = nn.functional.pad(labels, (0, 1), value=IGNORE_INDEX)[..., 1:]
    return cross_entropy_loss(logits, shift_labels, **kwargs)


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
        losses = nn.functional.mse_loss(logits.view_as(labels).float(), labels.float(), reduction="none")
    else:
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
    **kwargs,
) -> torch.Tensor:
    """Mean of the cross entropies of a span's two ends; an end outside the input is no target.

    Args:
        start_logits, end_logits: (B, S).
        start_positions, end_positions: (B,) or (B, 1).
    """
    outside = start_logits.shape[1]
    start, end = (
        ends.reshape(-1).clamp(max=outside).where(ends.reshape(-1) >= 0, outside)
        for ends in (start_positions, end_positions)
    )
    start_loss = cross_entropy_loss(start_logits, start, ignore_index=outside, **kwargs)
    end_loss = cross_entropy_loss(end_logits, end, ignore_index=outside, **kwargs)
    return (start_loss + end_loss) / 2
