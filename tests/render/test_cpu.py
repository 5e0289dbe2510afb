"""The CPU renderer against the dense float64 reference, and its promises: determinism, caching, conversion."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import (
    assert_matches_reference,
    draw_with_gradients,
    facing_camera,
    random_gaussians,
    ring_cameras,
    with_grad,
)

from headstudio.render.cpu import CpuRenderer
from headstudio.types import Cameras, Gaussians

QUARTER = 0.7071067811865476


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    count=st.integers(1, 150),
    cameras=st.integers(1, 3),
    posed=st.booleans(),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    size=st.sampled_from([0.005, 0.05, 0.3]),
    seed=st.integers(0, 2**31),
)
def test_random_scenes(count: int, cameras: int, posed: bool, width: int, height: int, size: float, seed: int) -> None:
    gaussians = random_gaussians(count, cameras if posed else 1, seed, size)
    assert_matches_reference(CpuRenderer(), gaussians, ring_cameras(cameras, width, height, seed), seed=seed)


def _line(count: int, **changes: torch.Tensor) -> Gaussians:
    """Gaussians along the x axis two units in front of `facing_camera`, with some fields replaced."""
    gaussians = random_gaussians(count, 1, seed=5, size=0.1)
    means = torch.stack([torch.linspace(-0.8, 0.8, count), torch.zeros(count), torch.full((count,), 2.0)], dim=-1)
    return replace(replace(gaussians, means=means[None]), **changes)


def _needle(angle: float) -> Gaussians:
    """Two long thin Gaussians at `angle` radians from the x axis, with others behind."""
    base = _line(6)
    half = torch.tensor(angle / 2)
    turned = torch.stack([half.cos(), torch.tensor(0.0), torch.tensor(0.0), half.sin()])
    quats, scales, means = base.quats.clone(), base.scales.clone(), base.means.clone()
    quats[0, :2], scales[0, :2] = turned, torch.tensor([3.0, 1e-5, 1e-5])
    means[0, :2, 2] = 1.5
    return replace(base, quats=quats, scales=scales, means=means)


def _round(size: float) -> torch.Tensor:
    """Scales that are nearly but not quite a ball's: a ball's rotation has no gradient to compare."""
    return size * torch.tensor([1.0, 0.8, 0.9])


ADVERSARIAL = {
    "behind the camera": _line(5, means=torch.tensor([[[0, 0, -1], [0, 0, 0], [0, 0, 0.0099], [0, 0, 2], [0, 0, 3]]])),
    "just past the near plane": _line(4, means=torch.tensor([[[0, 0, 0.011], [0, 0, 0.02], [0, 0, 2], [0.1, 0, 3]]])),
    "huge": _line(3, scales=torch.tensor([[[50.0, 80.0, 20.0], [5.0, 9.0, 3.0], [0.1, 0.1, 0.1]]])),
    "needles along a diagonal": _needle(0.7),
    "needles along a row": _needle(0.0),
    "needles along a column": _needle(1.5707963),
    "points": _line(8, scales=_round(1e-4).expand(1, 8, 3)),
    "flat discs on edge": _line(5, scales=torch.tensor([0.3, 0.3, 1e-6]).expand(1, 5, 3)),
    "transparent": _line(5, opacities=torch.tensor([0.0, 1e-9, 0.0039, 0.00393, 0.5])),
    "opaque": _line(5, opacities=torch.ones(5)),
    "opaque stack": _line(30, means=torch.tensor([0.0, 0.0, 2.0]).expand(1, 30, 3), opacities=torch.full((30,), 0.97)),
    "identical depth": _line(9, scales=_round(0.3).expand(1, 9, 3), opacities=torch.full((9,), 0.8)),
    "identical Gaussians": _line(7, means=torch.tensor([0.1, 0.0, 2.0]).expand(1, 7, 3)),
    "off screen": _line(4, means=torch.tensor([[[9, 0, 2.0], [-9, 0, 2], [0, 9, 2], [0.0, -9, 2]]])),
    "half off screen": _line(4, means=torch.tensor([[[1.4, 0, 2.0], [-1.4, 0, 2], [0, 0.9, 2], [0.0, -0.9, 2]]])),
    "far outside the field of view but wide": _line(
        3, means=torch.tensor([[[6.0, 0, 1.0], [0, -6.0, 1.0], [0, 0, 2.0]]]), scales=_round(2.0).expand(1, 3, 3)
    ),
    "far away": _line(3, means=torch.tensor([[[0, 0, 1e4], [100, 0, 1e3], [0, 0, 2.0]]])),
    "unnormalised quaternions": _line(
        4, quats=torch.tensor([[[1e-3, 0, 2e-3, 0], [9, 1, 0, 40], [1, 0, 0, 0], [0, 0, 0, -5]]])
    ),
    "one Gaussian": _line(1),
    "zero Gaussians": random_gaussians(0, 1, seed=0),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_scenes(name: str) -> None:
    assert_matches_reference(CpuRenderer(), ADVERSARIAL[name], facing_camera())


@pytest.mark.parametrize(("width", "height"), [(16, 16), (17, 33), (1, 40), (40, 1), (64, 15)])
def test_sizes_that_are_no_multiple_of_the_tile(width: int, height: int) -> None:
    assert_matches_reference(CpuRenderer(), random_gaussians(60, 1, seed=2), ring_cameras(2, width, height))


def test_a_pose_for_each_camera_is_a_render_of_each_pose() -> None:
    gaussians, cameras = random_gaussians(80, 3, seed=3), ring_cameras(3, 30, 20)
    together = CpuRenderer()(gaussians, cameras, torch.zeros(3))
    for b in range(3):
        alone = Cameras(
            cameras.camera_from_world[b : b + 1], cameras.intrinsics[b : b + 1], cameras.azimuth_deg[b : b + 1],
            cameras.elevation_deg[b : b + 1], 30, 20,
        )  # fmt: skip
        pose = replace(gaussians, **{k: getattr(gaussians, k)[b : b + 1] for k in ("means", "quats", "scales")})
        assert torch.equal(CpuRenderer()(pose, alone, torch.zeros(3)).rgb[0], together.rgb[b])


def test_nothing_but_background_where_nothing_is() -> None:
    background = torch.tensor([0.2, 0.4, 0.6])
    render = CpuRenderer()(random_gaussians(0, 1, seed=0), ring_cameras(2, 20, 10), background)
    assert torch.equal(render.rgb, background[None, :, None, None].expand(2, 3, 10, 20))
    assert not render.alpha.any()
    assert not render.depth.any()
    assert render.means2d.shape == (2, 0, 2)


def test_equal_depth_draws_the_lower_index_first() -> None:
    gaussians = _line(
        2, means=torch.tensor([[[0, 0, 2.0], [0, 0, 2.0]]]), scales=torch.full((1, 2, 3), 1.0),
        opacities=torch.full((2,), 0.9), colors=torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]),
    )  # fmt: skip
    rgb = CpuRenderer()(gaussians, facing_camera(), torch.zeros(3)).rgb[0, :, 12, 20]
    torch.testing.assert_close(rgb, torch.tensor([0.9, 0.0, 0.09]), atol=2e-3, rtol=0)


def test_means2d_moves_the_picture() -> None:
    """The gradient densification reads is that of a shift of the projected centre, in pixels."""
    gaussians, camera = with_grad(_line(1, scales=torch.full((1, 1, 3), 0.2))), facing_camera()
    render = CpuRenderer()(gaussians, camera, torch.zeros(3))
    ramp = torch.arange(40.0).expand(24, 40)
    (render.alpha[0, 0] * ramp).sum().backward()
    assert render.means2d.grad is not None
    # not exactly: the rim, cut off at the smallest alpha, moves too but has no gradient
    torch.testing.assert_close(render.means2d.grad[0, 0, 0], render.alpha.sum().detach(), rtol=0.05, atol=0)


def test_same_bytes_for_every_thread_count_and_again() -> None:
    gaussians, cameras = random_gaussians(3000, 1, seed=8, size=0.03), ring_cameras(3, 100, 70)
    weights = torch.randn(3, 5, 70, 100, generator=torch.Generator().manual_seed(1))
    results = []
    for threads in (1, 2, 3, 7, 1, 2):
        render, gradients = draw_with_gradients(
            CpuRenderer(threads=threads), gaussians, cameras, torch.ones(3), weights
        )
        results.append([render.rgb, render.alpha, render.depth, render.radii, *gradients.values()])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_python_threads_may_draw_side_by_side() -> None:
    gaussians, cameras = random_gaussians(500, 1, seed=4), ring_cameras(2, 60, 60)
    renderer = CpuRenderer(threads=2)
    expected = renderer(gaussians, cameras, torch.ones(3)).rgb
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda _: renderer(gaussians, cameras, torch.ones(3)).rgb, range(12)))
    assert all(torch.equal(picture, expected) for picture in pictures)


def test_other_dtypes_come_back_as_they_came() -> None:
    gaussians, cameras = random_gaussians(20, 1, seed=4), ring_cameras(1, 20, 20)
    doubled = with_grad(gaussians.to(dtype=torch.float64))
    render = CpuRenderer()(doubled, cameras.to(dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    assert render.rgb.dtype == torch.float64
    torch.testing.assert_close(render.rgb.float(), CpuRenderer()(gaussians, cameras, torch.ones(3)).rgb)
    render.rgb.sum().backward()
    assert doubled.means.grad is not None
    assert doubled.means.grad.dtype == torch.float64


_DRAW_AND_REPORT = """
import sys
sys.path.insert(0, {tests!r})
import torch
from headstudio.render.cpu import CpuRenderer
from headstudio.render import kernels_bin, kernels_composite, kernels_project
from scenes import random_gaussians, ring_cameras, with_grad
CpuRenderer()(with_grad(random_gaussians(30, 1, seed=0)), ring_cameras(1, 20, 20), torch.ones(3)).rgb.sum().backward()
kernels = [k for m in (kernels_bin, kernels_composite, kernels_project) for k in vars(m).values()
           if hasattr(k, "stats") and k.stats.cache_path]
print(sum(sum(k.stats.cache_hits.values()) for k in kernels), sum(sum(k.stats.cache_misses.values()) for k in kernels))
"""


@pytest.mark.slow
def test_compiled_code_is_shared_between_processes(tmp_path: Path) -> None:
    """The second process compiles nothing."""
    script = _DRAW_AND_REPORT.format(tests=str(Path(__file__).parent))
    counts = []
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        counts.append(tuple(int(word) for word in run.stdout.split()))
    assert counts == [(0, 8), (8, 0)]


def test_a_read_only_install_and_home_still_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching, config

    from headstudio.render import jit

    def refuse(locator: object) -> None:
        raise OSError("read-only file system")

    for locator in (caching.InTreeCacheLocator, caching.UserWideCacheLocator):
        monkeypatch.setattr(locator, "ensure_cache_path", refuse)
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(jit.tempfile, "gettempdir", lambda: str(tmp_path))
    compiled = jit.kernel(_add_one)
    values = np.zeros(3)
    compiled(0, 2, values)
    assert values.tolist() == [1, 1, 0]
    assert compiled.stats.cache_path.startswith(str(tmp_path))
    assert list(tmp_path.rglob("*.nbi"))


def _add_one(start: int, end: int, values: Any) -> None:
    for i in range(start, end):
        values[i] += 1
