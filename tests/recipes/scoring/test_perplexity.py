"""Perplexity and bits, against torch and against sums done by hand."""

import math

import pytest
import torch

from vanilla_recipes.errors import UserError
from vanilla_recipes.scoring.losses import row_losses
from vanilla_recipes.scoring.perplexity import Perplexity


def test_equals_torch():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    labels[1, 2:] = -100
    totals, counts = zip(*row_losses(logits, labels), strict=True)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).item()
    found = Perplexity().compute(losses=list(totals), num_targets=list(counts))
    assert found == pytest.approx({"loss": expected, "perplexity": math.exp(expected)})


def test_by_hand():
    """Three tokens of 1, 2 and 3 bits spell three characters, which take four bytes."""
    bits = math.log(2)
    found = Perplexity().compute(losses=[3 * bits, 3 * bits, 0.0], num_targets=[2, 1, 0], text="abä")
    assert found["perplexity"] == pytest.approx(4)
    assert found["bits_per_character"] == pytest.approx(2)
    assert found["bits_per_byte"] == pytest.approx(1.5)


def test_batches_add_up_to_one_corpus():
    metric = Perplexity()
    metric.add_batch(losses=[1.0], num_targets=[1])
    metric.add_batch(losses=[4.0], num_targets=[4])
    assert metric.compute()["loss"] == pytest.approx(1.0)


def test_a_loss_beyond_all_measure():
    assert Perplexity().compute(losses=[1e6], num_targets=[1])["perplexity"] == math.inf


def test_works_offline_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Perplexity().compute(losses=[1.0], num_targets=[1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inputs", [{}, {"losses": [], "num_targets": []}, {"losses": [0.0], "num_targets": [0]}])
def test_nothing_to_score(inputs):
    with pytest.raises(
        UserError, match="perplexity of 0 targets is not defined: give at least one row that has a targ"
    ):
        Perplexity().compute(**inputs)
