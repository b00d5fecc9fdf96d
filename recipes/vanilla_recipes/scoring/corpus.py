"""Base class of the translation scores that SacreBLEU computes.

Importing `evaluate` takes seconds, so recipes import this module when they score.
"""

from typing import ClassVar

import datasets
import evaluate
from sacrebleu.metrics.base import Metric

from vanilla_recipes.errors import UserError
from vanilla_recipes.scoring.offline import OfflineMetric


class CorpusMetric(OfflineMetric):
    """A score of all translations of a corpus, with one reference per translation and SacreBLEU's signature.

    Attributes:
        scorer: SacreBLEU's metric.
        score_name, signature_name: keys of the score and the signature in the result.
    """

    scorer: Metric
    score_name: ClassVar[str]
    signature_name: ClassVar[str]
    # `evaluate.Metric` already has properties named `description`, `citation` and `inputs_description`.
    about: ClassVar[str]
    cited: ClassVar[str]
    inputs: ClassVar[str]

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=self.about,
            citation=self.cited,
            inputs_description=self.inputs,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | str]:
        if not predictions:
            raise UserError(self.nothing_to_score)
        score = self.scorer.corpus_score(predictions, [references])
        return {self.score_name: score.score, self.signature_name: str(self.scorer.get_signature())}
