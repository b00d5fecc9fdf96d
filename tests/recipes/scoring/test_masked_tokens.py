"""Scores of masked tokens against sums by hand, however the rows are divided."""

import math

import pytest
import torch

from vanilla_recipes.errors import UserError
from vanilla_recipes.scoring.masked_tokens import MaskedScore, masked_scores, score_rows


def test_rows_add_up_to_the_whole():
    torch.manual_seed(0)
    logits, labels = torch.randn(50, 7), torch.randint(0, 7, (50,))
    rows = torch.randint(0, 6, (50,)).sort().values
    rows[rows == 2] = 3  # row 2 has no masked token
    records = score_rows(logits, labels, rows, 6)
    assert records[2] == MaskedScore(0.0, 0, 0)
    scores = masked_scores(records)
    log_probs = logits.double().log_softmax(-1)
    loss = -sum(float(log_probs[n, label]) for n, label in enumerate(labels)) / 50
    assert scores["loss"] == pytest.approx(loss, rel=1e-6)
    assert scores["perplexity"] == pytest.approx(math.exp(loss), rel=1e-6)
    assert scores["accuracy"] == sum(int(row.argmax()) == label for row, label in zip(logits, labels, strict=True)) / 50
    for row in range(6):
        own = torch.nn.functional.cross_entropy(logits[rows == row], labels[rows == row], reduction="sum")
        assert records[row].loss == pytest.approx(float(own), rel=1e-5)
        assert records[row].num_targets == int((rows == row).sum())


def test_rows_of_different_length_count_by_their_tokens():
    scores = masked_scores([MaskedScore(6.0, 3, 0), MaskedScore(0.0, 1, 1)])
    assert scores == {"loss": 1.5, "perplexity": pytest.approx(math.exp(1.5)), "accuracy": 0.25}


def test_half_precision_logits_are_scored_in_fp32():
    logits = torch.randn(4, 9).bfloat16()
    labels, rows = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 1, 1])
    assert score_rows(logits, labels, rows, 2) == score_rows(logits.float(), labels, rows, 2)


def test_no_masked_token_at_all():
    with pytest.raises(UserError, match="0 targets is not defined"):
        masked_scores([MaskedScore(0.0, 0, 0)])
