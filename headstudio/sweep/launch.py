"""A command's runs, from overrides to results: compose, leave out what is done or under way, freeze, submit, wait."""

from __future__ import annotations

import gc
import logging
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstudio import claim
from headstudio.runstate import RunPaths, surroundings
from headstudio.sweep import freeze, slurm
from headstudio.sweep.compose import Composer, fingerprint
from headstudio.sweep.record import Command, Entry, Sweep
from headstudio.sweep.state import OPEN, RunState, read_states
from headstudio.sweep.watch import wait

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.utils import JobReturn
    from omegaconf import DictConfig

    from headstudio.sweep.engine import Engine

log = logging.getLogger("headstudio")


@dataclass(frozen=True)
class Planned:
    """What a command comes to: an entry per run, and the configs of those that must be done."""

    entries: tuple[Entry, ...]  # one per override list, in order; the same run may stand there twice
    todo: dict[str, bytes]  # name to what `freeze.pack` made of it
    composed_by: str | None
    packages: set[str]  # the user's own, which the configs name


def launch(
    engine: Engine,
    batch: Sequence[Sequence[str]],
    *,
    loader: ConfigLoader,
    master: DictConfig,
    task: Callable[[DictConfig], Any],
    first_number: int,
    packages: Sequence[str],
    detach: bool,
) -> list[JobReturn]:
    """Do the runs of one batch.

    Args:
        engine: how they reach machines.
        batch: one list of overrides per run.
        loader, master: Hydra's, and the config of the command itself.
        task: what a run calls; its attribute `check`, if it has one, sees every config before anything is submitted.
        first_number: Hydra's number of the first run.
        packages: whose code is frozen.
        detach: return when everything is submitted.

    Returns:
        One per run, in order; a run that did not finish has status FAILED. Detached, they hold no values.

    Raises:
        UserError: with nothing submitted.
        KeyboardInterrupt: on Ctrl-C, saying what goes on.
    """
    engine.check()
    sweep = Sweep(Path(str(master.hydra.sweep.dir)).absolute())
    earlier = sweep.commands() if (sweep.folder / "commands").is_dir() else []
    composer = Composer(loader, master)
    planned = _plan(
        sweep, earlier, composer, batch, first_number, task, fingerprint(loader, master, str(surroundings()))
    )
    sweep.prepare()
    command = submit(sweep, engine, planned, [*packages, *sorted(planned.packages)])
    names = list(dict.fromkeys(entry.name for entry in planned.entries))
    ended = [] if detach else wait(sweep, command, names)
    states: dict[str, RunState | None] = dict.fromkeys(names) | {state.name: state for state in ended}
    results = {name: _result(sweep, command, name, state) for name, state in states.items()}
    return [results[entry.name] for entry in planned.entries]


def submit(sweep: Sweep, engine: Engine, planned: Planned, packages: Sequence[str]) -> Command:
    """Freeze what is to be done, record the command, hand it over.

    Raises:
        UserError: from the engine; what was made for it is removed again.
    """
    code = freeze.freeze_code(sweep.code, packages) if planned.todo else ""
    for name, packed in planned.todo.items():
        freeze.freeze_run(sweep.root / name, sweep.code / f"{code}.zip", packed)
    entries = {e.name: Entry(e.name, e.overrides, code if e.name in planned.todo else "") for e in planned.entries}
    command = Command.now(engine, list(entries.values()), planned.composed_by)
    return hand_over(sweep, engine, command)


def hand_over(sweep: Sweep, engine: Engine, command: Command) -> Command:
    """Record the command and submit its runs, whose directories are frozen; all or nothing."""
    if not command.submitted:
        sweep.save(command)
        return command
    try:
        sweep.save(command)
        command = command.with_jobs(engine.submit(sweep, command))
    except Exception:
        sweep.forget(command)
        for name in command.submitted:
            freeze.unfreeze_new(sweep.root / name)
        raise
    sweep.save(command)
    return command


def _plan(
    sweep: Sweep,
    earlier: Sequence[Command],
    composer: Composer,
    batch: Sequence[Sequence[str]],
    first_number: int,
    task: Callable[[DictConfig], Any],
    composed_by: str | None,
) -> Planned:
    """Which runs these are, and which of them have to be done."""
    known = {
        entry.overrides: entry.name
        for command in earlier
        if composed_by is not None and command.composed_by == composed_by
        for entry in command.entries
    }
    own: dict[str, set[str]] = {}
    gc.freeze()  # composing makes a lot of garbage; what is there already need not be looked through each time
    entries: list[Entry] = []
    composed: dict[str, bytes] = {}  # packed at once: a thousand living configs would keep the garbage collector busy
    for number, overrides in enumerate(batch, first_number):
        name = known.get(tuple(overrides))
        if name is None or not RunPaths(sweep.root / name).done.exists():
            run = composer.compose(overrides, number)
            getattr(task, "check", lambda config: None)(run.config)
            name = os.path.relpath(run.directory, sweep.root)
            if name not in composed:
                composed[name] = freeze.pack(task, run.config)
            alike = f"{run.config.hydra.runtime.choices} {[word for word in overrides if '_target_' in word]}"
            if alike not in own:
                own[alike] = freeze.own_packages(run.config)
        entries.append(Entry(name, tuple(overrides)))
    open_ = {s.name for s in read_states(sweep, earlier) if s.state in OPEN} if earlier else set()
    open_ |= {name for name in composed if claim.working(sweep.root / name, slurm.job_is_alive)}
    todo = {n: r for n, r in composed.items() if n not in open_ and not RunPaths(sweep.root / n).done.exists()}
    _tell(entries, todo, open_)
    return Planned(tuple(entries), todo, composed_by, set().union(*own.values()))


def _tell(entries: Sequence[Entry], todo: dict[str, bytes], open_: set[str]) -> None:
    names = {entry.name for entry in entries}
    twice = len(entries) - len(names)
    waiting = len(names & open_)
    parts = [
        f"{len(todo)} to do",
        f"{len(names) - len(todo) - waiting} already finished" if len(names) - len(todo) - waiting else "",
        f"{waiting} under way" if waiting else "",
        f"{twice} named twice" if twice else "",
    ]
    log.info("%d run%s: %s", len(entries), "s" * (len(entries) != 1), ", ".join(filter(None, parts)))


def _result(sweep: Sweep, command: Command, name: str, state: RunState | None) -> JobReturn:
    """What Hydra's sweepers want to know of a run."""
    from hydra.core.utils import JobReturn, JobStatus
    from submitit.core.utils import JobPaths

    entry = command.submitted.get(name)
    if state is not None and state.state == "finished" and entry is not None:
        path = JobPaths(sweep.jobs, entry.job, 0).result_pickle
        if path.exists():
            outcome, result = pickle.loads(path.read_bytes())
            if outcome == "success" and result is not None:
                return result  # type: ignore[no-any-return]
    result = JobReturn()
    overrides = next(e.overrides for e in command.entries if e.name == name)
    result.overrides, result.working_dir = list(overrides), str(sweep.root / name)
    result.status, result.return_value = JobStatus.COMPLETED, None
    if state is not None and state.state == "finished":
        result.return_value = dict(state.scores)
    elif state is not None:
        result.status, result.return_value = JobStatus.FAILED, RuntimeError(f"{name} {state.state}: {state.reason}")
    return result
