"""A queue on this machine: a process of its own starts the runs, so many at a time, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from headstudio import claim
from headstudio.errors import UserError
from headstudio.files import file_time, put
from headstudio.sweep.engine import Seen
from headstudio.sweep.freeze import environment

if TYPE_CHECKING:
    from headstudio.sweep.record import Command, Sweep


@dataclass(frozen=True, kw_only=True)
class Local:
    """Settings of `hydra/launcher=local`; each is explained where it has its value, in launchers/."""

    look_every_s: ClassVar[float] = 0.5

    workers: int | None
    gpus_per_run: int

    def check(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UserError(f"hydra.launcher.workers={self.workers} must be at least 1, or null.")
        if self.gpus_per_run < 0:
            raise UserError(f"hydra.launcher.gpus_per_run={self.gpus_per_run} must be 0 or more.")
        have, want = len(visible_gpus()), self.gpus_per_run * (self.workers or 1)
        if have and want > have:
            raise UserError(
                f"hydra.launcher.workers={self.workers} with gpus_per_run={self.gpus_per_run} needs {want} GPUs, but "
                f"here are {have}; take fewer workers, or hydra.launcher.gpus_per_run=0 to let runs share."
            )

    def slots(self) -> list[dict[str, str]]:
        """What each worker finds in its environment: its own GPUs, and its share of the processor's threads."""
        gpus = visible_gpus() if self.gpus_per_run else []
        workers = self.workers or max(1, len(gpus) // max(self.gpus_per_run, 1))
        found: list[dict[str, str]] = []
        for slot in range(workers):
            mine = gpus[slot * self.gpus_per_run : (slot + 1) * self.gpus_per_run]
            variables = {"CUDA_VISIBLE_DEVICES": ",".join(mine)} if mine else {}
            if workers > 1:
                threads = str(max(1, _processors() // workers))
                variables |= {name: os.environ.get(name, threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
            found.append(variables)
        return found

    def submit(self, sweep: Sweep, command: Command) -> dict[str, str]:
        code = next(iter(command.submitted.values())).code
        said = sweep.queues / f"{command.stamp}.log"
        with said.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "headstudio.sweep.queue", str(sweep.root), command.stamp],
                env={**os.environ, **environment((sweep.code / code).absolute())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # it outlives this shell
            )
        record = record_path(sweep, command.stamp)
        while not record.exists():
            if process.poll() is not None:
                raise UserError(f"The queue of {sweep.root} did not start; {said} says why.")
            time.sleep(0.05)
        return command.numbered()

    def ask(self, sweep: Sweep, command: Command) -> Mapping[str, Seen] | None:
        path = record_path(sweep, command.stamp)
        try:
            content: dict[str, Any] = json.loads(path.read_bytes())
            silent = file_time(path.parent) - path.stat().st_mtime
        except (OSError, ValueError):
            return {}
        owner = claim.Owner(**content["owner"])
        if not owner.is_alive(silent, lambda job: None):
            return {}
        waiting = {job: Seen("PENDING", True) for job in content["waiting"]}
        return waiting | {job: Seen("RUNNING", True, owner.host) for job in content["running"]}

    def cancel(self, sweep: Sweep, command: Command, names: frozenset[str]) -> None:
        jobs = [entry.job for entry in command.submitted.values() if entry.name in names and entry.job]
        folder = cancel_path(sweep, command.stamp)
        folder.mkdir(exist_ok=True)
        # All in one file: else the queue might stop the first and start the next in its place
        put(folder / f"{uuid.uuid4().hex}.json", json.dumps(jobs))

    def log(self, sweep: Sweep, job: str) -> Path:
        return sweep.jobs.absolute() / f"{job}_0_log.out"


def record_path(sweep: Sweep, stamp: str) -> Path:
    """The queue's own file: who it is, what waits, what runs. It is touched while the queue lives."""
    return sweep.queues / f"{stamp}.json"


def cancel_path(sweep: Sweep, stamp: str) -> Path:
    """A folder in which each file asks the queue to stop some jobs, all at once."""
    return sweep.queues / f"{stamp}.cancel"


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip() and gpu.strip() != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    words = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
