"""The report of a sweep that is still running, written again now and then by whoever looks on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headstudio.sweep.state import RunState

log = logging.getLogger("headstudio")


class Refresher:
    """Writes the report in a thread of its own, when there are news and never for more than a fiftieth of the time.

    Args:
        root: the sweep.
        every_s: not more often than this.
        with_last: whether it is written at the end too, if anything changed while one looked on or there is none.
    """

    def __init__(self, root: Path, *, every_s: float = 60.0, with_last: bool = False) -> None:
        self._root, self._every_s, self._with_last = root, every_s, with_last
        self._next, self._written, self._seen = time.monotonic() + every_s, dict[str, str](), dict[str, str]()
        self._thread: threading.Thread | None = None

    def see(self, states: Sequence[RunState]) -> None:
        """Told how the runs stand, decide whether it is time."""
        self._seen = {state.name: state.state for state in states}
        if not self._written:
            self._written = self._seen  # how it stood when one began to look on is no news
        has_news = self._seen != self._written or "running" in self._seen.values()
        busy = self._thread is not None and self._thread.is_alive()
        if has_news and not busy and time.monotonic() >= self._next:
            self._written = self._seen
            self._thread = threading.Thread(target=self.write, name="report", daemon=True)
            self._thread.start()

    def write(self) -> None:
        """Write it now; no failure of the report troubles the sweep."""
        from headstudio.report.html import write_report

        began = time.monotonic()
        try:
            write_report(self._root)
        except Exception as error:
            log.debug("The report of %s was not refreshed: %s", self._root, error)
        took = time.monotonic() - began
        self._next = time.monotonic() + max(self._every_s, 49 * took)

    def __enter__(self) -> Refresher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None and error is None:
            self._thread.join()
        if self._with_last and error is None:
            from headstudio.report.html import NAME

            if self._seen != self._written or self._thread is not None or not (self._root / NAME).exists():
                self.write()
