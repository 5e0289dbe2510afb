"""How every run of a sweep stands: from the files of its directory first, from the scheduler second.

A run that its own files call finished or failed is that. A run with a living owner is running, whatever a scheduler
says. Only for the rest it matters whether the scheduler still has their job.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstudio import claim
from headstudio.files import file_time
from headstudio.prompts import unquoted
from headstudio.runstate import RunPaths
from headstudio.sweep.engine import Seen
from headstudio.sweep.record import Command, Run, Sweep

OPEN = ("queued", "running")
"""States of runs that will go on by themselves."""

STATES = (*OPEN, "finished", "failed", "killed", "stopped")
"""killed: its process or node died without a word. stopped: on request, or it never began."""


@dataclass(frozen=True)
class RunState:
    """One run, as far as it can be known now."""

    name: str
    overrides: dict[str, str]
    state: str  # one of STATES
    directory: Path
    reason: str = ""  # why it is where it is, in a sentence
    node: str = ""
    log: Path | None = None
    step: int = 0  # steps done
    steps: int = 0  # of how many; 0 if unknown
    eta_s: float | None = None
    attempts: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)


def read_states(sweep: Sweep, commands: Sequence[Command] | None = None) -> list[RunState]:
    """Every run of the sweep, in the order of first mention; one question to each command's scheduler.

    Args:
        sweep: an open one.
        commands: only these, instead of all.
    """
    runs = sweep.runs(commands)
    with ThreadPoolExecutor(16) as pool:  # a file server answers many at once as fast as one
        unfinished = list(pool.map(lambda run: not _done(sweep, run).exists(), runs))
        asked = {r.command.stamp: r.command for r, more in zip(runs, unfinished, strict=True) if more and r.command}
        # The scheduler before the records: a job that ends in between is seen at its end, not taken for lost
        answers = {stamp: command.engine.ask(sweep, command) for stamp, command in asked.items()}
        now = file_time(sweep.folder)
        return list(pool.map(lambda run: _state(sweep, run, answers, now), runs))


def _state(sweep: Sweep, run: Run, answers: Mapping[str, Mapping[str, Seen] | None], now: float) -> RunState:
    root = sweep.root / run.entry.name
    overrides = dict(_pair(text) for text in run.entry.overrides)
    if _done(sweep, run).exists():
        scores = read_scores(RunPaths(root))
        return RunState(run.entry.name, overrides, "finished", root, log=_log(sweep, run, None), scores=scores)
    answer = answers.get(run.command.stamp, {}) if run.command else {}
    seen = answer.get(run.entry.job) if answer is not None else None
    last = claim.latest(root)
    state, reason = _judge(run, last, seen, answer is None, now)
    log = _log(sweep, run, last)
    if reason.endswith(":"):
        reason = f"{reason} {_tail(log)}"
    step, steps, eta_s = _progress(root, last)
    return RunState(
        run.entry.name,
        overrides,
        state,
        root,
        reason,
        last.owner.host if last and not last.outcome else seen.node if seen else "",
        log,
        step,
        steps,
        eta_s if state == "running" else None,
        last.number if last else 0,
    )


def _judge(run: Run, last: claim.Record | None, seen: Seen | None, silence: bool, now: float) -> tuple[str, str]:
    """State and reason of a run that has not finished."""
    waits = seen is not None and seen.alive
    why = (seen.reason or seen.state) if seen else ""
    if last is not None and not last.outcome:
        word = None if silence else waits if last.owner.job == run.entry.job else None
        if last.owner.is_alive(now - last.seen, lambda job: word) and not (seen and seen.state == "PENDING"):
            return "running", ""
        if waits:  # its process is gone: either its job is about to end, or it will be started again
            coming = seen is not None and seen.state not in ("RUNNING", "COMPLETING")
            return ("queued", f"to be started again ({why})") if coming else ("running", "")
        return "killed", f"{why or 'Its process is gone without a word'}:"
    if waits:
        # A process writes its end before its job is gone; only a job that waits again is really waiting
        leaving = seen is not None and seen.state in ("RUNNING", "COMPLETING")
        if leaving and last is not None and last.outcome != "requeued" and _began(run, last):
            return last.outcome, last.reason
        return "queued", why
    if last is not None and _began(run, last):
        if last.outcome != "requeued":
            return last.outcome, last.reason
        return ("queued", "SLURM does not answer") if silence else ("stopped", f"not started again: {last.reason}")
    if silence:
        return "queued", "the scheduler does not answer"
    if run.command is None or not run.entry.job:
        coming = run.command is not None and run.command.owner.is_alive(now - run.command.time, lambda job: None)
        return ("queued", "being submitted") if coming else ("stopped", "never submitted")
    if seen is None or seen.state.startswith("CANCELLED"):
        return "stopped", "taken out of the queue before its turn"
    return "killed", f"{why}, before it began:"


def _began(run: Run, last: claim.Record) -> bool:
    """Whether the attempt belongs to the run's last submission, or came after it."""
    if run.command is None or (run.entry.job and Path(last.log).name.startswith(f"{run.entry.job}_")):
        return True
    return last.ended >= run.command.time


def read_scores(paths: RunPaths) -> dict[str, float]:
    """Every number of a finished run, those that were added later (`python -m headstudio.evaluate`) too.

    A file that cannot be read is left out.
    """
    found: dict[str, float] = {}
    for path in (*paths.more_scores(), paths.metrics):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found |= numbers(json.loads(path.read_bytes()))
    return found


def numbers(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested numbers as dotted ones; everything else, and what the numbers are means of, left out."""
    found: dict[str, float] = {}
    for key, value in metrics.items():
        if key == "details":
            continue
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = float(value)
    return found


def tail(path: Path, size: int = 4096) -> list[str]:
    """The last lines of a text file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _tail(log: Path | None) -> str:
    """The line of a log that tells most: what SLURM wrote there, else the last one."""
    lines = [line.strip() for line in tail(log) if line.strip()] if log else []
    telling = [line for line in lines if re.search(r"slurmstepd|srun: error|out of memory|oom", line, re.IGNORECASE)]
    return (telling or lines or ["its log is empty"])[-1 if not telling else 0]


def _log(sweep: Sweep, run: Run, last: claim.Record | None) -> Path | None:
    if last is not None and last.log and (not last.outcome or _began(run, last)):
        return Path(last.log)
    if run.command is not None and run.entry.job:
        log = run.command.engine.log(sweep, run.entry.job)
        if log.name:
            return log
    return sweep.root / run.entry.name / "run.log"


def _progress(root: Path, last: claim.Record | None) -> tuple[int, int, float | None]:
    """Steps done, steps in all, seconds that the rest of them will take at the pace so far."""
    steps = last.steps if last else 0
    for line in reversed(tail(RunPaths(root).steps)):
        try:
            found = json.loads(line)
            step = int(found["step"]) + 1
        except (ValueError, KeyError, TypeError):
            continue
        pace = float(found.get("seconds", 0.0)) / step
        return step, steps, pace * (steps - step) if steps else None
    return 0, steps, None


def _done(sweep: Sweep, run: Run) -> Path:
    return RunPaths(sweep.root / run.entry.name).done


def _pair(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key.lstrip("+~"), unquoted(value)
