"""Ctrl-C, SIGTERM and a scheduler's warning, turned into a question that the loop asks between two steps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
"""Ctrl-C; the polite kill (a scheduler's preemption too); the warning before a time limit."""


class Interrupted(KeyboardInterrupt):
    """The run was stopped on request; its text says how to go on.

    Args:
        text: for the user.
        number: the signal that asked for it.
    """

    def __init__(self, text: str, number: int = signal.SIGINT) -> None:
        super().__init__(text)
        self.number = number


class StopRequest:
    """While entered, the first of `STOPPING` only sets `requested`; a second Ctrl-C stops at once.

    Signals reach Python's main thread only; elsewhere (a test, a notebook's worker) nothing is installed.

    Args:
        answer: what the user reads as soon as the first is there, on standard error.
    """

    def __init__(self, answer: str = "") -> None:
        self._answer = answer
        self.requested = 0  # the signal's number; 0 while nobody asked
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.getsignal(number) for number in STOPPING}
            for number in STOPPING:
                signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt("Stopped at once; what was saved before is kept.")
        if self._answer and not self.requested:
            _say(self._answer)
        self.requested = number


def _say(sentence: str) -> None:
    """From a signal's handler, which may strike in the middle of any print: to the file itself, not to its buffer."""
    with contextlib.suppress(OSError):  # nobody listens
        beside_the_bar = "\n" if os.isatty(2) else ""
        os.write(2, f"{beside_the_bar}{sentence}\n".encode())


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """Outside the loop there is nothing to save: any of `STOPPING` raises `Interrupted` where it strikes."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(f"Stopped by {signal.Signals(number).name}; nothing that was saved is lost.", number)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals do not come here
        return
    previous = {number: signal.getsignal(number) for number in STOPPING}
    for number in STOPPING:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
