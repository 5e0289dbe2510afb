"""The process of a local queue: starts a command's runs in order, so many at a time, and says how each ended.

`python -m headstudio.sweep.queue SWEEP STAMP`, started by `local.Local.submit`. SIGTERM stops it: runs save, what waits
is left for the next time.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from submitit.local.local import LocalExecutor, LocalJob

from headstudio import claim
from headstudio.files import put
from headstudio.sweep import local
from headstudio.sweep.freeze import environment
from headstudio.sweep.job import Job
from headstudio.sweep.record import Command, Entry, Sweep


class Worker(LocalExecutor):
    """submitit's local executor without its controller process, so that the exit code is ours to read.

    Args:
        folder: submitit's.
        job: the id to give the job.
        variables: environment of the process.
    """

    def __init__(self, folder: Path, job: str, variables: dict[str, str]) -> None:
        super().__init__(folder)
        self._job, self._variables = job, variables
        self.process: subprocess.Popen[bytes] | None = None

    def _submit_command(self, command: str) -> LocalJob[Any]:
        own = {"JOB_ID": self._job, "NTASKS": "1", "GLOBALID": "0", "LOCALID": "0", "NODEID": "0", "JOB_NUM_NODES": "1"}
        submitit = {f"SUBMITIT_LOCAL_{name}": value for name, value in own.items()}
        with (self.folder / f"{self._job}_0_log.out").open("ab") as output:
            self.process = subprocess.Popen(
                shlex.split(command),
                env={**os.environ, **self._variables, **submitit, "SUBMITIT_EXECUTOR": "local"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return LocalJob(self.folder, self._job, tasks=[0], process=self.process)


class Queue:
    """One command's runs on this machine."""

    def __init__(self, sweep: Sweep, command: Command, engine: local.Local) -> None:
        self.sweep, self.stamp = sweep, command.stamp
        self.waiting: deque[Entry] = deque(command.submitted.values())
        self.free = engine.slots()
        self.running: dict[str, tuple[Entry, subprocess.Popen[bytes], dict[str, str]]] = {}
        self.cancelled: set[str] = set()
        self._stop = False
        self._touched = 0.0

    def run(self, *, every_s: float = 0.2, heartbeat_s: float = 10.0) -> None:
        """Until nothing is left."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        self._write()
        while self.waiting or self.running:
            changed = self._cancel() | self._collect()
            while self.waiting and self.free and not self._stop:
                self._start(self.waiting.popleft(), self.free.pop(0))
                changed = True
            if self._stop:
                self.waiting.clear()
            if changed or time.monotonic() - self._touched > heartbeat_s:
                self._write()
            time.sleep(every_s)
        self._write()

    def _start(self, entry: Entry, slot: dict[str, str]) -> None:
        log = str(self.sweep.jobs.absolute() / f"{entry.job}_0_log.out")
        code = (self.sweep.code / entry.code).absolute()
        worker = Worker(self.sweep.jobs, entry.job, {**slot, **environment(code)})
        worker.submit(Job((self.sweep.root / entry.name).absolute(), entry.code, log))
        assert worker.process is not None
        self.running[entry.job] = (entry, worker.process, slot)

    def _collect(self) -> bool:
        """Take back the slots of processes that ended, and write the end of those that could not."""
        ended = [job for job, (_, process, _) in self.running.items() if process.poll() is not None]
        for job in ended:
            entry, process, slot = self.running.pop(job)
            self.free.append(slot)
            root = self.sweep.root / entry.name
            last = claim.latest(root)
            of_this = last is not None and last.log.endswith(f"{job}_0_log.out")
            if process.returncode and not (of_this and last is not None and last.outcome):
                claim.close(root, *self._verdict(job, process.returncode), log=self._log(job))
        return bool(ended)

    def _verdict(self, job: str, code: int) -> tuple[str, str]:
        if job in self.cancelled:
            return "stopped", "Cancelled."
        if code < 0:
            name = signal.Signals(-code).name
            why = " (by hand, or by the system because memory ran out)" if name == "SIGKILL" else ""
            return "killed", f"The process was killed by {name}{why}."
        with contextlib.suppress(OSError):
            lines = Path(self._log(job)).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if lines:
                return "failed", lines[-1]
        return "failed", f"The process ended with exit code {code} before it began."

    def _log(self, job: str) -> str:
        return str(self.sweep.jobs.absolute() / f"{job}_0_log.out")

    def _cancel(self) -> bool:
        """Do what `python -m headstudio.sweep cancel` asks for."""
        asked: set[str] = set()
        for path in local.cancel_path(self.sweep, self.stamp).glob("*.json"):
            asked |= set(json.loads(path.read_bytes()))
            path.unlink()
        self.cancelled |= asked
        for job in asked & self.running.keys():
            self.running[job][1].send_signal(signal.SIGTERM)
        before = len(self.waiting)
        self.waiting = deque(entry for entry in self.waiting if entry.job not in asked)
        return len(self.waiting) != before

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop = True
        self.cancelled |= self.running.keys()
        for _, process, _ in self.running.values():
            process.send_signal(signal.SIGTERM)

    def _write(self) -> None:
        content = {
            "owner": asdict(claim.Owner.here()),
            "waiting": [entry.job for entry in self.waiting],
            "running": list(self.running),
        }
        put(local.record_path(self.sweep, self.stamp), json.dumps(content))
        self._touched = time.monotonic()


def main(root: str, stamp: str) -> None:
    """Run the queue of the command `stamp` of the sweep in `root`."""
    sweep = Sweep(Path(root))
    (command,) = [command for command in sweep.commands() if command.stamp == stamp]
    command, engine = command.with_jobs(command.numbered()), command.engine
    assert isinstance(engine, local.Local)
    Queue(sweep, command, engine).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
