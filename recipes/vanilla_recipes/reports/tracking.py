"""What a run tells: a progress line on stderr, one JSON record a line in `metrics.jsonl`, and curves of these."""

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

_SECONDS_BETWEEN_LINES = 10.0


class Stopwatch:
    """Adds up training time; evaluation and saving happen while it stands."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    def start(self) -> None:
        """Goes on counting."""
        if self._since is None:
            self._since = time.perf_counter()

    def stop(self) -> None:
        """Stands still."""
        self._seconds, self._since = self.seconds, None


class MetricsLog:
    """`metrics.jsonl`, and `curves.png` beside it; the trackers of the accelerator get the same figures.

    Records are appended as they arise; a resumed run drops those after its checkpoint. The main process alone writes.
    """

    def __init__(self, path: Path, accelerator: Accelerator) -> None:
        self.path = path
        self._accelerator = accelerator
        self._is_drawn = True

    def rewind(self, state: TrainState | None) -> None:
        """Removes the records that a state does not know of, and a line that a killed process wrote in part.

        Args:
            state: of the checkpoint that the run goes on from; `None` if it starts.
        """
        if not self.path.exists():
            return
        step = -1 if state is None else state.global_step
        kept = [record for record in map(_read_record, self.path.read_text(encoding="utf-8").splitlines())
                if record["step"] <= step]  # fmt: skip
        if state is not None:  # scores of its very step may have come after it
            scores = [record for record in kept if record["step"] == step and "validation_rows" in record]
            unknown = scores[[state.scored_step, state.averaged_step].count(step) :]
            kept = [record for record in kept if not any(record is each for each in unknown)]
        write_text(self.path, "".join(f"{json.dumps(record)}\n" for record in kept))

    def write(self, state: TrainState, figures: dict[str, Any]) -> None:
        """Appends a record with the state's counters.

        Raises:
            UserError: the disk is full or does not let us write.
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
        """Draws the curves anew if there are new records; a picture that cannot be made does not end a run."""
        if self._is_drawn:
            return
        self._is_drawn = True
        path = self.path.with_name("curves.png")
        try:
            draw_curves(self.read(), path)
        except Exception as error:  # a missing font or a full disk, and whatever else a library of pictures meets
            logger.warning("%s: the curves cannot be drawn: %s; metrics.jsonl has their figures", path, error)

    def read(self) -> list[dict[str, Any]]:
        """The records so far."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


def _read_record(line: str) -> dict[str, Any]:
    """What a line says; a damaged one is later than any step."""
    try:
        return {"step": math.inf} | json.loads(line)
    except (TypeError, ValueError):
        return {"step": math.inf}


class ProgressLine:
    """Share done, loss, learning rate, tokens per second and time left.

    A bar on a terminal; elsewhere a line every ten seconds, which reads well in a log file.
    """

    def __init__(self, enabled: bool, initial: float = 0.0) -> None:
        self._enabled = enabled
        self._last_line = time.monotonic()
        self._bar: tqdm | None = None
        if enabled and sys.stderr.isatty():
            form = "{percentage:3.0f}% |{bar}| {postfix}"
            self._bar = tqdm(total=1.0, initial=initial, bar_format=form, dynamic_ncols=True, leave=True)

    def update(self, progress: float, state: TrainState, figures: dict[str, Any]) -> None:
        """Shows the run's figures; `progress` is the share of it that is done, from 0 to 1."""
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
        """A line of its own, above the bar."""
        if self._enabled:
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leaves the bar as it is."""
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
    """Keeps transformers' own progress bars, of saving and loading, out of the run's."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
