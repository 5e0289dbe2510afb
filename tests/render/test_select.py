"""renderer=auto."""

from __future__ import annotations

import pytest

from headstudio.render import cuda, select
from headstudio.render.cpu import CpuRenderer


def test_without_a_gpu_the_cpu_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "missing", lambda: "an NVIDIA GPU")
    assert isinstance(select.auto_renderer(), CpuRenderer)


def test_with_a_gpu_gsplat_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "missing", lambda: "")
    monkeypatch.setattr(cuda, "missing", lambda: "")
    renderer = select.auto_renderer()
    assert isinstance(renderer, cuda.CudaRenderer)
    assert (renderer.packed, renderer.absgrad) == (False, False)
