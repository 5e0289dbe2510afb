"""One HTML file that shows a sweep: it needs no network, no account and no other file to be read.

python -m headstudio.report html SWEEP
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headstudio.errors import UserError

if TYPE_CHECKING:
    from headstudio.sweep.state import RunState

log = logging.getLogger("headstudio")

NAME = "report.html"
MOST_IN_FULL = 200
"""More runs than this are told in tables and plots, without films and without their configs."""


def write_report(root: Path, out: Path | None = None) -> Path:
    """Write the report of a sweep, of one run or of a folder of them; returns where.

    Args:
        root: the folder.
        out: the file; None is `report.html` in the folder.

    Raises:
        UserError: if there is no run in the folder, or the file cannot be written.
    """
    from headstudio.files import put
    from headstudio.report import media, page
    from headstudio.report.collect import FILMS, collect

    out = out or root / NAME
    if not out.parent.is_dir():
        raise UserError(f"The report cannot be written: there is no folder {out.parent}.")
    collection = collect(root, with_config=MOST_IN_FULL)
    finished = [member for member in collection.members if member.state == "finished"]
    size = media.size_for(len(finished))
    paths = [member.directory / f"{name}.mp4" for member in finished for name in FILMS] if size else []
    films = media.sprites(paths, size, _cache(root)) if paths else {}
    text = page.render(collection, out, films, in_full=len(collection.members) <= MOST_IN_FULL)
    try:
        put(out, text)
    except OSError as error:
        raise UserError(f"The report {out} cannot be written ({error.strerror}); name another with --out.") from error
    return out


def _cache(root: Path) -> Path | None:
    """Pictures made once are kept in the sweep's own folder; elsewhere nothing is left behind."""
    return root / ".sweep" / "report" if (root / ".sweep").is_dir() else None


class Refresher:
    """Writes the report again while a sweep runs, in a thread of its own and never for long.

    Args:
        root: the sweep.
        every_s: not more often than this, and not so often that writing takes more than a tenth of the time.
    """

    def __init__(self, root: Path, *, every_s: float = 60.0) -> None:
        self._root, self._every_s = root, every_s
        self._next, self._known = time.monotonic() + every_s, dict[str, str]()
        self._thread: threading.Thread | None = None

    def see(self, states: Sequence[RunState]) -> None:
        """Told how the runs stand, decide whether it is time."""
        now = {state.name: state.state for state in states}
        has_news = now != self._known or "running" in now.values()
        busy = self._thread is not None and self._thread.is_alive()
        if not has_news or busy or time.monotonic() < self._next:
            return
        self._known = now
        self._thread = threading.Thread(target=self._write, name="report", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        began = time.monotonic()
        try:
            write_report(self._root)
        except Exception as error:  # the sweep matters more than its report
            log.debug("The report of %s was not refreshed: %s", self._root, error)
        took = time.monotonic() - began
        self._next = time.monotonic() + max(self._every_s, 9 * took)

    def close(self, *, wait_s: float = 30.0) -> None:
        """Let a write that has begun come to its end."""
        if self._thread is not None:
            self._thread.join(wait_s)
