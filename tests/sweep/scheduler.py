"""An engine whose every answer is given beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstudio.sweep.engine import Seen
from headstudio.sweep.record import Command, Sweep


@dataclass(frozen=True)
class Scheduler:
    """`answer` is job id to the fields of a `Seen`, as a record's JSON keeps them, or None for silence."""

    answer: Mapping[str, Any] | None

    def ask(self, sweep: Sweep, command: Command) -> Mapping[str, Seen] | None:
        return None if self.answer is None else {job: Seen(**seen) for job, seen in self.answer.items()}

    def log(self, sweep: Sweep, job: str) -> Path:
        return sweep.jobs / f"{job}_0_log.out"

    def check(self) -> None: ...

    def submit(self, sweep: Sweep, command: Command) -> dict[str, str]:
        return {name: f"again-{name}" for name in command.submitted}

    def cancel(self, sweep: Sweep, command: Command, names: frozenset[str]) -> None: ...


def that_says(answer: Mapping[str, Seen] | None) -> Scheduler:
    """One with this answer."""
    return Scheduler(None if answer is None else {job: vars(seen) for job, seen in answer.items()})
