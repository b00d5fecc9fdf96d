"""Computes all scores of translations at once.

Importing `evaluate` takes seconds, so recipes import this module when they score.
"""

from collections.abc import Sequence
from typing import Any

from vanilla_recipes.scoring.bleu import Bleu
from vanilla_recipes.scoring.chrf import ChrF


def translation_scores(predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Returns BLEU and chrF with their signatures, and `bleu_lowercase`, which papers on Multi30k report.

    The Multi30k papers tokenize with Moses, these scores with SacreBLEU's tokenizer of untokenized text. On German
    captions the difference is some hundredths of a BLEU point. The signature of `bleu_lowercase` is that of `bleu`
    with case:lc.

    Args:
        predictions: translations, untokenized text.
        references: one reference for each prediction.
    """
    texts = {"predictions": list(predictions), "references": list(references)}
    lowercase = Bleu(lowercase=True).compute(**texts)
    return {**Bleu().compute(**texts), "bleu_lowercase": lowercase["bleu"], **ChrF().compute(**texts)}
