"""Perplexity and bits per byte as an `evaluate.Metric` that works offline.

Importing `evaluate` takes seconds, so recipes import this module when they score.
"""

import math
from typing import Any

import datasets
import evaluate

from vanilla_recipes.errors import UserError

DESCRIPTION = """Cross entropy of a corpus in nats per target, its exponential, the perplexity (Jelinek et al., 1977),
and cross entropy in bits per byte and per character, which are comparable between vocabularies."""

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
    losses: cross entropy of each row in nats, summed over its targets.
    num_targets: number of targets of each row.
    text: decoded targets of all rows; without it bits_per_byte and bits_per_character are not computed.
Returns:
    loss: nats per target.
    perplexity: exponential of the loss.
    bits_per_byte: bits per byte of the text in UTF-8.
    bits_per_character: bits per character of the text.
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
        """Returns "". The base class would create a folder in the home directory, which may not be writable."""
        return ""

    def _finalize(self) -> None:
        """Loads the added inputs for `compute`. Without inputs the base class would fail with an AttributeError."""
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
    """Returns e to the power of the loss; infinity if the result exceeds the range of floats."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
