"""All scores of translations at once.

Importing `evaluate` takes seconds, so recipes import this module when they score.
"""

from collections.abc import Sequence
from typing import Any

from vanilla_recipes.scoring.bleu import Bleu
from vanilla_recipes.scoring.chrf import ChrF


def translation_scores(predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """BLEU and chrF with their signatures; `bleu_lowercase` is BLEU without case, as work on Multi30k reports it.

    That work tokenizes with Moses. SacreBLEU's own tokenizer, which takes raw text, is used here: on German captions
    the two differ by some hundredths of a point. Its signature is that of `bleu` with case:lc.

    Args:
        predictions: plain text.
        references: one for each.
    """
    texts = {"predictions": list(predictions), "references": list(references)}
    lowercase = Bleu(lowercase=True).compute(**texts)
    return {**Bleu().compute(**texts), "bleu_lowercase": lowercase["bleu"], **ChrF().compute(**texts)}
