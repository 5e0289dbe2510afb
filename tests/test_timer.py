"""Seconds per phase, over the processes that had a share in a run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from headstudio.timer import PhaseTimer


def step(timer: PhaseTimer, render: float) -> None:
    with timer("render"):
        time.sleep(render)
    timer.end_step()


def test_the_first_step_of_a_process_does_not_count(tmp_path: Path) -> None:
    timer = PhaseTimer()
    step(timer, 0.05)
    assert timer.means() == {}
    step(timer, 0.01)
    step(timer, 0.02)
    assert timer.means()["render"] == pytest.approx(0.015, abs=0.01)
    assert timer.seconds >= 0.08


def test_it_goes_on_in_another_process(tmp_path: Path) -> None:
    timer = PhaseTimer()
    step(timer, 0.0)
    step(timer, 0.02)
    timer.save(tmp_path / "timing.json")
    again = PhaseTimer.continued(tmp_path / "timing.json")
    assert again.means() == timer.means()
    assert again.seconds >= 0.02


def test_a_lap_is_the_mean_since_the_last_one_and_the_step_is_by_the_clock() -> None:
    timer = PhaseTimer()
    step(timer, 0.05)
    assert timer.lap() == {}, "the first step of a process does not count"
    step(timer, 0.01)
    step(timer, 0.03)
    time.sleep(0.02)  # between the phases
    lap = timer.lap()
    assert list(lap) == ["step", "render"]
    assert lap["render"] == pytest.approx(0.02, abs=0.01)
    assert 0.03 <= lap["step"] < 0.06
    assert timer.lap() == {}
    step(timer, 0.01)
    assert timer.lap()["render"] < 0.02


@pytest.mark.parametrize("content", ["", "{", "[]", '{"phases": {}}'])
def test_a_broken_file_is_a_fresh_start(tmp_path: Path, content: str) -> None:
    (tmp_path / "timing.json").write_text(content)
    assert PhaseTimer.continued(tmp_path / "timing.json").means() == {}
