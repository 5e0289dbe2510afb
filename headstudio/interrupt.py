"""Ctrl-C and SIGTERM, turned into a question that the loop asks between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interrupted(KeyboardInterrupt):
    """The run was stopped on request, after saving; its text says how to go on."""


class StopRequest:
    """While entered, the first Ctrl-C or SIGTERM only sets `requested`; a second Ctrl-C stops at once.

    Signals reach Python's main thread only; elsewhere (a test, a notebook's worker) nothing is installed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
            signal.signal(signal.SIGINT, self._handle)
            signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
