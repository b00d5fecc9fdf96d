"""SacreBLEU as an `evaluate.Metric` that works offline.

Importing `evaluate` takes seconds, so recipes import this module when they score.
"""

from typing import Any

from sacrebleu.metrics import BLEU

from vanilla_recipes.errors import UserError
from vanilla_recipes.scoring.corpus import CorpusMetric

DESCRIPTION = """Corpus BLEU (Papineni et al., 2002) as computed by SacreBLEU (Post, 2018), with its signature of the
settings. Predictions and references are untokenized text."""

CITATION = """@inproceedings{post-2018-call,
  title = {A Call for Clarity in Reporting {BLEU} Scores},
  author = {Post, Matt},
  booktitle = {Proceedings of the Third Conference on Machine Translation},
  year = {2018},
  url = {https://aclanthology.org/W18-6319}
}"""

INPUTS = """
Args:
    predictions: translations, untokenized text.
    references: one reference for each translation.
Returns:
    bleu: 0 to 100.
    signature: SacreBLEU's signature of the settings; report it with the score.
"""


class Bleu(CorpusMetric):
    """Corpus BLEU: `Bleu().compute(predictions=[...], references=[...])` returns `{"bleu": ..., "signature": ...}`.

    Args:
        tokenize: name of SacreBLEU's tokenizer; papers report 13a.
        lowercase: whether to ignore case.
        **settings: settings of `evaluate.Metric`.

    Raises:
        UserError: If SacreBLEU has no tokenizer of this name.
    """

    about, cited, inputs = DESCRIPTION, CITATION, INPUTS
    score_name, signature_name = "bleu", "signature"
    nothing_to_score = "BLEU of 0 translations is not defined: give at least one prediction and its reference"

    def __init__(self, tokenize: str = "13a", lowercase: bool = False, **settings: Any):
        if tokenize not in BLEU.TOKENIZERS:
            names = ", ".join(sorted(BLEU.TOKENIZERS))
            raise UserError(f"tokenize={tokenize!r} is not a tokenizer of SacreBLEU; choose one of {names}")
        self.scorer = BLEU(tokenize=tokenize, lowercase=lowercase)
        super().__init__(**settings)
