"""chrF as an `evaluate.Metric` that works offline.

Importing `evaluate` takes seconds, so recipes import this module when they score.
"""

from typing import Any

from sacrebleu.metrics import CHRF

from vanilla_recipes.errors import UserError
from vanilla_recipes.scoring.corpus import CorpusMetric

DESCRIPTION = """Corpus chrF (Popovic, 2015), an F-score of character n-grams, as computed by SacreBLEU, with its
signature of the settings. A wrong inflected form of the right word counts partly, while BLEU counts it as wrong."""

CITATION = """@inproceedings{popovic-2015-chrf,
  title = {chr{F}: character n-gram {F}-score for automatic {MT} evaluation},
  author = {Popovi{\\'c}, Maja},
  booktitle = {Proceedings of the Tenth Workshop on Statistical Machine Translation},
  year = {2015},
  url = {https://aclanthology.org/W15-3049}
}"""

INPUTS = """
Args:
    predictions: translations, untokenized text.
    references: one reference for each translation.
Returns:
    chrf: 0 to 100.
    chrf_signature: SacreBLEU's signature of the settings; report it with the score.
"""


class ChrF(CorpusMetric):
    """Corpus chrF2: `ChrF().compute(predictions=..., references=...)` returns `{"chrf": ..., "chrf_signature": ...}`.

    Args:
        word_order: maximum length of the word n-grams that count besides the character n-grams: 0 for chrF (no word
            n-grams), 2 for chrF++.
        **settings: settings of `evaluate.Metric`.

    Raises:
        UserError: If `word_order` is negative.
    """

    about, cited, inputs = DESCRIPTION, CITATION, INPUTS
    score_name, signature_name = "chrf", "chrf_signature"
    nothing_to_score = "chrF of 0 translations is not defined: give at least one prediction and its reference"

    def __init__(self, word_order: int = 0, **settings: Any):
        if word_order < 0:
            raise UserError(f"word_order={word_order}: must be 0 for chrF, or 2 for chrF++")
        self.scorer = CHRF(word_order=word_order)
        super().__init__(**settings)
