"""What the log says about the time left."""

from __future__ import annotations

import logging

import pytest

from headstudio import progress
from headstudio.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "00:00"), (59.6, "01:00"), (125, "02:05"), (3725, "1:02:05"), (90000, "25:00:00")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_first_step_of_a_process_tells_no_pace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "headstudio")
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with Progress(10, 20, every_seconds=0.0) as bar:
        for step, seconds in ((10, 60.0), (11, 2.0), (12, 2.0)):
            clock[0] += seconds
            bar.show(step, {"guidance": 1.0})
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("step 11/20  ? left  guidance 1")
    assert lines[1].startswith("step 12/20  00:16 left")
    assert lines[2].startswith("step 13/20  00:14 left")


def test_losses_that_nobody_has_read_stay_those_of_before(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "headstudio")
    with Progress(0, 3, every_seconds=0.0) as bar:
        for step, losses in enumerate(({"guidance": 1.0}, {}, {"guidance": 2.0})):
            bar.show(step, losses)
    endings = [record.getMessage().split("left  ")[1] for record in caplog.records]
    assert endings == ["guidance 1", "guidance 1", "guidance 2"]
