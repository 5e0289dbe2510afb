"""What can be done to a sweep from outside: stop runs, try them again, clear away, show what ran, repeat it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from headstudio import claim
from headstudio.errors import UserError
from headstudio.progress import duration
from headstudio.runstate import RunPaths
from headstudio.sweep import freeze
from headstudio.sweep.inprocess import InProcess
from headstudio.sweep.launch import hand_over
from headstudio.sweep.local import Local
from headstudio.sweep.record import Command, Entry, Run, Sweep
from headstudio.sweep.state import OPEN, RunState, tail


def chosen(sweep: Sweep, words: Sequence[str], states: Sequence[RunState]) -> list[RunState]:
    """The runs that the user means: numbers of the status table, names, or parts of names; all if no word is given.

    Raises:
        UserError: for a word that fits no run or several.
    """
    found: dict[str, RunState] = {}
    for word in words:
        fits = [s for n, s in enumerate(states) if word == str(n) or word.rstrip("/").rpartition("/")[2] == s.name]
        fits = fits or [s for s in states if word in s.name]
        if len(fits) != 1:
            some = ", ".join(s.name for s in fits[:4]) or "python -m headstudio.sweep status lists them"
            raise UserError(
                f"{word!r} names {len(fits) or 'no'} runs of {sweep.root} ({some}); give one's number or name."
            )
        found[fits[0].name] = fits[0]
    return list(found.values()) if words else list(states)


def cancel(sweep: Sweep, states: Sequence[RunState]) -> str:
    """Stop what waits or runs; says how many."""
    open_ = {state.name for state in states if state.state in OPEN}
    runs = [run for run in sweep.runs() if run.entry.name in open_ and run.command is not None]
    foreign = open_ - {run.entry.name for run in runs}
    for command in {run.command.stamp: run.command for run in runs if run.command}.values():
        names = frozenset(run.entry.name for run in runs if run.command is command)
        command.engine.cancel(sweep, command, names)
    text = f"{len(runs)} runs told to stop; what they saved stays, and retry goes on from there."
    if foreign:
        text += f" Not started by this sweep, so stop them where they run: {', '.join(sorted(foreign))}."
    return text


def retry(sweep: Sweep, states: Sequence[RunState], *, named: bool) -> str:
    """Submit again what failed, died or was stopped, with the code and the launcher of its last submission.

    Raises:
        UserError: if a named run cannot be tried again, or SLURM refuses.
    """
    runs = {run.entry.name: run for run in sweep.runs()}
    again: list[Run] = []
    for state in states:
        run = runs[state.name]
        if state.state in ("finished", *OPEN):
            if named:
                raise UserError(f"{state.name} is {state.state}: there is nothing to try again.")
        elif run.command is None or not (sweep.root / state.name / "frozen" / "job.pkl").exists():
            raise UserError(f"{state.name} was never submitted here; start the sweep's command again.")
        else:
            again.append(run)
    if not again:
        return "Nothing to try again."
    groups: dict[str, list[Run]] = {}
    for run in again:
        assert run.command is not None
        groups.setdefault(json.dumps(dict(run.command.launcher), sort_keys=True), []).append(run)
    for group in groups.values():
        assert group[0].command is not None
        engine = group[0].command.engine
        if isinstance(engine, InProcess):  # which ended with its command
            engine = Local(workers=1, gpus_per_run=1)
        engine.check()
        hand_over(sweep, engine, Command.now(engine, [_with_code(sweep, run) for run in group]))
    return f"{len(again)} runs submitted again."


def clean(sweep: Sweep, states: Sequence[RunState], *, named: bool) -> tuple[list[Path], str]:
    """What `clean` would remove, and the sentence about it; nothing is removed here.

    Named runs go altogether. Without names, finished runs lose what only a further start would need: their checkpoint,
    and the job files of all ended runs.

    Raises:
        UserError: for a named run that waits or runs.
    """
    if named:
        for state in states:
            if state.state in OPEN:
                raise UserError(f"{state.name} is {state.state}; cancel it first.")
        paths = [state.directory for state in states]
        return paths, f"{len(paths)} runs altogether, {_megabytes(paths):.1f} MB"
    ended = {state.name: state for state in states if state.state not in OPEN}
    paths = [RunPaths(s.directory).checkpoint for s in ended.values() if s.state == "finished"]
    for command in sweep.commands():
        if command.submitted.keys() <= ended.keys():
            paths += [p for e in command.submitted.values() if e.job for p in sweep.jobs.glob(f"{e.job}_*.pkl")]
    paths = [path for path in paths if path.exists()]
    return paths, f"checkpoints of finished runs and job files, {len(paths)} files, {_megabytes(paths):.1f} MB"


def remove(paths: Sequence[Path]) -> None:
    """Remove files and folders."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def show(sweep: Sweep, state: RunState) -> str:
    """What a run is made of: overrides, config, code, and every attempt at it."""
    lines = [state.name, f"  overrides  {' '.join(f'{k}={v}' for k, v in state.overrides.items())}"]
    lines.append(f"  config     {RunPaths(state.directory).config}")
    archive = state.directory / "frozen" / "code.zip"
    if archive.exists():
        with zipfile.ZipFile(archive) as file:
            origin = json.loads(file.read(freeze.SHOWN))
        changed = f", changed since: {', '.join(origin['changed'])}" if origin["changed"] else ""
        lines.append(f"  code       {origin['code']} in {archive}")
        lines.append(f"             commit {origin['commit'] or 'unknown'}{changed}; Python {origin['python']}")
    for path in sorted((state.directory / claim.FOLDER).glob("*.json")):
        record = claim.read(path)
        began = datetime.fromtimestamp(record.started).strftime("%Y-%m-%d %H:%M:%S")
        took = duration(record.ended - record.started) if record.ended else "so far"
        outcome = record.outcome or state.state
        where = claim.describe(record.owner)
        lines.append(f"  attempt {record.number}  {began}, {took}, {outcome}, {where}")
        if record.reason:
            lines.append(f"             {record.reason}")
        if record.log:
            lines.append(f"             {record.log}")
    lines.append(f"  repeat     python -m headstudio.sweep repeat {state.directory} INTO")
    return "\n".join(lines)


def repeat(root: Path, into: Path) -> int:
    """Do a run once more from what its directory carries, in another directory; returns the exit code.

    Raises:
        UserError: if the directory carries no frozen run, `into` exists, or the weights differ.
    """
    if not (root / "frozen" / "job.pkl").exists():
        raise UserError(f"{root} carries no frozen run; give the directory of a run of a multirun.")
    if into.exists():
        raise UserError(f"{into} exists; name a directory that does not.")
    with tempfile.TemporaryDirectory() as folder:
        code = freeze.code_of_run(root, Path(folder))
        shutil.copytree(root / "frozen", into / "frozen")
        environment = {**os.environ, **freeze.environment(code)}
        words = [sys.executable, "-m", "headstudio.sweep.job", str(into.absolute())]
        return subprocess.run(words, env=environment, check=False).returncode


def last_words(state: RunState, lines: int) -> list[str]:
    """The end of a run's log."""
    return tail(state.log, 400 * lines)[-lines:] if state.log else []


def _with_code(sweep: Sweep, run: Run) -> Entry:
    """The entry, submitted anew; its code unpacked again if the sweep's copy was removed."""
    code = sweep.code / run.entry.code
    if not code.exists():
        freeze.code_of_run(sweep.root / run.entry.name, code)
    return replace(run.entry, job="")


def _megabytes(paths: Sequence[Path]) -> float:
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6
