"""Loss, perplexity and accuracy of masked tokens, from counts per row that any number of processes can sum."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn


class MaskedScore(NamedTuple):
    """Counts of one row: summed cross entropy in nats, number of masked tokens, number of correct predictions."""

    loss: float
    num_targets: int
    num_correct: int


def score_rows(logits: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor, num_rows: int) -> list[MaskedScore]:
    """Returns the counts of each row.

    Args:
        logits: logits of the N masked tokens, (N, V).
        labels: original ids of the masked tokens, (N,).
        rows: row index of each masked token, (N,).
        num_rows: number of rows, including rows without masked tokens.
    """
    losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    figures = torch.stack([losses.double(), torch.ones_like(losses).double(), (logits.argmax(-1) == labels).double()])
    sums = figures.new_zeros(3, num_rows).index_add_(1, rows, figures)  # (3, rows)
    return [MaskedScore(loss, int(targets), int(correct)) for loss, targets, correct in sums.T.tolist()]


def masked_scores(records: Sequence[MaskedScore]) -> dict[str, float]:
    """Returns loss in nats per masked token, perplexity (the exponential of the loss) and accuracy.

    Raises:
        UserError: If no row has a masked token.
    """
    from vanilla_recipes.scoring.perplexity import Perplexity  # imported here because `evaluate` loads slowly

    losses, num_targets, num_correct = zip(*records, strict=True)
    scores = Perplexity().compute(losses=list(losses), num_targets=list(num_targets))
    return {**scores, "accuracy": sum(num_correct) / sum(num_targets)}
