"""The end of a multirun: one table of all runs, and the same as summary.csv and summary.json."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from headstudio.runstate import RunPaths

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Row:
    """One run of a sweep, as its directory tells it."""

    overrides: dict[str, str]
    status: str  # "finished", "failed" or "unfinished"
    scores: dict[str, float]
    reason: str  # why it failed
    directory: Path


class SweepTable(Callback):
    """Hydra's callback: prints and writes the table; a failed run makes the command's exit code 1."""

    def __init__(self) -> None:
        self._start = 0.0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember when: directories that no job of this sweep touched are not its runs."""
        self._start = time.time() - 1.0  # coarse file clocks

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read the runs' directories (whatever launcher filled them) and tell."""
        folder = Path(str(config.hydra.sweep.dir))
        rows = read_rows(folder, since=self._start)
        if not rows:
            return
        write_summary(folder, rows)
        print_table(folder, rows)
        if any(row.status != "finished" for row in rows):
            raise SystemExit(1)  # an ordinary exception would only become a warning of Hydra's


def read_rows(folder: Path, since: float = 0.0) -> list[Row]:
    """The runs below `folder` that were started (again) after `since` (seconds of the epoch), in order of start."""
    found = []
    for overrides in folder.glob("*/.hydra/overrides.yaml"):
        started = overrides.stat().st_mtime
        if started >= since:
            found.append((started, overrides))
    return [_row(RunPaths(file.parent.parent), _overrides(file)) for _, file in sorted(found)]


def differing(rows: Sequence[Row]) -> list[str]:
    """The keys whose values are not the same in all runs, in the order of the command line."""
    keys = list(dict.fromkeys(key for row in rows for key in row.overrides))
    return [key for key in keys if len({row.overrides.get(key) for row in rows}) > 1]


def write_summary(folder: Path, rows: Sequence[Row]) -> None:
    """summary.csv and summary.json: a row per run with what differs, status, every number, and the pictures."""
    keys = differing(rows)
    scores = list(dict.fromkeys(name for row in rows for name in row.scores))
    records: list[dict[str, str | float]] = [
        {
            **{key: row.overrides.get(key, "") for key in keys},
            "status": row.status,
            "reason": row.reason,
            **{name: row.scores.get(name, "") for name in scores},
            **_pictures(row, folder),
        }
        for row in rows
    ]
    with (folder / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    (folder / "summary.json").write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")


def print_table(folder: Path, rows: Sequence[Row]) -> None:
    """One table on standard output; seconds per phase and scores per attribute stay in the summary files."""
    from rich.console import Console
    from rich.table import Table

    keys = differing(rows)
    scores = [n for n in dict.fromkeys(name for row in rows for name in row.scores) if "." not in n and "/" not in n]
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(title=f"{len(rows)} runs in {folder}")
    for key in keys:
        table.add_column(key, style="bold")
    for name in ("status", *scores):
        table.add_column(name, justify="right")
    table.add_column("pictures", overflow="fold")
    for row in rows:
        numbers = [_short(row.scores[name]) if name in row.scores else "" for name in scores]
        seen = row.reason or _pictures(row, folder)["grid"]
        table.add_row(*(row.overrides.get(key, "") for key in keys), row.status, *numbers, seen)
    console.print(table)
    console.print(f"Also in {folder / 'summary.csv'}", highlight=False)


def _short(value: float) -> str:
    """Four digits, and large counts whole."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _row(paths: RunPaths, overrides: dict[str, str]) -> Row:
    if paths.done.exists() and paths.metrics.exists():
        metrics = json.loads(paths.metrics.read_text(encoding="utf-8"))
        return Row(overrides, "finished", _numbers(metrics), "", paths.root)
    if paths.failed.exists():
        return Row(overrides, "failed", {}, paths.failed.read_text(encoding="utf-8").strip(), paths.root)
    return Row(overrides, "unfinished", {}, "start the same command again to go on", paths.root)


def _pictures(row: Row, folder: Path) -> dict[str, str]:
    """Where to look, seen from the sweep's folder, so that the folder may move."""
    paths = RunPaths(row.directory.relative_to(folder))
    files = {"grid": paths.grid, "turntable": paths.turntable, "animation": paths.animation, "avatar": paths.avatar}
    there = {name: str(path) if (folder / path).exists() else "" for name, path in files.items()}
    return there | {"directory": str(paths.root)}


def _overrides(file: Path) -> dict[str, str]:
    from omegaconf import OmegaConf

    pairs = (str(entry).partition("=") for entry in OmegaConf.load(file))
    return {key.lstrip("+~"): value for key, _, value in pairs}


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested numbers as dotted ones, everything else left out."""
    numbers: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            numbers |= _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[f"{prefix}{key}"] = float(value)
    return numbers
