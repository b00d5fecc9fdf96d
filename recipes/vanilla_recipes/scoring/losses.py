"""Cross entropy per row, so that the mean over all rows does not depend on the number of processes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from vanilla_transformers.model.losses import IGNORE_INDEX


class RowLoss(NamedTuple):
    """Cross entropy of one row in nats, summed over its targets, and the number of targets."""

    total: float
    num_targets: int


def row_losses(logits: torch.Tensor, labels: torch.Tensor) -> list[RowLoss]:
    """Computes the cross entropy of each row, without label smoothing.

    Args:
        logits: logits of C classes, shape (B, T, C).
        labels: target of each logit vector, shape (B, T); -100 is ignored.
    """
    losses = nn.functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORE_INDEX, reduction="none"
    )
    totals, counts = losses.double().sum(1).tolist(), labels.ne(IGNORE_INDEX).sum(1).tolist()
    return [RowLoss(total, count) for total, count in zip(totals, counts, strict=True)]


def mean_loss(losses: Sequence[RowLoss]) -> float:
    """Returns the mean cross entropy in nats per target, over all rows; 0 if no row has a target."""
    return sum(loss.total for loss in losses) / max(1, sum(loss.num_targets for loss in losses))
