"""Loss, perplexity and accuracy of masked tokens, row by row, so that they add up on any number of processes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn


class MaskedScore(NamedTuple):
    """What a row adds to the scores: cross entropy in nats, masked tokens, and those predicted right."""

    loss: float
    num_targets: int
    num_correct: int


def score_rows(logits: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor, num_rows: int) -> list[MaskedScore]:
    """The score of each row.

    Args:
        logits: of the masked tokens, (N, V).
        labels: what these were, (N,).
        rows: the row that each belongs to, (N,).
        num_rows: rows, those without a masked token included.
    """
    losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    figures = torch.stack([losses.double(), torch.ones_like(losses).double(), (logits.argmax(-1) == labels).double()])
    sums = figures.new_zeros(3, num_rows).index_add_(1, rows, figures)  # (3, rows)
    return [MaskedScore(loss, int(targets), int(correct)) for loss, targets, correct in sums.T.tolist()]


def masked_scores(records: Sequence[MaskedScore]) -> dict[str, float]:
    """Loss in nats a masked token, its exponential, the perplexity, and the part of them predicted right.

    Raises:
        UserError: no row has a masked token.
    """
    from vanilla_recipes.scoring.perplexity import Perplexity  # takes seconds

    losses, num_targets, num_correct = zip(*records, strict=True)
    scores = Perplexity().compute(losses=list(losses), num_targets=list(num_targets))
    return {**scores, "accuracy": sum(num_correct) / sum(num_targets)}
