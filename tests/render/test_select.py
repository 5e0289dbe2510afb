"""renderer=auto."""

from __future__ import annotations

import pytest

from headstudio.render import cuda, select
from headstudio.render.cpu import CpuRenderer


def test_without_a_gpu_the_cpu_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "missing", lambda: "an NVIDIA GPU")
    assert isinstance(select.auto_renderer(), CpuRenderer)


def test_a_run_says_once_why_the_cpu_draws_and_other_commands_do_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="headstudio")
    monkeypatch.setattr(select, "missing", lambda: "a GPU of this test's own")
    assert isinstance(select.best_renderer(), CpuRenderer)
    assert caplog.messages == []
    for _ in range(2):
        select.auto_renderer()
    assert caplog.messages == ["Rendering on the CPU, for want of a GPU of this test's own"]


def test_with_a_gpu_gsplat_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "missing", lambda: "")
    monkeypatch.setattr(cuda, "missing", lambda: "")
    renderer = select.auto_renderer()
    assert isinstance(renderer, cuda.CudaRenderer)
    assert (renderer.packed, renderer.absgrad) == (False, False)
