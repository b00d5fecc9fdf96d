"""Base class of metrics: an `evaluate.Metric` that uses neither network nor disk.

Importing `evaluate` takes seconds, so recipes import this module when they score.
"""

from typing import Any, ClassVar

import evaluate

from vanilla_recipes.errors import UserError


class OfflineMetric(evaluate.Metric):
    """A metric that keeps its inputs in memory, and raises a `UserError` if it has no inputs.

    Args:
        **settings: settings of `evaluate.Metric`.
    """

    nothing_to_score: ClassVar[str]

    def __init__(self, **settings: Any):
        super().__init__(keep_in_memory=True, **settings)

    def _build_data_dir(self) -> str:
        """Returns "". The base class would create a folder in the home directory, which may not be writable."""
        return ""

    def _finalize(self) -> None:
        """Loads the added inputs for `compute`. Without inputs the base class would fail with an AttributeError."""
        if self.buf_writer is None:
            raise UserError(self.nothing_to_score)
        super()._finalize()
