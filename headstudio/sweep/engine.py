"""What every way of doing runs offers. Engines are frozen dataclasses: their fields are a profile's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from headstudio.sweep.record import Command, Sweep


@dataclass(frozen=True)
class Seen:
    """What a scheduler says of one job."""

    state: str  # its own word: PENDING, RUNNING, OUT_OF_MEMORY, ...
    alive: bool  # waiting, running or about to be started again
    node: str = ""
    reason: str = ""


class Engine(Protocol):
    """Carries runs to where they are done."""

    look_every_s: ClassVar[float]  # how often a watcher may `ask`

    def check(self) -> None:
        """Raise `UserError` if nothing can be submitted from here."""

    def submit(self, sweep: Sweep, command: Command) -> dict[str, str]:
        """Hand over the runs of `command.submitted`; returns their job ids by name.

        All or nothing: raises `UserError` with nothing left in the queue.
        """

    def ask(self, sweep: Sweep, command: Command) -> Mapping[str, Seen] | None:
        """Job id to what is known of it, one question for all; None if there is nobody to ask right now."""

    def cancel(self, sweep: Sweep, command: Command, names: frozenset[str]) -> None:
        """Stop these of the command's runs, waiting or running; what they saved stays."""

    def log(self, sweep: Sweep, job: str) -> Path:
        """Where a job's output goes."""
