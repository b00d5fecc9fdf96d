"""Our chrF is SacreBLEU's, to the last digit, and the mean of n-gram precision and recall that the paper defines."""

from collections import Counter

import pytest
import sacrebleu

from vanilla_recipes.errors import UserError
from vanilla_recipes.scoring.chrf import ChrF

PREDICTIONS = ["Der Hund beißt den alten Mann.", "Eine Katze schläft, hier.", "Er ist heute nicht da"]
REFERENCES = ["Der Hund beißt den Mann.", "eine Katze schläft hier .", "Er ist nicht zu Hause."]


@pytest.mark.parametrize("word_order", [0, 2])
def test_equals_sacrebleu(word_order):
    expected = sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES], word_order=word_order)
    found = ChrF(word_order=word_order).compute(predictions=PREDICTIONS, references=REFERENCES)
    assert found["chrf"] == expected.score
    assert 0 < found["chrf"] < 100


def test_equals_the_formula():
    """Mean precision and recall of character n-grams up to 6, spaces left out, recall twice as important."""
    prediction, reference = "der kleine Hund", "den kleinen Hund"
    precisions, recalls = [], []
    for order in range(1, 7):
        ours, theirs = (
            Counter(text[start : start + order] for start in range(len(text) - order + 1))
            for text in (prediction.replace(" ", ""), reference.replace(" ", ""))
        )
        common = sum((ours & theirs).values())
        precisions.append(common / sum(ours.values()))
        recalls.append(common / sum(theirs.values()))
    precision, recall = sum(precisions) / 6, sum(recalls) / 6
    expected = 100 * 5 * precision * recall / (4 * precision + recall)
    assert ChrF().compute(predictions=[prediction], references=[reference])["chrf"] == pytest.approx(expected)


def test_signature_says_how():
    found = ChrF().compute(predictions=PREDICTIONS, references=REFERENCES)
    signature = f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{sacrebleu.__version__}"
    assert found["chrf_signature"] == signature


def test_batches_add_up_to_one_corpus():
    metric = ChrF()
    metric.add_batch(predictions=PREDICTIONS[:1], references=REFERENCES[:1])
    metric.add_batch(predictions=PREDICTIONS[1:], references=REFERENCES[1:])
    assert metric.compute() == ChrF().compute(predictions=PREDICTIONS, references=REFERENCES)


def test_works_offline_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    ChrF().compute(predictions=PREDICTIONS, references=REFERENCES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("nothing", [{}, {"predictions": [], "references": []}])
def test_nothing_to_score(nothing):
    with pytest.raises(UserError, match="chrF of 0 translations is not defined: give at least one"):
        ChrF().compute(**nothing)


def test_faults():
    with pytest.raises(UserError, match="word_order=-1: must be 0 for chrF, or 2 for chrF"):
        ChrF(word_order=-1)
    with pytest.raises(ValueError, match=r"Mismatch in the number of predictions \(3\) and references \(2\)"):
        ChrF().compute(predictions=PREDICTIONS, references=REFERENCES[:2])
