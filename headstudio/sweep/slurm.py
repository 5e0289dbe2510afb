"""SLURM, through submitit: every command one job array, and one `squeue` for all of its states.

`sacct` is never asked (many clusters run without accounting, and then it says nothing or wrong things): how a run ended
stands in the run's own directory, and whether a job still lives is squeue's to say.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from headstudio.errors import UserError
from headstudio.sweep.engine import Seen
from headstudio.sweep.freeze import environment

if TYPE_CHECKING:
    from headstudio.sweep.record import Command, Sweep

ALIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"}
    | {"REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
"""SLURM's words for jobs that wait, run or will run again."""


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """Settings of a profile; each is explained where it has its value, in launchers/."""

    look_every_s: ClassVar[float] = 5.0  # slurmctld serves everybody
    early_s: ClassVar[int] = 60  # sbatch(1): --signal "may be sent up to 60 seconds earlier than specified"
    start_s: ClassVar[int] = 30  # a process that the warning meets before it can catch it dies of it

    partition: str | None
    account: str | None
    qos: str | None
    timeout_min: int
    cpus_per_task: int
    gpus_per_node: int
    mem_gb: float | None
    array_parallelism: int
    max_requeues: int
    signal_delay_s: int
    setup: list[str]
    sbatch: dict[str, Any]

    def check(self) -> None:
        if shutil.which("sbatch") is None:
            raise UserError(
                "hydra/launcher=slurm needs sbatch, which this machine does not have; give the command on your "
                "cluster's login node, or take hydra/launcher=local."
            )
        least = self.signal_delay_s + self.early_s + self.start_s
        if 60 * self.timeout_min < least:
            raise UserError(
                f"hydra.launcher.timeout_min={self.timeout_min} leaves no time to start: SLURM may tell a run to save "
                f"{self.signal_delay_s + self.early_s} s before the limit (hydra.launcher.signal_delay_s="
                f"{self.signal_delay_s}, and up to {self.early_s} s earlier); allow at least {math.ceil(least / 60)} "
                "minutes."
            )

    def submit(self, sweep: Sweep, command: Command) -> dict[str, str]:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        entries = list(command.submitted.values())
        most = _largest_array()
        ids: dict[str, str] = {}
        try:
            for first in range(0, len(entries), most):
                part = entries[first : first + most]
                for code in dict.fromkeys(entry.code for entry in part):
                    alike = [entry for entry in part if entry.code == code]
                    ids |= self._submit_array(sweep, [(entry.name, entry.code) for entry in alike], command.stamp)
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
            _scancel(ids.values())
            raise UserError(self._explain(str(error))) from error
        return ids

    def _submit_array(self, sweep: Sweep, runs: Sequence[tuple[str, str]], stamp: str) -> dict[str, str]:
        """One sbatch for runs that share their code."""
        from submitit import SlurmExecutor

        from headstudio.sweep.job import Job

        executor = SlurmExecutor(sweep.jobs, max_num_timeout=self.max_requeues + 1)
        frozen = environment(sweep.code / runs[0][1])
        # A node without affinity shows a job all of its processors; the same number everywhere means the same bytes
        names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
        threads = {name: str(self.cpus_per_task) for name in names if name not in os.environ}
        executor.update_parameters(
            job_name=f"{sweep.root.name[:40]}-{stamp[-4:]}",
            partition=self.partition,
            account=self.account,
            qos=self.qos,
            time=self.timeout_min,
            cpus_per_task=self.cpus_per_task,
            gpus_per_node=self.gpus_per_node or None,
            mem=None if self.mem_gb is None else f"{round(self.mem_gb * 1024)}M",
            array_parallelism=self.array_parallelism,
            signal_delay_s=self.signal_delay_s,
            stderr_to_stdout=True,
            setup=[*_exports(threads), *self.setup, *_exports(frozen)],
            additional_parameters={"requeue": True, **self.sbatch},
        )
        log = str(self.log(sweep, "%j"))
        # sbatch's complaints reach the user in one sentence of ours, not in its own words as well
        with contextlib.redirect_stderr(io.StringIO()), executor.batch():
            jobs = [executor.submit(Job(sweep.root / name, code, log, self.max_requeues)) for name, code in runs]
        return {name: job.job_id for (name, _), job in zip(runs, jobs, strict=True)}

    def ask(self, sweep: Sweep, command: Command) -> Mapping[str, Seen] | None:
        return squeue({entry.job for entry in command.submitted.values() if entry.job})

    def cancel(self, sweep: Sweep, command: Command, names: frozenset[str]) -> None:
        _scancel(entry.job for entry in command.submitted.values() if entry.job and entry.name in names)

    def log(self, sweep: Sweep, job: str) -> Path:
        return sweep.jobs.absolute() / f"{job}_0_log.out"

    def _explain(self, error: str) -> str:
        """sbatch's words, with the keys they are about."""
        said = " ".join(re.sub(r"sbatch: (error: )?", "", line) for line in error.splitlines() if "sbatch:" in line)
        keys = ", ".join(
            f"hydra.launcher.{key}={getattr(self, key)}"
            for key in ("partition", "account", "qos", "timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node")
            if getattr(self, key) is not None
        )
        known = _say("sinfo", "-h", "-o", "%R").split() if "partition" in said.lower() else []
        names = f" Partitions here: {', '.join(dict.fromkeys(known))}." if known else ""
        return f"SLURM refused the jobs ({said or error}); nothing was submitted. It was asked for {keys}.{names}"


def _exports(variables: Mapping[str, str]) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def squeue(jobs: Iterable[str]) -> dict[str, Seen] | None:
    """What SLURM knows of these jobs: one call, also of arrays with a thousand tasks; None if it does not answer.

    Jobs that ended some minutes ago are forgotten, and missing in the answer.
    """
    arrays = sorted({job.partition("_")[0] for job in jobs if job})
    if not arrays:
        return {}
    words = ["squeue", "-h", "-r", "-t", "all", "-o", "%i|%T|%N|%r", "-j", ",".join(arrays)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "Invalid job id" not in done.stderr:
        return None
    seen = {}
    for line in done.stdout.splitlines():
        job, state, node, reason = [*line.split("|"), "", "", ""][:4]
        seen[job] = Seen(state, state in ALIVE, node, "" if reason == "None" else reason)
    return seen


def job_is_alive(job: str) -> bool | None:
    """Whether SLURM still has this job to run; None if it does not answer."""
    seen = squeue([job])
    return None if seen is None else job in seen and seen[job].alive


def restarts() -> int:
    """How often SLURM has started this process's job again."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) if _inside() else 0


@dataclass(frozen=True)
class Own:
    """What SLURM says of this process's own job."""

    state: str  # UNKNOWN if it does not answer
    reason: str
    is_requeued: bool  # SLURM has already decided to start it again
    is_preempted: bool  # SLURM has given it time to leave, after which it starts again, but only if it asks


def own_job() -> Own | None:
    """SLURM's word on the job of this process; None outside of one."""
    if not _inside():
        return None
    told = _say("scontrol", "show", "job", "-o", os.environ["SLURM_JOB_ID"])
    fields = dict(word.split("=", 1) for word in told.split() if "=" in word)
    return Own(
        fields.get("JobState", "UNKNOWN"),
        fields.get("Reason", "None"),
        int(fields.get("Restarts", "0")) > restarts(),
        fields.get("PreemptTime", "None") != "None",
    )


def _inside() -> bool:
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and "SLURM_JOB_ID" in os.environ


def _largest_array() -> int:
    """How many tasks an array may have here (SLURM's own default if it does not say)."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _say("scontrol", "show", "config"))
    return int(found[1]) if found else 1001


def _scancel(jobs: Iterable[str]) -> None:
    """Cancel jobs, a few hundred with one call."""
    ids = list(jobs)
    for first in range(0, len(ids), 500):
        subprocess.run(["scancel", *ids[first : first + 500]], capture_output=True, check=False)


def _say(*words: str) -> str:
    """What a command of SLURM prints; "" if it fails."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
