"""Sixteen-lane values in numba code against numpy."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from headstudio.render.simd import any_lane, lane_sum, load, ramp, select, smaller, splat, store


@numba.njit
def _everything(x: Any, y: Any, scalar: Any, out: Any) -> Any:
    a, b = load(x, 3), load(y, 0)
    store(out, 0, a + b)
    store(out, 16, a - scalar)
    store(out, 32, scalar * b)
    store(out, 48, a / b)
    store(out, 64, select((a >= b) & (a > splat(scalar)), a, ramp()))
    store(out, 80, smaller(a, b))
    return lane_sum(a), any_lane(a > splat(np.float32(100.0))), any_lane(a >= a)


def test_lanes_compute_what_numpy_computes() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=20).astype(np.float32), random.normal(size=16).astype(np.float32)
    out, scalar = np.zeros(96, np.float32), np.float32(0.1)
    total, none, all_lanes = _everything(x, y, scalar, out)
    a = x[3:19]
    picked = np.where((a >= y) & (a > scalar), a, np.arange(16, dtype=np.float32))
    expected = np.concatenate([a + y, a - scalar, scalar * y, a / y, picked, np.minimum(a, y)])
    np.testing.assert_array_equal(out, expected)
    halves = a.copy()
    while len(halves) > 1:
        halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
    assert total == halves[0]
    assert not none
    assert all_lanes
