"""Reports a run: a progress line on stderr, one JSON record a line in `metrics.jsonl`, and curves of the records."""

import json
import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from vanilla_recipes.errors import UserError
from vanilla_recipes.folders import write_text
from vanilla_recipes.reports.plots import draw_curves
from vanilla_recipes.settings.durations import TrainState

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0  # between two progress lines in a log file


class Stopwatch:
    """Measures training time. It is stopped during evaluation and saving."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds measured so far."""
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    def start(self) -> None:
        """Starts or continues measuring."""
        if self._since is None:
            self._since = time.perf_counter()

    def stop(self) -> None:
        """Stops measuring."""
        self._seconds, self._since = self.seconds, None


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
            UserError: the disk is full or not writable.
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
        except Exception as error:  # a missing font, a full disk, or any other fault of matplotlib
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


class ProgressLine:
    """Shows progress, loss, learning rate, tokens per second and remaining time.

    On a terminal this is a progress bar; otherwise a new line every ten seconds, for log files.

    Args:
        enabled: whether this process shows anything.
        initial: the progress at the start, from 0 to 1.
    """

    def __init__(self, enabled: bool, initial: float = 0.0) -> None:
        self._enabled = enabled
        self._last_line = time.monotonic()
        self._bar: tqdm | None = None
        if enabled and sys.stderr.isatty():
            form = "{percentage:3.0f}% |{bar}| {postfix}"
            self._bar = tqdm(total=1.0, initial=initial, bar_format=form, dynamic_ncols=True, leave=True)

    def update(self, progress: float, state: TrainState, figures: dict[str, Any]) -> None:
        """Shows the figures of the run. `progress` is the completed fraction of the run, from 0 to 1."""
        if not self._enabled:
            return
        text = _figures_text(progress, state, figures)
        if self._bar is not None:
            self._bar.n = progress
            self._bar.set_postfix_str(text)
        elif progress >= 1 or time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            print(f"{progress:4.0%} {text}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Prints a separate line, above the progress bar."""
        if self._enabled:
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Closes the progress bar; its last state stays visible."""
        if self._bar is not None:
            self._bar.close()


def _figures_text(progress: float, state: TrainState, figures: dict[str, Any]) -> str:
    left = state.elapsed_seconds * (1 - progress) / progress if progress else 0.0
    utilization = f"MFU {figures['mfu']:.1%} " if "mfu" in figures else ""
    return (
        f"step {state.global_step} loss {figures['loss']:.3f} lr {figures['learning_rate']:.2e} "
        f"{figures['tokens_per_second']:,.0f} tokens/s {utilization}{tqdm.format_interval(left)} left"
    )


@contextmanager
def no_library_bars() -> Iterator[None]:
    """While active, hides transformers' progress bars of saving and loading, which would disturb the run's bar."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
