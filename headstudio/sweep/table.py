"""Tables of a sweep's runs: while they are done, at the end, and as summary.csv and summary.json."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from headstudio.files import put
from headstudio.progress import duration
from headstudio.report.glossary import COSTS, main_metrics, metric
from headstudio.runstate import RunPaths
from headstudio.sweep.state import STATES, RunState

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from headstudio.sweep.record import Sweep

COLOURS = {
    "queued": "dim",
    "running": "cyan",
    "finished": "green",
    "failed": "bold red",
    "killed": "bold red",
    "stopped": "yellow",
}


def differing(states: Sequence[RunState]) -> list[str]:
    """The keys whose values are not the same in all runs, in the order of the command line."""
    keys = list(dict.fromkeys(key for state in states for key in state.overrides))
    return [key for key in keys if len({state.overrides.get(key) for state in states}) > 1]


def numbers_of(states: Sequence[RunState]) -> list[str]:
    """The names of all numbers that the runs have, in the order of their files."""
    return list(dict.fromkeys(name for state in states for name in state.scores))


def headline(states: Sequence[RunState]) -> str:
    """How many runs are in which state: "9 runs: 4 finished, 1 failed, 2 running, 2 queued, 12:30 left"."""
    counts = Counter(state.state for state in states)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    if counts["running"] and (left_s := _left_s(states, counts)) is not None:
        parts.append(f"about {duration(left_s)} left")
    return f"{_count(states)}: {', '.join(parts)}" if states else "no runs"


def _left_s(states: Sequence[RunState], counts: Mapping[str, int]) -> float | None:
    """What waits takes as long as what has run, or else as what runs, and as many run at a time as now."""
    running = [(s.eta_s, s.steps, s.step) for s in states if s.eta_s is not None]
    whole = [s.scores["seconds"] for s in states if "seconds" in s.scores]
    whole = whole or [eta_s * steps / (steps - step) for eta_s, steps, step in running if eta_s and steps > step]
    if not running or (counts["queued"] and not whole):
        return None  # a run that is only being judged tells nothing of those that wait
    a_run = median(whole) if whole else math.inf  # and one in its first steps too much
    ahead = counts["queued"] / counts["running"] * a_run if counts["queued"] else 0.0
    return max(min(eta_s, a_run) for eta_s, _, _ in running) + ahead


def status_table(sweep: Sweep, states: Sequence[RunState], shown: Sequence[int] | None = None) -> Table:
    """Run, what differs, state, step, scores, time left, node, log or reason: a line per run.

    Args:
        sweep: whose runs.
        states: all of them; a run's number is its place here.
        shown: the numbers of those to show; None is all.
    """
    from rich.table import Table
    from rich.text import Text

    keys = differing(states)
    scores = main_metrics(numbers_of(states))
    table = Table(title=f"{sweep.root}\n{headline(states)}", title_justify="left")
    table.add_column("#", justify="right")
    for key in keys:
        table.add_column(key.removeprefix("hydra."), style="bold", overflow="fold")
    for name in ("state", "step", *scores, "left", "node"):
        table.add_column(name, justify="right", no_wrap=name in ("state", "step", "left"))
    table.add_column("log or reason", overflow="fold")
    for number in range(len(states)) if shown is None else shown:
        state = states[number]
        step = f"{state.step}/{state.steps or '?'}" if state.step and state.state != "finished" else ""
        table.add_row(
            str(number),
            *(state.overrides.get(key, "") for key in keys),
            Text(state.state, COLOURS[state.state]),
            step,
            *(_short(state.scores[name]) if name in state.scores else "" for name in scores),
            "" if state.eta_s is None else duration(state.eta_s),
            state.node,
            Text(state.reason or relative(sweep, state)),
        )
    return table


def live_table(sweep: Sweep, states: Sequence[RunState], *, height: int) -> RenderableType:
    """`status_table` cut to a terminal: what runs and what went wrong first, the rest as counts."""
    from rich.console import Group
    from rich.text import Text

    order = ("running", "failed", "killed", "stopped", "queued", "finished")
    ranked = sorted(range(len(states)), key=lambda number: order.index(states[number].state))
    shown = sorted(ranked[: max(3, height - 9)])
    table = status_table(sweep, states, shown)
    left = len(states) - len(shown)
    return Group(table, Text(f"and {left} more: python -m headstudio.sweep status {sweep.root}")) if left else table


def relative(sweep: Sweep, state: RunState) -> str:
    """A run's log as seen from the sweep's directory, so that a line stays short."""
    if state.log is None:
        return ""
    root, log = sweep.root.absolute(), state.log.absolute()
    return str(log.relative_to(root)) if log.is_relative_to(root) else str(log)


def write_summary(sweep: Sweep, states: Sequence[RunState]) -> None:
    """summary.csv and summary.json: a row per run with what differs, status, every number, and the pictures."""
    if not states:
        return
    keys = differing(states)
    scores = numbers_of(states)
    records: list[dict[str, str | float]] = [
        {
            **{key: state.overrides.get(key, "") for key in keys},
            "status": state.state,
            "reason": state.reason,
            **{name: state.scores.get(name, "") for name in scores},
            **_pictures(sweep, state),
        }
        for state in states
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    put(sweep.root / "summary.csv", text.getvalue())
    put(sweep.root / "summary.json", json.dumps(records, indent=2) + "\n")


def print_table(sweep: Sweep, states: Sequence[RunState], *, wide: int = 200) -> None:
    """The end of a sweep on standard output: scores and pictures of what finished, reason and log of what did not.

    Args:
        wide: columns where the output is no terminal.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    keys = differing(states)
    known = numbers_of(states)
    own = [name for name in known if "." not in name and "/" not in name and not metric(name).says]  # the user's
    names = [*main_metrics(known), *own, *(name for name in COSTS if name in known)]  # the summary files have the rest
    console = Console()
    if not console.is_terminal:
        console = Console(width=wide)
    table = Table(title=f"{_count(states)} in {sweep.root}")
    for key in keys:
        table.add_column(key, style="bold")
    for name in ("status", *names):
        table.add_column(name, justify="right")
    table.add_column("pictures", overflow="fold")
    for state in states:
        values = [_short(state.scores[name]) if name in state.scores else "" for name in names]
        status = Text(state.state, COLOURS[state.state])
        table.add_row(*(state.overrides.get(key, "") for key in keys), status, *values, _pictures(sweep, state)["grid"])
    console.print(table)
    print_failures(console, [state for state in states if state.state != "finished"])
    console.print(f"Also in {sweep.root / 'summary.csv'}", highlight=False)


def print_failures(console: Console, states: Sequence[RunState], *, most: int = 50) -> None:
    """Two lines for each: why, and where to read more."""
    from rich.markup import escape

    for state in states[:most]:
        colour = COLOURS[state.state]
        console.print(f"[{colour}]{state.state}[/] {escape(state.name)}: {escape(state.reason)}", highlight=False)
        if state.log is not None:
            console.print(f"    {escape(str(state.log))}", highlight=False, soft_wrap=True)
    if len(states) > most:
        console.print(f"... and {len(states) - most} more, all in summary.csv")


def _count(states: Sequence[RunState]) -> str:
    return "1 run" if len(states) == 1 else f"{len(states)} runs"


def _short(value: float) -> str:
    """Four digits, and large counts whole."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _pictures(sweep: Sweep, state: RunState) -> dict[str, str]:
    """Where to look, seen from the sweep's folder, so that the folder may move."""
    paths = RunPaths(state.directory.relative_to(sweep.root))
    files = {"grid": paths.grid, "turntable": paths.turntable, "animation": paths.animation, "avatar": paths.avatar}
    there = {name: str(path) if (sweep.root / path).exists() else "" for name, path in files.items()}
    return there | {"directory": str(paths.root)}
