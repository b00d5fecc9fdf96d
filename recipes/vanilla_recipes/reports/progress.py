"""Shows the progress of a run on standard error, and measures its training time."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from vanilla_recipes.settings.train_state import TrainState

_SECONDS_BETWEEN_LINES = 10.0  # minimum time between two progress lines in a log file


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
