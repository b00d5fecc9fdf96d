"""Accuracy, F1 and Matthews correlation: numbers worked by hand, and scikit-learn's."""

import math
import random
import warnings
from typing import get_args

import pytest

from vanilla_recipes.errors import UserError
from vanilla_recipes.scoring.classification import (
    F1,
    Accuracy,
    Average,
    Matthews,
    classification_scores,
    confusions,
)

# 4 true positives, 2 false positives, 1 false negative, 3 true negatives
REFERENCES = [1, 1, 1, 1, 0, 0, 1, 0, 0, 0]
PREDICTIONS = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]


def score(metric, predictions, references) -> float:
    (value,) = metric.compute(predictions=predictions, references=references).values()
    return value


def test_numbers_worked_by_hand():
    assert confusions(PREDICTIONS, REFERENCES).tolist() == [[3, 2], [1, 4]]
    scores = classification_scores(PREDICTIONS, REFERENCES, num_classes=2)
    assert scores == {
        "accuracy": pytest.approx(0.7),
        "f1": pytest.approx(2 * 4 / (2 * 4 + 2 + 1)),
        "matthews": pytest.approx((4 * 3 - 2 * 1) / math.sqrt(6 * 5 * 5 * 4)),
        "f1_average": "binary",
    }
    assert score(F1("macro"), PREDICTIONS, REFERENCES) == pytest.approx((8 / 11 + 6 / 9) / 2)


def test_f1_of_three_classes_is_macro():
    scores = classification_scores([0, 1, 2, 2], [0, 1, 1, 2], num_classes=3)
    assert scores["f1_average"] == "macro"
    assert scores["f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


@pytest.mark.parametrize("num_classes", [2, 3, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_scikit_learn_agrees(num_classes, seed):
    from sklearn import metrics

    generator = random.Random(seed)
    references = [generator.randrange(num_classes) for _ in range(40)]
    predictions = [r if generator.random() < 0.5 else generator.randrange(num_classes) for r in references]
    assert score(Accuracy(), predictions, references) == pytest.approx(metrics.accuracy_score(references, predictions))
    assert score(Matthews(), predictions, references) == pytest.approx(
        metrics.matthews_corrcoef(references, predictions)
    )
    for average in get_args(Average):
        if average != "binary" or num_classes == 2:
            expected = metrics.f1_score(references, predictions, average=average)
            assert score(F1(average), predictions, references) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("predictions", "references"),
    [([0, 0, 0], [0, 0, 0]), ([0, 0, 0], [0, 1, 0]), ([1, 1], [0, 0]), ([1, 1], [1, 1]), ([2, 0], [0, 0])],
)
def test_classes_that_do_not_occur(predictions, references):
    from sklearn import metrics

    warnings.simplefilter("ignore")  # scikit-learn doubts tables of one class
    assert score(Matthews(), predictions, references) == metrics.matthews_corrcoef(references, predictions)
    for average in get_args(Average):
        if average != "binary" or 2 not in predictions:
            expected = metrics.f1_score(references, predictions, average=average, zero_division=0)
            assert score(F1(average), predictions, references) == pytest.approx(expected)


def test_batches_add_up():
    metric = Accuracy()
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add_batch(predictions=[1, 1], references=[1, 1])
    assert metric.compute() == {"accuracy": 0.75}


def test_nothing_to_score_is_told():
    for metric in (Accuracy(), F1(), Matthews()):
        with pytest.raises(UserError, match="of 0 rows is not defined: give at least one prediction"):
            metric.compute(predictions=[], references=[])
        with pytest.raises(UserError, match="of 0 rows is not defined"):
            metric.compute()


def test_wrong_averages_are_told():
    with pytest.raises(
        UserError, match="average='mean' is no average of F1: choose one of binary, macro, micro, weighted"
    ):
        F1("mean")
    with pytest.raises(UserError, match="average='binary' is for two classes, not 3: choose another"):
        F1("binary").compute(predictions=[0, 2], references=[0, 1])


def test_no_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    score(Accuracy(), [0], [0])
    assert not list(tmp_path.iterdir())
