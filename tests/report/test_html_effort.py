"""What a report costs, and when it is written: at the end of every multirun, and now and then while one runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up import PROMPTS, REGS, sweep

from headstudio.report import html, refresh
from headstudio.report.refresh import Refresher
from headstudio.sweep import callback
from headstudio.sweep.record import Sweep
from headstudio.sweep.state import RunState


@pytest.mark.slow
def test_fifty_runs_take_seconds_and_few_megabytes(tmp_path: Path) -> None:
    runs = [
        {"reg": reg, "prompt": prompt, "seed": str(seed)} for reg, prompt, seed in product(REGS, PROMPTS, range(6))
    ][:50]
    sweep(tmp_path, runs, films=256)
    began = time.perf_counter()
    page = html.write_report(tmp_path)
    first = time.perf_counter() - began
    assert first < 30
    assert 5e6 < page.stat().st_size < 20e6
    began = time.perf_counter()
    html.write_report(tmp_path)
    assert time.perf_counter() - began < max(4.0, first / 2)  # pictures are kept


@pytest.mark.slow
def test_a_thousand_runs_do_not_take_forever(tmp_path: Path) -> None:
    sweep(tmp_path, [{"lr": str(n % 5), "seed": str(n // 5)} for n in range(1000)], films=0)
    began = time.perf_counter()
    page = html.write_report(tmp_path)
    assert time.perf_counter() - began < 30
    assert page.stat().st_size < 20e6
    text = page.read_text(encoding="utf-8")
    assert "the films are left out of this page" in text
    assert "With 1000 runs their configs and commands are left out" in text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a refresher sees."""
    now = [100.0]
    monkeypatch.setattr(refresh, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> list[Path]:
    """Where reports would have been written, each in half a second."""
    found: list[Path] = []

    def write(root: Path) -> Path:
        found.append(root)
        clock[0] += 0.5
        return root / "report.html"

    monkeypatch.setattr(html, "write_report", write)
    return found


def look_on(report: Refresher, clock: list[float], *words: str, seconds: float) -> None:
    """Tell it five times a second how the runs stand."""
    for _ in range(round(5 * seconds)):
        clock[0] += 0.2
        report.see(states(*words))
        if report._thread is not None:
            report._thread.join()


def states(*words: str) -> list[RunState]:
    return [RunState(f"r{n}", {}, word, Path(f"r{n}")) for n, word in enumerate(words)]


def test_a_report_is_refreshed_only_for_news_and_not_too_often(
    written: list[Path], clock: list[float], tmp_path: Path
) -> None:
    with Refresher(tmp_path, every_s=2) as report:
        look_on(report, clock, "running", "queued", seconds=1.6)
        assert written == []  # too early
        look_on(report, clock, "running", "queued", seconds=60)
        assert len(written) == 3  # writing takes 0.5 s, so it is done at most every 25 s
    with Refresher(tmp_path, every_s=0.5) as report:
        look_on(report, clock, "queued", "finished", seconds=4)
    assert len(written) == 3  # nothing runs, nothing changed


def test_the_last_report_is_written_when_it_is_wanted(written: list[Path], tmp_path: Path) -> None:
    with Refresher(tmp_path, with_last=True) as report:
        report.see(states("running"))
        report.see(states("finished"))
    assert written == [tmp_path]
    (tmp_path / "report.html").touch()
    with Refresher(tmp_path, with_last=True) as report:
        report.see(states("finished"))
    assert written == [tmp_path]  # nothing new since the one that is there
    with Refresher(tmp_path) as report:
        report.see(states("running"))
        report.see(states("finished"))
    assert written == [tmp_path]
    stopped = Refresher(tmp_path, with_last=True)
    stopped.see(states("running"))
    stopped.see(states("finished"))
    stopped.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)  # who presses Ctrl-C does not wait for a report
    assert written == [tmp_path]


def test_a_broken_report_troubles_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(root: Path) -> Path:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(html, "write_report", fail)
    Refresher(tmp_path).write()
    callback._report(Sweep(tmp_path))
    assert "The report could not be written (by zero)" in caplog.text


def test_looking_on_does_not_load_the_report() -> None:
    code = "import headstudio.sweep.watch, headstudio.sweep.callback, sys\n"
    code += "assert not {'plotly', 'jinja2', 'numpy', 'PIL', 'headstudio.report.page'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})
    assert refresh.Refresher.__init__.__kwdefaults__ == {"every_s": 60.0, "with_last": False}


@pytest.mark.slow
def test_a_multirun_ends_with_a_report(tmp_path: Path) -> None:
    app = Path(__file__).resolve().parent.parent / "sweep" / "app.py"
    words = [sys.executable, str(app), "-m", "n=0,1", "fail=[1]", "hydra.sweep.dir=sweep"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "Report: sweep/report.html" in done.stdout
    text = (tmp_path / "sweep" / "report.html").read_text(encoding="utf-8")
    assert "ZeroDivisionError: run 1 was told to fail" in text
