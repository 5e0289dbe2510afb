"""Whole runs as a user starts them: sweeps, experiments, Ctrl-C and a kill in the middle."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command, run

from headstudio.errors import UserError
from headstudio.report import sheet

TINY = [
    "scale=smoke",
    "scale.steps=4",
    "scale.width=64",
    "scale.height=64",
    "scale.gallery_size=32",
    "scale.gallery_seconds=0.2",
    "densify=none",
    "metrics=none",
]
LONGER = [*TINY, "scale.steps=20", "scale.checkpoint_every_steps=2", "hydra.run.dir=run"]

pytestmark = pytest.mark.slow


def finished(*arguments: str, cwd: Path) -> str:
    done = run("headstudio.run", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_sweep_ends_with_a_table_and_is_not_run_twice(tmp_path: Path) -> None:
    command = ["-m", "reg=none,scaled", *TINY, "hydra.sweep.dir=sweep"]
    out = finished(*command, cwd=tmp_path)
    assert re.search(r"2 runs in\s", out)
    with (tmp_path / "sweep" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["reg"] for row in rows] == ["none", "scaled"]
    assert all(row["status"] == "finished" for row in rows)
    assert all((tmp_path / "sweep" / row["grid"]).is_file() for row in rows)
    assert "2 runs: 0 to do, 2 already finished" in finished(*command, cwd=tmp_path)

    assert sheet.write_sheet(tmp_path / "sweep", tmp_path / "sheet.png", size=32) == 2
    assert (tmp_path / "sheet.png").stat().st_size > 0
    with pytest.raises(UserError, match="is not a sweep"):
        sheet.write_sheet(tmp_path, tmp_path / "none.png", size=32)


def interrupted(number: signal.Signals, *arguments: str, cwd: Path) -> tuple[int | None, str]:
    """Start a run, send it a signal once its first checkpoint is there; exit code and what it said last."""
    process = Command("headstudio.run", *arguments, cwd=cwd)
    deadline = time.monotonic() + 200
    while not (cwd / "run" / "checkpoint").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=200)
    return process.returncode, errors


def equal(one: Any, other: Any) -> bool:
    """Whether two checkpoints hold the same values, bit by bit (their pickles may share strings differently)."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that was left alone, in an interpreter of its own."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, "-m", "headstudio.run", *LONGER]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder / "run"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path: Path, whole: Path, number: signal.Signals) -> None:
    code, errors = interrupted(number, *LONGER, cwd=tmp_path)
    if number is signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 130
        assert "Stopping after this step; saving" in errors
        assert "of 20; everything is saved in" in errors
        assert "Start the same command again to go on from there." in errors
        assert "Traceback" not in errors
    assert not (tmp_path / "run" / "DONE").exists()
    assert "Going on from step" in finished(*LONGER, cwd=tmp_path)

    for name in ("avatar.ply", "grid.png"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()
    states = [torch.load(folder / "checkpoint", weights_only=True) for folder in (tmp_path / "run", whole)]
    assert equal(*states)
