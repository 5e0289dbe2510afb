"""The table at the end of a multirun, read from the runs' directories."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from headstudio.runstate import RunPaths
from headstudio.sweep import SweepTable, differing, print_table, read_rows, write_summary


def make_run(folder: Path, name: str, overrides: list[str], started: float, **outcome: object) -> RunPaths:
    paths = RunPaths(folder / name)
    (paths.root / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(overrides), paths.root / ".hydra" / "overrides.yaml")
    os.utime(paths.root / ".hydra" / "overrides.yaml", (started, started))
    if "metrics" in outcome:
        paths.grid.write_bytes(b"png")
        paths.finish(name, outcome["metrics"])  # type: ignore[arg-type]
    elif "reason" in outcome:
        paths.failed.write_text(f"{outcome['reason']}\n")
    return paths


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    make_run(
        tmp_path, "b", ["reg=none", "+seed=1"], 20, metrics={"clip": 0.25, "phase_seconds": {"head": 0.5}, "x": "y"}
    )
    make_run(tmp_path, "a", ["reg=strict", "+seed=1"], 30, reason="scale.steps=-1 must be a whole number.")
    make_run(tmp_path, "c", ["reg=scaled", "+seed=1"], 40)
    make_run(tmp_path, "stale", ["reg=old", "+seed=1"], 5, metrics={"clip": 9.0})
    return tmp_path


def test_rows_come_in_the_order_of_the_runs_and_without_stale_ones(sweep: Path) -> None:
    rows = read_rows(sweep, since=10)
    assert [row.overrides["reg"] for row in rows] == ["none", "strict", "scaled"]
    assert [row.status for row in rows] == ["finished", "failed", "unfinished"]
    assert rows[0].scores == {"clip": 0.25, "phase_seconds.head": 0.5}
    assert rows[1].reason == "scale.steps=-1 must be a whole number."


def test_only_what_differs_is_shown(sweep: Path) -> None:
    assert differing(read_rows(sweep)) == ["reg"]


def test_the_summary_files_hold_every_run(sweep: Path) -> None:
    write_summary(sweep, read_rows(sweep, since=10))
    with (sweep / "summary.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert [(r["reg"], r["status"], r["clip"]) for r in records] == [
        ("none", "finished", "0.25"),
        ("strict", "failed", ""),
        ("scaled", "unfinished", ""),
    ]
    assert records[0]["grid"] == "b/grid.png"
    assert (sweep / records[0]["grid"]).exists()
    same = json.loads((sweep / "summary.json").read_text())
    assert [r["phase_seconds.head"] for r in same] == [0.5, "", ""]


def test_the_table_names_scores_reasons_and_pictures(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(sweep, read_rows(sweep, since=10))
    out = capsys.readouterr().out
    for text in ("none", "0.25", "b/grid.png", "scale.steps=-1 must be", "unfinished", "summary.csv"):
        assert text in out
    assert "phase_seconds" not in out


def test_a_failed_run_makes_the_command_fail(sweep: Path) -> None:
    callback, config = SweepTable(), OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}})
    with pytest.raises(SystemExit) as stop:
        callback.on_multirun_end(config)
    assert stop.value.code == 1


def test_an_empty_sweep_says_nothing(tmp_path: Path) -> None:
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    callback = SweepTable()
    callback.on_multirun_start(config)
    callback.on_multirun_end(config)
    assert not list(tmp_path.iterdir())
