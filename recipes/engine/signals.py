"""Turns SIGINT and SIGTERM into a request to stop after the current step."""

import signal
import sys
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """While active, notes the first SIGINT or SIGTERM; a second one ends the process as it always does."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return self.signal_name is not None

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python forbids handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name
        print(f"\n{self.signal_name}: saving after this step; once more stops at once", file=sys.stderr, flush=True)
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)
