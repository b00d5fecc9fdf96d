"""Accuracy, F1 and Matthews correlation as `evaluate.Metric` subclasses that work offline.

Importing `evaluate` takes seconds, so recipes import this module when they score.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, get_args

import datasets
import evaluate
import numpy as np
from numpy.typing import NDArray

from vanilla_recipes.errors import UserError
from vanilla_recipes.scoring.offline import OfflineMetric

INPUTS = """
Args:
    predictions: predicted class number of each row.
    references: correct class number of each row.
Returns:
    {name}: {range}.
"""

Average = Literal["binary", "macro", "micro", "weighted"]
POSITIVE = 1  # number of the positive class for binary F1


class ClassificationMetric(OfflineMetric, ABC):
    """Base class of scores of predicted classes: `compute(predictions=..., references=...)` gives `{score_name: x}`."""

    score_name: ClassVar[str]
    description: ClassVar[str]
    score_range: ClassVar[str] = "0 to 1"
    nothing_to_score = "a score of 0 rows is not defined: give at least one prediction and its reference"

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=self.description,
            citation="",
            inputs_description=INPUTS.format(name=self.score_name, range=self.score_range),
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        if not predictions:
            raise UserError(self.nothing_to_score)
        return {self.score_name: self.score(confusions(predictions, references))}

    @abstractmethod
    def score(self, table: NDArray[np.float64]) -> float:
        """Returns the score of a confusion matrix (references, predictions), see `confusions`."""


class Accuracy(ClassificationMetric):
    """Fraction of rows whose predicted class is correct."""

    score_name = "accuracy"
    description = "The fraction of rows whose predicted class is correct."

    def score(self, table: NDArray[np.float64]) -> float:
        return float(np.trace(table) / table.sum())


class F1(ClassificationMetric):
    """The harmonic mean of precision and recall.

    Args:
        average: "binary": F1 of class 1 of two classes. "macro": mean over classes. "weighted": mean over classes,
            weighted by the number of rows of a class. "micro": F1 of the counts of all classes, which equals accuracy
            because every row has one class. A class that occurs neither in predictions nor in references is left out
            of the means.
        **settings: settings of `evaluate.Metric`.

    Raises:
        UserError: If `average` is unknown.
    """

    score_name = "f1"
    description = "The harmonic mean of precision and recall (van Rijsbergen, 1979); 0 where both are 0."

    def __init__(self, average: Average = "macro", **settings: Any):
        if average not in get_args(Average):
            raise UserError(f"average={average!r} is no average of F1: choose one of {', '.join(get_args(Average))}")
        self.average = average
        super().__init__(**settings)

    def score(self, table: NDArray[np.float64]) -> float:
        right, predicted = table.sum(1), table.sum(0)
        if self.average == "binary":
            if len(table) > 2:
                raise UserError(
                    f"F1 with average='binary' is for two classes, not {len(table)}: choose another average"
                )
            table, right, predicted = table[POSITIVE:, POSITIVE:], right[POSITIVE:], predicted[POSITIVE:]
        if self.average == "micro":
            return float(2 * np.trace(table) / (right + predicted).sum())
        occurs = right + predicted > 0
        scores = 2 * np.diag(table)[occurs] / (right + predicted)[occurs]
        if not len(scores):
            return 0.0
        return float(np.average(scores, weights=right[occurs] if self.average == "weighted" else None))


class Matthews(ClassificationMetric):
    """Matthews correlation for any number of classes: 1 if all predictions are correct, 0 for chance."""

    score_name = "matthews"
    description = "The correlation of Matthews (1975), for several classes as Gorodkin (2004) defines it."
    score_range = "-1 to 1; 0 if all predictions, or all references, are one class"

    def score(self, table: NDArray[np.float64]) -> float:
        right, predicted, rows = table.sum(1), table.sum(0), table.sum()
        covariance = np.trace(table) * rows - right @ predicted
        spread = (rows**2 - right @ right) * (rows**2 - predicted @ predicted)
        return float(covariance / np.sqrt(spread)) if spread else 0.0


def confusions(predictions: list[int], references: list[int]) -> NDArray[np.float64]:
    """Returns the confusion matrix: row = correct class, column = predicted class; at least 2 x 2."""
    size = max(2, 1 + max(predictions), 1 + max(references))
    cells = np.asarray(references) * size + np.asarray(predictions)
    return np.bincount(cells, minlength=size * size).reshape(size, size).astype(np.float64)


def classification_scores(predictions: list[int], references: list[int], num_classes: int) -> dict[str, Any]:
    """Returns accuracy, F1 and Matthews correlation. `f1_average` is binary for two classes, otherwise macro."""
    average: Average = "binary" if num_classes == 2 else "macro"
    scores: dict[str, Any] = {}
    for metric in (Accuracy(), F1(average), Matthews()):
        scores |= metric.compute(predictions=predictions, references=references)
    return scores | {"f1_average": average}
