"""Ctrl-C is answered at once, and every stop ends with a sentence."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import Command
from omegaconf import OmegaConf

from headstudio.interrupt import StopRequest


def test_the_first_ctrl_c_is_answered_and_the_second_stops(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopRequest("Saving ...") as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested == signal.SIGTERM
        assert capfd.readouterr().err == "Saving ...\n"
        os.kill(os.getpid(), signal.SIGUSR2)
        assert capfd.readouterr().err == ""
        with pytest.raises(KeyboardInterrupt, match="Stopped at once; what was saved before is kept"):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_without_an_answer_nothing_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested == signal.SIGINT
    assert capfd.readouterr().err == ""


def test_ctrl_c_while_loading_is_told(tmp_path: Path) -> None:
    process = Command("headstudio.run", "scale=smoke", "hydra.run.dir=run", cwd=tmp_path)
    deadline = time.monotonic() + 100
    while not (tmp_path / "run" / "config.yaml").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130
    assert errors.splitlines()[-1:] == ["Stopped before the first step; start the same command again."]
    assert "Traceback" not in errors


def test_who_has_steps_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a resumed run loads, or while a finished avatar is judged."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from headstudio import run

    def struck(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    runtime = SimpleNamespace(output_dir=str(tmp_path), choices={"head": "anny"})
    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(runtime=runtime, mode=RunMode.RUN))
    monkeypatch.setattr(run, "run", struck)
    (tmp_path / "checkpoint").touch()
    with pytest.raises(KeyboardInterrupt, match=r"^Stopped; the steps that are done are kept in .*same command again"):
        run.job(OmegaConf.create())
