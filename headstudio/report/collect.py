"""What lies in a folder of runs, read into plain values: the report is made from these alone.

Nothing here fails for a file that is missing or broken; what was wrong with it stands in the run's `problems`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from headstudio import claim
from headstudio.errors import UserError
from headstudio.files import file_time
from headstudio.progress import duration
from headstudio.report.reading import (
    Curve,
    as_text,
    flattened,
    read_config,
    read_curve,
    read_hydra,
    read_metrics,
    read_views,
)
from headstudio.runstate import RunPaths
from headstudio.sweep.record import Command, Run, Sweep
from headstudio.sweep.state import RunState, numbers, read_states, tail

FILMS = ("turntable", "animation")
RUN_FILES = (".hydra", "metrics.jsonl", "metrics.json", "attempts", "DONE", "FAILED")
HIDDEN = ("frozen", "attempts", "snapshots", "wandb", "checkpoint")


@dataclass(frozen=True)
class Member:
    """One run, with everything that the report says of it.

    Attributes:
        name: of its directory.
        sweep: the sweep that it belongs to, seen from the report's folder; "" if there is only one, or none.
        state, reason, node, step, steps: as `RunState` has them.
        overrides: as they were given, each `key=value`; None if nobody wrote them down.
        config: every key of config.yaml, dotted, as text; empty if there is none.
        choices: the option taken of each config group, where Hydra wrote it down.
        scores: every number of metrics.json.
        views: for some scores, the values whose mean they are.
        problems: what could not be read, in sentences.
    """

    name: str
    sweep: str
    directory: Path
    state: str
    reason: str = ""
    node: str = ""
    step: int = 0
    steps: int = 0
    log: Path | None = None
    overrides: tuple[str, ...] | None = None
    prompt: str = ""
    signature: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    config_text: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    views: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    curve: Curve = field(default_factory=Curve)
    attempts: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def can_be_repeated(self) -> bool:
        return (self.directory / "frozen" / "job.pkl").exists()


@dataclass(frozen=True)
class Collection:
    """All runs below a folder, the commands that made them, and what is wrong with the whole."""

    root: Path
    members: tuple[Member, ...]
    commands: tuple[Command, ...] = ()
    sweeps: tuple[str, ...] = ()  # names of several sweeps; empty for one
    problems: tuple[str, ...] = ()


def collect(root: Path, *, with_config: int = 200) -> Collection:
    """Everything below `root`: a sweep, one run, or a folder that holds some of either.

    Args:
        root: the folder.
        with_config: of how many runs at most the whole text of the config is kept.

    Raises:
        UserError: if there is no such folder or no run in it.
    """
    if not root.is_dir():
        raise UserError(f"There is no directory {root}; give a sweep's, a run's, or one that holds some.")
    found: list[tuple[str, RunState, tuple[str, ...] | None]] = []
    commands: list[Command] = []
    problems: list[str] = []
    places = list(_places(root))
    for place in places:
        if not (place / ".sweep" / "commands").is_dir():
            found.append(("", _own_state(place), None))
            continue
        sweep, label = Sweep(place), str(place.relative_to(root)) if place != root else ""
        given = sweep.commands()
        commands += given
        overrides = {run.entry.name: run.entry.overrides for run in sweep.runs(given)}
        states, wrong = _states(sweep, given)
        problems += wrong
        found += [(label, state, overrides.get(state.name, ())) for state in states]
    if not found:
        raise UserError(f"There is no run in {root}; give a sweep's directory, a run's, or one that holds some.")
    sweeps = tuple(dict.fromkeys(label for label, _, _ in found if label))
    read = partial(_member, keep_text=len(found) <= with_config)
    with ThreadPoolExecutor(8) as pool:
        members = tuple(pool.map(read, found))
    return Collection(root, members, tuple(commands), sweeps, tuple(problems))


def _places(root: Path, depth: int = 3) -> Iterator[Path]:
    """The sweeps and the single runs at or below a folder, none of them inside another."""
    if (root / ".sweep" / "commands").is_dir() or _is_run(root):
        yield root
    elif depth:
        for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
            if entry.is_dir() and not entry.name.startswith(".") and entry.name not in HIDDEN:
                yield from _places(Path(entry.path), depth - 1)


def _is_run(root: Path) -> bool:
    """Whether a run wrote this: its config, and something that came of it."""
    return (root / "config.yaml").exists() and any((root / name).exists() for name in RUN_FILES)


def _states(sweep: Sweep, commands: Sequence[Command]) -> tuple[list[RunState], list[str]]:
    """How the runs of a sweep stand; from their directories alone where the sweep's own account is broken."""
    try:
        return read_states(sweep, commands), []
    except Exception as error:  # a broken file, or a launcher that is not installed here
        runs: list[Run] = sweep.runs(commands)
        states = [_own_state(sweep.root / run.entry.name) for run in runs]
        return states, [f"Runs are told by their own directories alone, as the sweep cannot be asked ({error})."]


def _own_state(root: Path) -> RunState:
    """A run as its directory alone tells it."""
    paths, last = RunPaths(root), claim.latest(root)
    log = Path(last.log) if last and last.log else root / "run.log"
    if paths.done.exists():
        return RunState(root.name, {}, "finished", root, log=log)
    if last is None:
        reason = paths.failed.read_text(encoding="utf-8").strip() if paths.failed.exists() else ""
        state = "failed" if reason else "stopped"
        return RunState(
            root.name, {}, state, root, reason or "It has not finished, and nobody is at work on it.", log=log
        )
    known = partial(RunState, root.name, {}, directory=root, log=log, steps=last.steps, attempts=last.number)
    if last.outcome:
        ended = last.outcome if last.outcome in ("finished", "failed", "killed", "stopped") else "stopped"
        return known(state=ended, reason=last.reason)
    if last.owner.is_alive(file_time(root / claim.FOLDER) - last.seen, lambda job: None):
        return known(state="running", node=last.owner.host)
    return known(state="killed", reason="Its process is gone without a word.")


def _member(found: tuple[str, RunState, tuple[str, ...] | None], *, keep_text: bool) -> Member:
    sweep, state, overrides = found
    paths, problems = RunPaths(state.directory), list[str]()
    content = read_config(paths.config, problems)
    flat = {key: as_text(value) for key, value in flattened(content).items()}
    choices, own = read_hydra(state.directory)
    metrics = read_metrics(paths.metrics, problems) if state.state == "finished" else {}
    details = metrics.pop("details", {})
    curve, step = read_curve(paths.steps, problems)
    missing = [name for name in FILMS if state.state == "finished" and not (state.directory / f"{name}.mp4").exists()]
    if missing:
        problems.append(f"{' and '.join(missing)} missing")
    return Member(
        state.name,
        sweep,
        state.directory,
        state.state,
        state.reason,
        state.node,
        max(state.step, step),
        state.steps,
        state.log,
        own if overrides is None else overrides,
        str(content.get("prompt", metrics.get("prompt", ""))),
        str(metrics.get("signature", "")),
        flat,
        paths.config.read_text(encoding="utf-8", errors="replace") if keep_text and flat else "",
        choices,
        {**numbers(metrics), **{k: v for k, v in state.scores.items() if not k.startswith("details.")}},
        read_views(details),
        curve,
        tuple(_attempts(state.directory)),
        tuple(problems),
    )


def _attempts(root: Path) -> Iterator[str]:
    for path in sorted((root / claim.FOLDER).glob("*.json")):
        record = claim.read(path)
        began = datetime.fromtimestamp(record.started).strftime("%Y-%m-%d %H:%M")
        took = duration(record.ended - record.started) if record.ended else "so far"
        yield f"{began}, {took}, {record.outcome or 'going on'}, {claim.describe(record.owner)}"


def log_tail(member: Member, lines: int = 12) -> tuple[str, ...]:
    """The end of a run's log."""
    return tuple(tail(member.log, 400 * lines)[-lines:]) if member.log else ()
