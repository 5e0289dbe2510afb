"""What a part of a setting needs from outside the package, and whether it is there: what `headstudio.doctor` prints.

A `_target_` that reads files of the user's (a licensed head, a diffusion model, a recording) has an attribute `look`:
a function of the same keyword arguments that says what is there without loading it and without asking any network.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class State(StrEnum):
    """How a thing stands, in the words of the page."""

    READY = "ok"
    FETCHED = "fetch"  # not here, but a run would download it
    LACKING = "missing"
    BROKEN = "broken"
    NOTE = "note"  # neither good nor bad, or not needed by every run


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the page.

    Args:
        what: the thing, in a few words.
        state: how it stands.
        detail: where it is, which version, what is wrong with it.
        remedy: what to do about it; empty where nothing has to be done.
        files: those that a run would read, if they are here.
    """

    what: str
    state: State
    detail: str = ""
    remedy: str = ""
    files: tuple[Path, ...] = ()

    @property
    def stops(self) -> bool:
        """Whether a run that needs this thing cannot begin."""
        return self.state in (State.LACKING, State.BROKEN)
