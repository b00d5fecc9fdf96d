"""Records the figures of a run: one JSON record per line in `metrics.jsonl`, and curves of the records."""

import json
import logging
import math
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from vanilla_recipes.errors import UserError
from vanilla_recipes.folders import write_text
from vanilla_recipes.reports.plots import draw_curves
from vanilla_recipes.settings.train_state import TrainState

logger = logging.getLogger(__name__)


class MetricsLog:
    """Writes `metrics.jsonl` and `curves.png`, and sends the same figures to the trackers of the Accelerator.

    Only the main process writes. Records are appended. A resumed run removes the records after its checkpoint.

    Args:
        path: the file of the records; `curves.png` is written to the same folder.
        accelerator: the Accelerator of the run.
    """

    def __init__(self, path: Path, accelerator: Accelerator) -> None:
        self.path = path
        self._accelerator = accelerator
        self._is_drawn = True

    def rewind(self, state: TrainState | None) -> None:
        """Removes the records that are later than a state, and a line that a killed process wrote only in part.

        Args:
            state: the state of the checkpoint that the run resumes from; `None` if a new run starts.
        """
        if not self.path.exists():
            return
        step = -1 if state is None else state.global_step
        kept = [record for record in map(_read_record, self.path.read_text(encoding="utf-8").splitlines())
                if record["step"] <= step]  # fmt: skip
        if state is not None:  # an evaluation of the same step may have been written after the checkpoint
            scores = [record for record in kept if record["step"] == step and "validation_rows" in record]
            unknown = scores[[state.scored_step, state.averaged_step].count(step) :]
            kept = [record for record in kept if not any(record is each for each in unknown)]
        write_text(self.path, "".join(f"{json.dumps(record)}\n" for record in kept))

    def write(self, state: TrainState, figures: dict[str, Any]) -> None:
        """Appends a record with the counters of `state` and the given figures.

        Raises:
            UserError: If the disk is full or not writable.
        """
        if not self._accelerator.is_main_process:
            return
        counters = {
            "step": state.global_step,
            "epoch": round(state.position("epochs"), 4),
            "tokens": state.tokens,
            "elapsed_seconds": round(state.elapsed_seconds, 3),
        }
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(counters | figures) + "\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror}; free some space") from error
        self._is_drawn = False
        numbers = {name: value for name, value in (counters | figures).items() if isinstance(value, (int, float))}
        self._accelerator.log(numbers, step=state.global_step)

    def draw(self) -> None:
        """Draws `curves.png` again if there are new records. If drawing fails, it only logs a warning."""
        if self._is_drawn:
            return
        self._is_drawn = True
        path = self.path.with_name("curves.png")
        try:
            draw_curves(self.read(), path)
        except Exception as error:  # a missing font, a full disk, or any other error of matplotlib
            logger.warning("%s: the curves cannot be drawn: %s; metrics.jsonl has their figures", path, error)

    def read(self) -> list[dict[str, Any]]:
        """The records written so far."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


def _read_record(line: str) -> dict[str, Any]:
    """Parses a record. A damaged record gets an infinite step, so that `rewind` removes it."""
    try:
        return {"step": math.inf} | json.loads(line)
    except (TypeError, ValueError):
        return {"step": math.inf}
