"""A progress bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

log = logging.getLogger(__name__)


def duration(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: 02:05, 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


class Progress:
    """Shows steps, time left and losses of steps `first` to `last`.

    Args:
        first, last: range of the steps.
        every_seconds: how often a line is written where there is no terminal.
    """

    def __init__(self, first: int, last: int, *, every_seconds: float = 10.0) -> None:
        self._first, self._last, self._every = first, last, every_seconds
        self._bar: Any = None
        self._text = ""
        self._start = self._spoke = time.monotonic()

    def __enter__(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        if console.is_terminal:
            columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
            self._bar = Bar(*columns, TimeRemainingColumn(), TextColumn("{task.description}"), console=console)
            self._bar.start()
            self._task = self._bar.add_task("", total=self._last, completed=self._first)
        return self

    def show(self, step: int, losses: Mapping[str, float]) -> None:
        """Report that `step` is done; without losses (nobody has read them) those of an earlier step stay."""
        if losses:
            self._text = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=step + 1, description=self._text)
            return
        now, done = time.monotonic(), step + 1
        counted = step - self._first  # the first step of a process, which also compiles and loads, tells no pace
        if not counted:
            self._start = now
        if done in (self._first + 1, self._last) or now - self._spoke >= self._every:
            self._spoke = now
            left = duration((now - self._start) / counted * (self._last - done)) if counted else "?"
            log.info("step %d/%d  %s left  %s", done, self._last, left, self._text)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
