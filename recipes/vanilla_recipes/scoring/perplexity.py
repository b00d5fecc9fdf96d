"""Perplexity and bits a byte as an `evaluate.Metric` that works offline.

Importing `evaluate` takes seconds, so recipes import this module when they score.
"""

import math
from typing import Any

import datasets
import evaluate

from vanilla_recipes.errors import UserError

DESCRIPTION = """Cross entropy of a corpus in nats a target, its exponential, the perplexity (Jelinek et al., 1977), and
the same in bits a byte and a character of the text, which compare models of different vocabularies."""

CITATION = """@article{jelinek-etal-1977-perplexity,
  title = {Perplexity: a measure of the difficulty of speech recognition tasks},
  author = {Jelinek, Fred and Mercer, Robert L. and Bahl, Lalit R. and Baker, James K.},
  journal = {The Journal of the Acoustical Society of America},
  volume = {62},
  number = {S1},
  year = {1977}
}"""

INPUTS = """
Args:
    losses: cross entropy of each row in nats, added up over its targets.
    num_targets: targets of each row.
    text: what the targets of all rows spell; without it nothing is said of bytes and characters.
Returns:
    loss: nats a target.
    perplexity: its exponential.
    bits_per_byte: bits a byte of the text in UTF-8.
    bits_per_character: bits a character of the text.
"""

NOTHING_TO_SCORE = "perplexity of 0 targets is not defined: give at least one row that has a target"


class Perplexity(evaluate.Metric):
    """`Perplexity().compute(losses=[...], num_targets=[...], text="...")`; rows without a target are allowed."""

    def __init__(self, **settings: Any):
        super().__init__(keep_in_memory=True, **settings)

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"losses": datasets.Value("float64"), "num_targets": datasets.Value("int64")})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation=CITATION, inputs_description=INPUTS, features=features
        )

    def _build_data_dir(self) -> str:
        """No folder: the base class would make one below the home directory, which need not be writable."""
        return ""

    def _finalize(self) -> None:
        """Read back what was added. The base class fails on an attribute of None where that is nothing at all."""
        if self.buf_writer is None:
            raise UserError(NOTHING_TO_SCORE)
        super()._finalize()

    def _compute(self, losses: list[float], num_targets: list[int], text: str | None = None) -> dict[str, float]:
        total, count = math.fsum(losses), sum(num_targets)
        if not count:
            raise UserError(NOTHING_TO_SCORE)
        scores = {"loss": total / count, "perplexity": exponential(total / count)}
        if text:
            bits = total / math.log(2)
            scores |= {"bits_per_byte": bits / len(text.encode()), "bits_per_character": bits / len(text)}
        return scores


def exponential(loss: float) -> float:
    """e to the power of the loss; infinity where that is no number any more."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
