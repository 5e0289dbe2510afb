"""Loggers: the file continues where the checkpoint is, W&B works without an account."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from headstudio.log import JsonlLogger, Loggers, NoLogger, WandbLogger


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_resumed_run_drops_the_lines_that_its_checkpoint_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = JsonlLogger(path)
    first.start(0)
    for step in range(5):
        first.values(step, {"loss": float(step)})
    with path.open("a") as file:
        file.write('{"step": 5, "lo')  # killed in the middle of a line
    second = JsonlLogger(path)
    second.start(3)
    second.values(3, {"loss": 30.0})
    assert [(line["step"], line["loss"]) for line in lines(path)] == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0)]
    seconds = [line["seconds"] for line in lines(path)]
    assert seconds == sorted(seconds)


def test_a_new_run_starts_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for _ in range(2):
        logger = JsonlLogger(path)
        logger.start(0)
        logger.values(0, {"loss": 1.0})
    assert len(lines(path)) == 1


def test_several_loggers_hear_the_same(tmp_path: Path) -> None:
    one, two = JsonlLogger(tmp_path / "one"), JsonlLogger(tmp_path / "two")
    both = Loggers((one, two, NoLogger(directory=tmp_path)))
    both.start(0)
    both.values(7, {"loss": 2.0})
    both.picture(7, "view", torch.zeros(3, 4, 4))
    both.summary({}, {})
    both.close()
    assert lines(tmp_path / "one")[0]["loss"] == lines(tmp_path / "two")[0]["loss"] == 2.0


@pytest.mark.slow
def test_wandb_offline_needs_no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no login file
    logger = WandbLogger(
        project="headstudio",
        entity=None,
        mode="offline",
        directory=tmp_path,
        signature="abc123",
        name="a-head",
        group="a-sweep",
        config={"reg": {"lambda_pos": 0.1}},
    )
    logger.start(0)
    logger.values(0, {"guidance": 1.0})
    logger.picture(0, "view", torch.rand(3, 8, 8))
    logger.summary({"clip": 0.3}, {"grid": tmp_path / "missing.txt"})
    run = logger._run
    assert (run.id, run.group, run.project) == ("abc123", "a-sweep", "headstudio")
    assert run.config["reg"]["lambda_pos"] == 0.1
    assert run.summary["clip"] == 0.3
    logger.close()
    stored = list((tmp_path / "wandb").glob("offline-run-*-abc123/run-abc123.wandb"))
    assert len(stored) == 1
    assert stored[0].stat().st_size > 0
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/images/view_0_*.png"))


KILLED = """
import os, signal, sys, time
from pathlib import Path
from headstudio.log import JsonlLogger, Loggers, WandbLogger
folder, first, last, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
about = {"project": "p", "entity": None, "mode": "offline", "signature": "abc123", "name": "n", "group": None}
wandb = WandbLogger(directory=folder, config={}, **about)
loggers = Loggers((JsonlLogger(folder / "metrics.jsonl"), wandb))
loggers.start(first)
for step in range(first, last):
    loggers.values(step, {"loss": float(step)})
time.sleep(seconds)
if seconds:
    os.kill(os.getpid(), signal.SIGKILL)
loggers.close()
"""


@pytest.mark.slow
def test_after_any_kill_wandb_has_every_step_once(tmp_path: Path) -> None:
    """Killed before W&B wrote anything, killed when it had written more than the checkpoint knows, then ended."""
    from headstudio.wandb_files import recorded_steps

    for first, last, seconds in ((0, 6, 0.01), (3, 9, 4.0), (6, 12, 0.0)):
        words = [sys.executable, "-c", KILLED, str(tmp_path), str(first), str(last), str(seconds)]
        own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        done = subprocess.run(words, check=False, capture_output=True, text=True, env=own)
        assert done.returncode == (-signal.SIGKILL if seconds else 0), done.stderr
        time.sleep(1.1)  # W&B names its folders by the second
    files = sorted((tmp_path / "wandb").glob("offline-run-*-abc123/run-abc123.wandb"))
    assert len(files) == 3
    each = []
    for file in files:
        alone = tmp_path / file.parent.name / file.parent.name
        alone.mkdir(parents=True)
        shutil.copy(file, alone)
        each.append(recorded_steps(alone.parent, "abc123"))
    assert set().union(*each) == set(range(12))
    assert sum(map(len, each)) == 12


def test_a_wandb_that_is_gone_does_not_take_the_run_along(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = WandbLogger(
        project="p", entity=None, mode="disabled", directory=tmp_path, signature="a", name="n", group=None, config={}
    )

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionResetError("Connection lost")

    monkeypatch.setattr(logger, "_run", SimpleNamespace(log=refuse, finish=refuse, starting_step=0, summary={}))
    logger.start(0)
    logger.values(0, {"loss": 1.0})
    logger.picture(0, "view", torch.zeros(3, 4, 4))
    logger.summary({"clip_score": 0.5}, {})
    logger.close()
    assert caplog.text.count("W&B does not answer (Connection lost)") == 1
