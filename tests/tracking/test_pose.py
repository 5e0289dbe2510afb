"""Head poses: known rigid motions come back, through perspective and stretched depths too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from headstudio.tracking.headframe import FOCAL, in_head_frame, rest_rotation
from headstudio.tracking.measures import MEASURES
from headstudio.tracking.pose import similarity
from headstudio.tracking.table import fitted

Array = NDArray[Any]


def turned_by(first: Array, second: Array) -> Array:
    """Degrees between rotations (T, 3, 3)."""
    return np.degrees((Rotation.from_matrix(first).inv() * Rotation.from_matrix(second)).magnitude())


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.01, 1000.0))
def test_random_rigid_motions_come_back(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    points, weights = rng.normal(size=(12, 3)), rng.uniform(0.1, 5.0, 12)
    true = Rotation.random(4, rng=rng).as_matrix()
    seen = scale * np.einsum("tij,kj->tki", true, points) + rng.normal(size=(4, 1, 3)) * 100
    rotations, scales = similarity(points, seen, weights)
    assert turned_by(rotations, true).max() < 1e-5
    assert scales == pytest.approx(np.full(4, scale), rel=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
def test_noise_and_mirrors_never_give_a_reflection(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(8, 3)) * [1.0, 1.0, 0.01]
    rotations, scales = similarity(points, rng.normal(size=(3, 8, 3)) - points, np.ones(8))
    assert np.linalg.det(rotations) == pytest.approx(np.ones(3))
    assert np.isfinite(scales).all()


def face(rng: np.random.Generator) -> Array:
    """(478, 3) points of a head at rest of which the rigid ones are the table's; the others are anywhere near."""
    points = rng.uniform([-0.4, -0.4, 0.0], [0.4, 0.4, 0.8], (478, 3))
    points[fitted().rigid.index] = fitted().rigid.points
    return points


def filmed(points: Array, rotations: Array, *, size: tuple[int, int], distance: float, stretch: float) -> Array:
    """Landmarks as the face model gives them: a pinhole camera's pixels, depths in pixels and out of scale."""
    focal = FOCAL * max(size)
    placed = np.einsum("tij,kj->tki", rotations, points) * [1, -1, -1] + [0.1, -0.05, distance]
    middle = placed[:, fitted().rigid.index].transpose(0, 2, 1) @ fitted().rigid.shares
    depth = middle[:, 2, None]
    pixels = placed[..., :2] / placed[..., 2:] * focal + np.array(size) / 2
    behind = (placed[..., 2] - depth) * focal / depth * stretch
    return np.concatenate([pixels, behind[..., None] + 7.0], -1)


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (500, 500)])
@pytest.mark.parametrize("stretch", [0.7, 1.0, 1.5])
def test_perspective_and_stretched_depths_are_undone(size: tuple[int, int], stretch: float) -> None:
    rng = np.random.default_rng(3)
    points = face(rng)
    true = Rotation.from_rotvec(rng.uniform(-0.5, 0.5, (40, 3))).as_matrix()
    landmarks = filmed(points, true, size=size, distance=1.6, stretch=stretch)
    placed = in_head_frame(landmarks, width=size[0], height=size[1])
    assert turned_by(placed.rotations, true).max() < 0.05
    at_rest = np.array([measure.of(points[None])[0] for measure in MEASURES.values()])
    assert np.abs(placed.measures - at_rest).max() < 2e-3


def test_one_frame_and_chunks_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    true = Rotation.from_rotvec(rng.uniform(-0.3, 0.3, (23, 3))).as_matrix()
    landmarks = filmed(face(rng), true, size=(320, 240), distance=2.0, stretch=1.1)
    whole = in_head_frame(landmarks, width=320, height=240)
    monkeypatch.setattr("headstudio.tracking.headframe.CHUNK", 5)
    parts = in_head_frame(landmarks, width=320, height=240)
    assert np.allclose(whole.rotations, parts.rotations, atol=1e-12)
    assert len(in_head_frame(landmarks[:1], width=320, height=240).measures) == 1


def test_rest_is_where_the_head_mostly_points() -> None:
    rest = Rotation.from_rotvec([0.1, -0.2, 0.05])
    glances = Rotation.from_rotvec([[0, 0.8, 0]] * 12 + [[0.001 * k, 0, 0] for k in range(-15, 16)])
    found = rest_rotation((rest * glances).as_matrix())
    assert turned_by(found[None], rest.as_matrix()[None])[0] < 1.0
