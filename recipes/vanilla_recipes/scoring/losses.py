"""Cross entropy row by row, so that scores add up the same on any number of processes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from vanilla_transformers.model.losses import IGNORE_INDEX


class RowLoss(NamedTuple):
    """Cross entropy of one row's targets, added up, and their number."""

    total: float
    num_targets: int


def row_losses(logits: torch.Tensor, labels: torch.Tensor) -> list[RowLoss]:
    """Cross entropy of each row, without label smoothing.

    Args:
        logits: (B, T, C).
        labels: (B, T), aligned with the logits; -100 is no target.
    """
    losses = nn.functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORE_INDEX, reduction="none"
    )
    totals, counts = losses.double().sum(1).tolist(), labels.ne(IGNORE_INDEX).sum(1).tolist()
    return [RowLoss(total, count) for total, count in zip(totals, counts, strict=True)]


def mean_loss(losses: Sequence[RowLoss]) -> float:
    """Cross entropy a target, over all rows; 0 where there is no target."""
    return sum(loss.total for loss in losses) / max(1, sum(loss.num_targets for loss in losses))
