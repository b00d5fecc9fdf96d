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
    predictions: the number of the class that was predicted, of each row.
    references: the number of the class that is right.
Returns:
    {name}: {range}.
"""

Average = Literal["binary", "macro", "micro", "weighted"]
POSITIVE = 1  # the class that binary F1 is about


class ClassificationMetric(OfflineMetric, ABC):
    """A score of class numbers: `compute(predictions=[...], references=[...])` gives `{score_name: ...}`."""

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
        """The score of a table of confusions, see `confusions`."""


class Accuracy(ClassificationMetric):
    """The part of rows whose class is right."""

    score_name = "accuracy"
    description = "The part of rows whose predicted class is the right one."

    def score(self, table: NDArray[np.float64]) -> float:
        return float(np.trace(table) / table.sum())


class F1(ClassificationMetric):
    """The harmonic mean of precision and recall.

    Args:
        average: "binary" is that of class 1 of the classes 0 and 1; "macro" the mean over classes; "weighted" the mean
            weighted with the rows of each class; "micro" counts all rows together, which is accuracy where each row
            has one class. A class that is neither predicted nor right in any row does not count.
        **settings: those of `evaluate.Metric`.
    """

    score_name = "f1"
    description = "The harmonic mean of precision and recall (van Rijsbergen, 1979); 0 where both are 0."

    def __init__(self, average: Average = "macro", **settings: Any):
        if average not in get_args(Average):
            raise UserError(f"average={average!r} is none of F1: choose one of {', '.join(get_args(Average))}")
        self.average = average
        super().__init__(**settings)

    def score(self, table: NDArray[np.float64]) -> float:
        right, predicted = table.sum(1), table.sum(0)
        if self.average == "binary":
            if len(table) > 2:
                raise UserError(f"F1 with average='binary' is for two classes, not {len(table)}: choose another")
            table, right, predicted = table[POSITIVE:, POSITIVE:], right[POSITIVE:], predicted[POSITIVE:]
        if self.average == "micro":
            return float(2 * np.trace(table) / (right + predicted).sum())
        occurs = right + predicted > 0
        scores = 2 * np.diag(table)[occurs] / (right + predicted)[occurs]
        if not len(scores):
            return 0.0
        return float(np.average(scores, weights=right[occurs] if self.average == "weighted" else None))


class Matthews(ClassificationMetric):
    """Matthews correlation, for any number of classes: 1 all right, 0 no better than chance."""

    score_name = "matthews"
    description = "The correlation of Matthews (1975), for several classes as Gorodkin (2004) defines it."
    score_range = "-1 to 1; 0 where all predictions, or all references, are of one class"

    def score(self, table: NDArray[np.float64]) -> float:
        right, predicted, rows = table.sum(1), table.sum(0), table.sum()
        covariance = np.trace(table) * rows - right @ predicted
        spread = (rows**2 - right @ right) * (rows**2 - predicted @ predicted)
        return float(covariance / np.sqrt(spread)) if spread else 0.0


def confusions(predictions: list[int], references: list[int]) -> NDArray[np.float64]:
    """How often each class (row) was predicted as each (column); two classes at least."""
    size = max(2, 1 + max(predictions), 1 + max(references))
    places = np.asarray(references) * size + np.asarray(predictions)
    return np.bincount(places, minlength=size * size).reshape(size, size).astype(np.float64)


def classification_scores(predictions: list[int], references: list[int], num_classes: int) -> dict[str, Any]:
    """Accuracy, F1 (binary for two classes, else macro) and Matthews correlation, with the average of F1 named."""
    average: Average = "binary" if num_classes == 2 else "macro"
    scores: dict[str, Any] = {}
    for metric in (Accuracy(), F1(average), Matthews()):
        scores |= metric.compute(predictions=predictions, references=references)
    return scores | {"f1_average": average}
