"""What was asked for, as files in SWEEP/.sweep: nothing is ever changed by two processes, so nothing needs a lock.

.sweep/commands/STAMP.json   one per command: its words, launcher, frozen code, runs and their jobs
.sweep/code/HASH/            the code that those runs import
.sweep/jobs/                 submitit's folder: what is handed to workers, their logs and results
.sweep/queues/               a local queue's own record
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstudio import claim
from headstudio.errors import UserError
from headstudio.files import put

if TYPE_CHECKING:
    from headstudio.sweep.engine import Engine

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One run of a command."""

    name: str  # its directory below the sweep's
    overrides: tuple[str, ...]
    code: str = ""  # hash of its frozen code; empty: it was finished or under way, so nothing was submitted
    job: str = ""  # the scheduler's id, once it is known


@dataclass(frozen=True)
class Command:
    """One command that named this sweep."""

    stamp: str  # sorts by time
    words: tuple[str, ...]  # the command line
    time: float
    person: str
    owner: claim.Owner  # the process that gave it
    launcher: Mapping[str, Any]  # the engine's settings and `_target_`
    entries: tuple[Entry, ...]
    composed_by: str | None = None  # `compose.fingerprint`
    format: int = field(default=FORMAT)

    @classmethod
    def now(cls, engine: Engine, entries: Sequence[Entry], composed_by: str | None = None) -> Command:
        """This process's command."""
        kind = type(engine)
        settings = {"_target_": f"{kind.__module__}.{kind.__qualname__}", **asdict(engine)}  # type: ignore[call-overload]
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:4]}"
        person = f"{getpass.getuser()}@{socket.gethostname()}"
        now, owner = time.time(), claim.Owner.here()
        return cls(stamp, tuple(sys.argv), now, person, owner, settings, tuple(entries), composed_by)

    @cached_property
    def engine(self) -> Engine:
        """What submitted it, with its settings."""
        settings = dict(self.launcher)
        module, _, name = settings.pop("_target_").rpartition(".")
        engine: Engine = getattr(import_module(module), name)(**settings)
        return engine

    @property
    def submitted(self) -> dict[str, Entry]:
        """Name to entry of the runs that this command handed to its engine."""
        return {entry.name: entry for entry in self.entries if entry.code}

    def numbered(self) -> dict[str, str]:
        """Job ids for an engine whose scheduler gives none: the stamp and the place in the queue."""
        return {name: f"{self.stamp}-{number:04d}" for number, name in enumerate(self.submitted)}

    def with_jobs(self, jobs: Mapping[str, str]) -> Command:
        """The same with the scheduler's ids."""
        return replace(self, entries=tuple(replace(e, job=jobs.get(e.name, e.job)) for e in self.entries))


@dataclass(frozen=True)
class Run:
    """A run as the newest commands know it."""

    entry: Entry
    command: Command | None  # the last that submitted it


class Sweep:
    """A sweep's directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".sweep"

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs"

    @property
    def code(self) -> Path:
        return self.folder / "code"

    @property
    def queues(self) -> Path:
        return self.folder / "queues"

    @classmethod
    def open(cls, root: Path) -> Sweep:
        """An existing sweep.

        Raises:
            UserError: if the directory is none, or one that an older version wrote.
        """
        sweep = cls(root)
        if (sweep.folder / "commands").is_dir():
            return sweep
        if not root.exists():
            raise UserError(
                f"There is no directory {root}; sweeps lie in multirun/ unless hydra.sweep.dir=... said otherwise."
            )
        if (root / "multirun.yaml").exists() and not sweep.folder.exists():
            raise UserError(
                f"{root} was written by an older version of headstudio, which kept no record of its jobs; start its "
                "command again to take it over (finished runs are kept), or read its summary.csv."
            )
        raise UserError(f"{root} is not a sweep: it has no .sweep folder. Give the directory that -m printed.")

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            UserError: if they cannot be written.
        """
        try:
            for folder in (self.folder / "commands", self.jobs, self.code, self.queues):
                folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder / "commands"):
                pass
        except OSError as error:
            raise UserError(
                f"The sweep directory {self.root} cannot be written ({error.strerror}); name another one with "
                "hydra.sweep.dir=..."
            ) from error

    def save(self, command: Command) -> None:
        """Write a command's file (again, when its job ids are known)."""
        put(self.folder / "commands" / f"{command.stamp}.json", json.dumps(asdict(command)) + "\n")

    def forget(self, command: Command) -> None:
        """Remove the file of a command that came to nothing."""
        (self.folder / "commands" / f"{command.stamp}.json").unlink(missing_ok=True)

    def commands(self) -> list[Command]:
        """All of them, oldest first.

        Raises:
            UserError: for a file that another version wrote.
        """
        found = []
        for name in sorted(n for n in os.listdir(self.folder / "commands") if n.endswith(".json")):
            content = json.loads((self.folder / "commands" / name).read_bytes())
            if content.get("format") != FORMAT:
                raise UserError(
                    f"{self.root} was written by another version of headstudio (its records have format "
                    f"{content.get('format')}, this version reads {FORMAT}); use that version, or start the sweep's "
                    "command again with another hydra.sweep.dir."
                )
            entries = tuple(Entry(**{**e, "overrides": tuple(e["overrides"])}) for e in content["entries"])
            owner = claim.Owner(**content["owner"])
            plain = {**content, "entries": entries, "words": tuple(content["words"]), "owner": owner}
            found.append(Command(**plain))
        return found

    def runs(self, commands: Sequence[Command] | None = None) -> list[Run]:
        """Every run that any command named, in the order of first mention.

        A run whose very overrides now compose to another run (a default has changed) is left out.
        """
        runs: dict[str, Run] = {}
        current: dict[tuple[str, ...], str] = {}
        for command in self.commands() if commands is None else commands:
            for entry in command.entries:
                before = runs.get(entry.name)
                submitter = command if entry.code else before.command if before else None
                runs[entry.name] = Run(entry if entry.code or before is None else before.entry, submitter)
                current[tuple(sorted(entry.overrides))] = entry.name
        return [run for name, run in runs.items() if current[tuple(sorted(run.entry.overrides))] == name]
