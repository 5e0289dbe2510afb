"""Seconds per phase, over the processes that had a share in a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from headstudio import timer as timer_module
from headstudio.timer import PhaseTimer


@pytest.fixture
def sleep(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds pass on the host's clock, without waiting for them."""
    now = [100.0]

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0])
    monkeypatch.setattr(timer_module, "time", clock)
    return pass_by


def step(timer: PhaseTimer, render: Callable[[], None]) -> None:
    with timer("render"):
        render()
    timer.end_step()


def test_the_clock_is_the_hosts() -> None:
    timer = PhaseTimer()
    step(timer, lambda: None)
    step(timer, lambda: time.sleep(0.02))
    assert 0.02 <= timer.means()["render"] <= timer.lap()["step"] <= timer.seconds


def test_the_first_step_of_a_process_does_not_count(sleep: Callable[[float], None]) -> None:
    timer = PhaseTimer()
    step(timer, lambda: sleep(5))
    assert timer.means() == {}
    step(timer, lambda: sleep(1))
    step(timer, lambda: sleep(2))
    assert timer.means() == {"render": 1.5}
    assert timer.seconds == 8


def test_it_goes_on_in_another_process(tmp_path: Path, sleep: Callable[[float], None]) -> None:
    timer = PhaseTimer()
    step(timer, lambda: sleep(0))
    step(timer, lambda: sleep(2))
    timer.save(tmp_path / "timing.json")
    sleep(60)
    again = PhaseTimer.continued(tmp_path / "timing.json")
    assert again.means() == timer.means() == {"render": 2}
    assert again.seconds == 2


def test_a_lap_is_the_mean_since_the_last_one_and_the_step_is_by_the_clock(sleep: Callable[[float], None]) -> None:
    timer = PhaseTimer()
    step(timer, lambda: sleep(5))
    assert timer.lap() == {}, "the first step of a process does not count"
    step(timer, lambda: sleep(1))
    step(timer, lambda: sleep(3))
    sleep(2)  # between the phases
    assert list(timer.lap().items()) == [("step", 3), ("render", 2)]
    assert timer.lap() == {}
    step(timer, lambda: sleep(1))
    assert timer.lap()["render"] == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"phases": {}}'])
def test_a_broken_file_is_a_fresh_start(tmp_path: Path, content: str) -> None:
    (tmp_path / "timing.json").write_text(content)
    assert PhaseTimer.continued(tmp_path / "timing.json").means() == {}


class Queue:
    """A device that works more slowly than the host asks: an event's time is known when its place is reached."""

    def __init__(self) -> None:
        self.done, self.asked = 0.0, 0.0
        self.waits = 0

    def now(self) -> float:
        return self.asked

    def between(self, start: float, end: float) -> float:
        if end > self.done:
            self.waits += 1
            self.done = self.asked
        return end - start


def test_on_a_device_phases_are_its_own_and_only_reading_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue()
    monkeypatch.setattr(timer_module, "_is_accelerator", lambda device: True)
    monkeypatch.setattr(timer_module, "_DeviceClock", lambda: queue)
    timer = PhaseTimer(torch.device("meta"))
    for seconds in (9.0, 2.0, 4.0):
        with timer("render"):
            queue.asked += seconds
        timer.end_step()
    assert queue.waits == 0
    assert timer.lap()["render"] == pytest.approx(3.0)
    assert queue.waits == 1, "one wait serves all the steps of a lap"
    with timer("render"):
        queue.asked += 6.0
    timer.end_step()
    assert timer.means() == {"render": pytest.approx(4.0)}
    timer.save(tmp_path / "timing.json")
    assert PhaseTimer.continued(tmp_path / "timing.json").means() == timer.means()


@pytest.mark.parametrize("device", [None, torch.device("cpu"), torch.device("meta")])
def test_without_an_accelerator_the_hosts_clock_serves(device: torch.device | None) -> None:
    assert isinstance(PhaseTimer(device)._clock, timer_module._HostClock)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_the_gpu_a_phase_lasts_as_long_as_its_kernels() -> None:
    timer = PhaseTimer(torch.device("cuda"))
    matrix = torch.rand(4096, 4096, device="cuda")
    for _ in range(3):
        with timer("multiply"):
            for _ in range(20):
                matrix = matrix @ matrix
                matrix = matrix / matrix.norm()
        timer.end_step()
    start = time.perf_counter()
    for _ in range(20):
        matrix = matrix @ matrix
        matrix = matrix / matrix.norm()
    torch.cuda.synchronize()
    assert timer.means()["multiply"] == pytest.approx(time.perf_counter() - start, rel=0.3)
