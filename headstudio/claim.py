"""Who works on a run: numbered attempts, of which at most one is going on.

A process that wants a run makes the file `attempts/NNNN.json` with the next free number. The file system gives each
name to one process only (a hard link cannot replace a file, on NFS neither), so no lock is needed. The owner touches
its file every few seconds. Who finds an attempt whose process is dead takes the next number; an owner that was only
asleep sees the higher number before it writes anything more, and stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from headstudio.cli import explain
from headstudio.errors import UserError
from headstudio.files import file_time, put

FOLDER = "attempts"


class Busy(UserError):
    """Another process works on this run."""


class ClaimLost(UserError):
    """Another process has taken this run over."""


@dataclass(frozen=True)
class Owner:
    """A process: where it runs, which one, since when (seconds of the epoch), and the scheduler's job around it."""

    host: str
    pid: int
    born: float
    job: str = ""

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), _born(os.getpid()) or 0.0, scheduler_job())

    def is_running_here(self, *, tolerance_s: float = 2.0) -> bool:
        """Whether this host still has the very process (and not another one with its number)."""
        born = _born(self.pid)
        return born is not None and abs(born - self.born) <= tolerance_s

    def is_alive(
        self, silent_s: float, job_is_alive: Callable[[str], bool | None], *, patience_s: float = 120.0
    ) -> bool:
        """Whether the process may still be at work; when in doubt, yes.

        Args:
            silent_s: seconds since its last sign of life.
            job_is_alive: the scheduler's word on a job; None if it cannot be asked.
            patience_s: a silent process on another host counts as dead after this; after a quarter of it if the
                scheduler says that its job is gone.
        """
        if self.host == socket.gethostname():
            return self.is_running_here()
        if self.job and self.job == scheduler_job():
            return False  # the scheduler starts a job again only when its earlier start is over
        word = job_is_alive(self.job) if self.job else None
        return silent_s < (patience_s / 4 if word is False else patience_s) if not word else True


@dataclass(frozen=True)
class Record:
    """What an attempt's file says. `outcome` is empty while it goes on."""

    number: int
    owner: Owner
    started: float  # seconds of the epoch, like all times here
    log: str = ""  # where its output goes, "" for a terminal
    steps: int = 0  # how many the run has in all
    code: str = ""  # the frozen code that it runs
    ended: float = 0.0
    outcome: str = ""  # finished, failed, stopped, requeued or killed
    reason: str = ""
    seen: float = field(default=0.0, compare=False)  # last sign of life, from the file's time


class Attempt:
    """The right to write in a run's directory, held while entered.

    Leaving it without an exception is "finished", with `KeyboardInterrupt` "stopped", with another one "failed" and the
    exception as reason, unless `end` was called before.
    """

    def __init__(self, root: Path, record: Record, *, heartbeat_s: float = 10.0) -> None:
        self.root, self.record, self.path = root, record, _file(root, record.number)
        self._heartbeat_s, self._done = heartbeat_s, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    @classmethod
    def begin(
        cls,
        root: Path,
        *,
        log: str = "",
        steps: int = 0,
        code: str = "",
        job_is_alive: Callable[[str], bool | None] = lambda job: None,
    ) -> Attempt:
        """Take the run in the directory `root`, which must exist.

        Raises:
            Busy: if a living process has it.
        """
        (root / FOLDER).mkdir(exist_ok=True)
        for _ in range(100):
            last = latest(root)  # looked at once: the next number is only right for the attempt that was judged
            if last is not None and _is_going_on(root, last, job_is_alive):
                raise Busy(f"{root} is being worked on by {describe(last.owner)}; wait until it is done.")
            number = last.number + 1 if last else 1
            record = Record(number, Owner.here(), time.time(), log, steps, code)
            if _create(_file(root, number), _text(record)):
                return cls(root, record)
        raise Busy(f"{root} is wanted by many processes at once; start the command again.")

    def check(self) -> None:
        """Ask before writing whether the run is still ours.

        Raises:
            ClaimLost: if another process has taken over.
        """
        if _file(self.root, self.record.number + 1).exists():
            raise ClaimLost(
                f"{self.root} was taken over by another process while this one gave no sign of life; stopped "
                "without writing."
            )

    def note(self, **about: Any) -> None:
        """Add to what the attempt's file says."""
        self.record = replace(self.record, **about)
        put(self.path, _text(self.record))

    def end(self, outcome: str, reason: str = "") -> None:
        """Write how it ended; the first word counts."""
        self._done.set()
        if not self.record.outcome:
            self.record = replace(self.record, ended=time.time(), outcome=outcome, reason=reason)
            with contextlib.suppress(OSError):  # a full disk must not hide the reason that is on its way up
                put(self.path, _text(self.record))
                if outcome == "failed":
                    put(self.root / "FAILED", f"{reason}\n")

    def _beat(self) -> None:
        while not self._done.wait(self._heartbeat_s):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.end("finished")
        elif isinstance(error, KeyboardInterrupt):
            self.end("stopped", str(error))
        elif not isinstance(error, ClaimLost):
            self.end("failed", explain(error, ()) or last_line(error))
        self._done.set()


_HELD: dict[Path, Attempt] = {}


@contextlib.contextmanager
def held(root: Path, *, log: str = "", steps: int = 0, code: str = "") -> Iterator[Attempt]:
    """`Attempt.begin`, or the attempt that this process has already begun on this run (a worker around its run).

    Raises:
        Busy: if another living process has it.
    """
    from headstudio.sweep.slurm import job_is_alive

    attempt = _HELD.get(root)
    if attempt is not None:
        attempt.note(steps=steps)
        yield attempt
        return
    root.mkdir(parents=True, exist_ok=True)
    with Attempt.begin(root, log=log, steps=steps, code=code, job_is_alive=job_is_alive) as attempt:
        _HELD[root] = attempt
        try:
            yield attempt
        finally:
            del _HELD[root]


def working(root: Path, job_is_alive: Callable[[str], bool | None]) -> Owner | None:
    """The living process that has this run, or None."""
    last = latest(root)
    return last.owner if last is not None and _is_going_on(root, last, job_is_alive) else None


def latest(root: Path) -> Record | None:
    """The attempt with the highest number, or None."""
    try:
        names = [entry for entry in os.listdir(root / FOLDER) if entry.endswith(".json")]
    except OSError:
        return None
    return read(root / FOLDER / max(names)) if names else None


def read(path: Path) -> Record:
    """One attempt's file. One that cannot be read (a file system without hard links, mid-write) is a live one."""
    seen = path.stat().st_mtime
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        return Record(**{**content, "owner": Owner(**content["owner"]), "seen": seen})
    except (ValueError, TypeError, KeyError):
        return Record(int(path.stem), Owner("another host", 0, 0.0), seen, seen=seen)


def close(root: Path, outcome: str, reason: str, log: str = "") -> None:
    """Write the end of an attempt whose process died without a word (for its parent, which knows that it is dead).

    A process that died before it began an attempt gets one, so that its reason stands in the run's directory.
    """
    last = latest(root)
    if last is None or last.outcome:
        root.mkdir(parents=True, exist_ok=True)
        (root / FOLDER).mkdir(exist_ok=True)
        number = last.number + 1 if last else 1
        last = Record(number, Owner.here(), time.time(), log)
        if not _create(_file(root, number), _text(last)):
            return
    put(_file(root, last.number), _text(replace(last, ended=time.time(), outcome=outcome, reason=reason)))


def last_line(error: BaseException) -> str:
    """What a traceback ends with, on one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}".removesuffix(": ")


def describe(owner: Owner) -> str:
    """Words for a process."""
    job = f"job {owner.job}, " if owner.job else ""
    return f"{job}process {owner.pid} on {owner.host}"


def scheduler_job() -> str:
    """The SLURM job that was started to do this run, as squeue names it, or ""."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return ""  # perhaps somebody's interactive allocation, which outlives its runs
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def _create(path: Path, text: str) -> bool:
    """Make a file that nobody else has made; False if it exists. Complete when it appears, where links are possible."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    partial.write_text(text, encoding="utf-8")
    try:
        os.link(partial, path)
        return True
    except FileExistsError:
        return partial.stat().st_nlink == 2  # made by us, but the server's answer was lost
    except OSError:  # a file system without hard links
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            return True
        except FileExistsError:
            return False
    finally:
        partial.unlink(missing_ok=True)


def _is_going_on(root: Path, record: Record, job_is_alive: Callable[[str], bool | None]) -> bool:
    if record.outcome:
        return False
    return record.owner.is_alive(file_time(root / FOLDER) - record.seen, job_is_alive)


def _file(root: Path, number: int) -> Path:
    return root / FOLDER / f"{number:04d}.json"


def _text(record: Record) -> str:
    content: Mapping[str, Any] = {key: value for key, value in asdict(record).items() if key != "seen"}
    return json.dumps(content, indent=1) + "\n"


def _born(pid: int) -> float | None:
    """When the process started, None if there is none (a zombie is none)."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None
