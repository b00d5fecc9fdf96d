"""Turns SIGINT, SIGTERM and the end of `max_wall_time` into a request to stop after the current step."""

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

import psutil

from vanilla_recipes.settings.durations import Duration


class StopRequest:
    """A request to stop the run. It is false until the run must stop, and true from then on.

    As a context manager, it catches the first SIGINT or SIGTERM. A second signal has its usual effect.

    Args:
        max_wall_time: in seconds; the request also becomes true when the process has run for this long. The time is
            measured from the start of the process, like the time limit of a batch system.

    Attributes:
        reason: the name of the signal, or `max_wall_time`; None while the request is false.
    """

    def __init__(self, max_wall_time: Duration | None = None) -> None:
        self.reason: str | None = None
        self._deadline = None if max_wall_time is None else psutil.Process().create_time() + max_wall_time.amount
        self._previous: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        if self.reason is None and self._deadline is not None and time.time() >= self._deadline:
            self.reason = "max_wall_time"
        return self.reason is not None

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # Python forbids signal handlers in other threads
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.reason = signal.Signals(number).name
        if os.environ.get("RANK", "0") == "0":
            print(f"\n{self.reason}: saving after this step; another signal stops at once", file=sys.stderr, flush=True)
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)
