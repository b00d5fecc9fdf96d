"""What keeps an `evaluate.Metric` off the network and the disk.

Importing `evaluate` takes seconds, so recipes import this module when they score.
"""

from typing import Any, ClassVar

import evaluate

from vanilla_recipes.errors import UserError


class OfflineMetric(evaluate.Metric):
    """A metric that holds in memory what it is given, and has one clear line for a score of nothing.

    Args:
        **settings: those of `evaluate.Metric`.
    """

    nothing_to_score: ClassVar[str]

    def __init__(self, **settings: Any):
        super().__init__(keep_in_memory=True, **settings)

    def _build_data_dir(self) -> str:
        """No folder: the base class would make one below the home directory, which need not be writable."""
        return ""

    def _finalize(self) -> None:
        """Read back what was added. The base class fails on an attribute of None where that is nothing at all."""
        if self.buf_writer is None:
            raise UserError(self.nothing_to_score)
        super()._finalize()
