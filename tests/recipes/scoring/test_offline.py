"""Scores do not need the private methods of `evaluate` that metrics override to stay off the disk."""

import pytest

from vanilla_recipes.scoring.bleu import Bleu
from vanilla_recipes.scoring.offline import OfflineMetric
from vanilla_recipes.scoring.perplexity import Perplexity


@pytest.mark.parametrize("name", ["_finalize", "_build_data_dir"])
def test_a_method_that_evaluate_no_longer_calls(name, monkeypatch, tmp_path):
    """Without ours, its own does the work, as after a change of the name."""
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path))
    texts = {"predictions": ["The dog bites the man."], "references": ["The dog bit the man."]}
    rows = {"losses": [2.0, 1.0], "num_targets": [2, 1]}
    expected = Bleu().compute(**texts), Perplexity().compute(**rows)
    for metric in (OfflineMetric, Perplexity):
        monkeypatch.delattr(metric, name)
    assert (Bleu().compute(**texts), Perplexity().compute(**rows)) == expected
