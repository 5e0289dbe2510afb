"""Runs that are killed at random moments, many times over, end with the bytes of a run that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_trainer import make_parts, make_trainer

from headstudio.claim import held
from headstudio.head.model import HeadModel
from headstudio.interrupt import Interrupted, stopping_at_once
from headstudio.log import JsonlLogger
from headstudio.quantities import repeatable
from headstudio.runstate import RunPaths, load_checkpoint

STEPS = 24
KILLS = 4
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2)


def forked(work: Callable[[], None]) -> int:
    """A copy of this process that does `work` and ends (forking spares it the seconds of importing torch)."""
    pid = os.fork()
    if pid:
        return pid
    try:
        with stopping_at_once():
            work()
        os._exit(0)
    except Interrupted:
        os._exit(130)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def fit(root: Path, arrays: dict[str, Any]) -> None:
    """A run as `headstudio.run` does it, with a head of 80 triangles and pictures of 24 x 24."""
    torch.set_num_threads(1)
    paths = RunPaths(root)
    with held(root) as attempt:
        saved = load_checkpoint(paths.checkpoint, "s") if paths.checkpoint.exists() else None
        parts = make_parts(HeadModel(**arrays))
        trainer = make_trainer(STEPS, checkpoint_every_steps=3, log_every_steps=1)
        trainer.fit(parts, RunPaths(root, attempt.check), "s", JsonlLogger(paths.steps), saved)
        state = load_checkpoint(paths.checkpoint, "s")
        paths.finish("s", {"means": float(state["avatar"]["means"].double().sum())})


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


WHOLE: list[Path] = []


@pytest.fixture
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_arrays: dict[str, Any]) -> Path:
    """The directory of a run that was left alone; made once."""
    if not WHOLE:
        root = tmp_path_factory.mktemp("undisturbed")
        assert ended(forked(lambda: fit(root, tiny_arrays))) == 0
        WHOLE.append(root)
    return WHOLE[0]


def wait_for_a_moment(dice: random.Random, root: Path) -> None:
    """Until a random moment of the run: while it starts, or somewhere in one of its next steps."""
    steps = root / "metrics.jsonl"
    if steps.exists() and dice.random() < 0.3:
        time.sleep(dice.uniform(0.0, 0.5))
        return
    done = len(steps.read_text().splitlines()) if steps.exists() else 0
    target = done + dice.randint(1, STEPS // 3)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (root / "DONE").exists():
        if steps.exists() and len(steps.read_text().splitlines()) >= target:
            break
        time.sleep(0.002)
    time.sleep(dice.uniform(0.0, 0.05))


def without_seconds(path: Path) -> list[dict[str, float]]:
    return [repeatable(json.loads(line)) for line in path.read_text().splitlines()]


def equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_killed_at_random_moments_it_ends_the_same(
    tmp_path: Path, undisturbed: Path, tiny_arrays: dict[str, Any], seed: int
) -> None:
    dice = random.Random(seed)
    deaths = 0
    for kills in range(KILLS + 1):
        pid = forked(lambda: fit(tmp_path, tiny_arrays))
        if kills < KILLS:  # the last one may end
            wait_for_a_moment(dice, tmp_path)
            os.kill(pid, dice.choice(SIGNALS))
        code = ended(pid)
        assert code in (0, 130, -signal.SIGKILL)
        deaths += code != 0
        if code == 0:
            break
    assert deaths
    assert (tmp_path / "DONE").exists()
    assert (tmp_path / "metrics.json").read_bytes() == (undisturbed / "metrics.json").read_bytes()
    assert without_seconds(tmp_path / "metrics.jsonl") == without_seconds(undisturbed / "metrics.jsonl")
    states = [load_checkpoint(root / "checkpoint", "s") for root in (tmp_path, undisturbed)]
    assert equal(*states)
    left = {path.name for path in tmp_path.iterdir()}
    assert left - {"checkpoint.partial", "metrics.json.partial"} == {path.name for path in undisturbed.iterdir()}
