"""The classification recipe learns what word order says, which a bag of words cannot."""

import json
from pathlib import Path

import pytest
from transformers import pipeline

from vanilla_recipes.classification import main


def accuracy(folder: Path, *overrides: str) -> float:
    """The accuracy of a run of the toy configuration on held-out rows."""
    assert main(["classification/toy", *overrides, f"output_dir={folder}"]) == 0
    return json.loads((folder / "results.json").read_text())["test"]["accuracy"]


def test_toy_reaches_its_score(tmp_path):
    assert accuracy(tmp_path / "run") >= 0.95
    classify = pipeline("text-classification", model=str(tmp_path / "run" / "best"))
    said = classify(["The plot was dull, but the music was superb.", "The plot was superb, but the music was dull."])
    assert [answer["label"] for answer in said] == ["positive", "negative"]


@pytest.mark.slow
def test_a_bag_of_words_stays_at_chance(tmp_path):
    """Without positions both labels of a bag of words look the same."""
    assert 0.4 < accuracy(tmp_path / "run", "model.position_embedding_type=none") < 0.6
