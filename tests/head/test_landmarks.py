"""Landmarks ride on the triangles of the posed head."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from headstudio.guidance.control import COLORS
from headstudio.head.anny import load_anny
from headstudio.head.landmarks import posed_landmarks
from headstudio.head.model import HeadModel
from headstudio.motion.arkit import pose_of, weights_of
from headstudio.types import Pose


@pytest.fixture(scope="module")
def anny() -> HeadModel:
    return load_anny(num_shape=4)


def line(head: HeadModel, name: str, **weights: float) -> torch.Tensor:
    """The points (n, 3) of one line of the open head."""
    posed = head(torch.zeros(head.num_shape), pose_of(head, weights_of(weights)[None]))
    landmarks = posed_landmarks(head, posed)
    first, last = next((first, last) for line, first, last, _ in landmarks.polylines if line == name)
    return landmarks.points[0, first:last]


def test_points_are_weighted_corners_and_pass_gradients(tiny_head: HeadModel, random_pose: Pose) -> None:
    shape = torch.full((tiny_head.num_shape,), 0.3, requires_grad=True)
    posed = tiny_head(shape, random_pose)
    points = posed_landmarks(tiny_head, posed).points
    for index in (0, 5, len(tiny_head.landmark_faces) - 1):
        corners = posed.vertices[:, tiny_head.faces[tiny_head.landmark_faces[index]]]
        expected = torch.einsum("k,pkc->pc", tiny_head.landmark_bary[index], corners)
        torch.testing.assert_close(points[:, index], expected)
    (gradient,) = torch.autograd.grad(points.sum(), shape)
    assert bool((gradient != 0).any())


def test_every_line_of_the_control_map_is_there_once(anny: HeadModel) -> None:
    assert sorted(name for name, *_ in anny.landmark_polylines) == sorted(COLORS)
    assert torch.allclose(anny.landmark_bary.sum(1), torch.ones(len(anny.landmark_bary)), atol=1e-5)
    assert float(anny.landmark_bary.min()) >= 0.0


def test_the_inner_lips_open_with_the_jaw(anny: HeadModel) -> None:
    def gap(**weights: float) -> float:
        points = line(anny, "lips_inner", **weights)
        middle = points[points[:, 0].abs() < 0.03]
        return float(middle[:, 1].max() - middle[:, 1].min())

    assert gap() < 0.04
    assert gap(jawOpen=0.5) > gap() + 0.03
    assert gap(jawOpen=1.0) > gap(jawOpen=0.5) + 0.03


def test_lids_meet_in_a_blink_on_their_own_side(anny: HeadModel) -> None:
    def height(name: str, **weights: float) -> float:
        points = line(anny, name, **weights)
        return float(points[:, 1].max() - points[:, 1].min())

    shut = {"eyeBlinkLeft": 1.0}
    assert height("left_eye", **shut) < 0.6 * height("left_eye")
    assert height("right_eye", **shut) == pytest.approx(height("right_eye"), rel=0.02)


@pytest.mark.parametrize(("name", "sign"), [("left", 1), ("right", -1)])
def test_sides_are_the_subjects_own(anny: HeadModel, name: str, sign: int) -> None:
    for part in ("eye", "brow_upper", "brow_lower", "pupil"):
        assert float(line(anny, f"{name}_{part}")[:, 0].mean()) * sign > 0.05


def test_lips_lie_in_each_other_and_the_oval_around_all(anny: HeadModel) -> None:
    lines: dict[str, Any] = {name: line(anny, name) for name, *_ in anny.landmark_polylines}
    low = {name: points[:, :2].amin(0) for name, points in lines.items()}
    high = {name: points[:, :2].amax(0) for name, points in lines.items()}
    for inner, outer in (("lips_inner", "lips_outer"), *((name, "face_oval") for name in lines)):
        assert bool((low[inner] >= low[outer] - 1e-4).all()), (inner, outer)
        assert bool((high[inner] <= high[outer] + 1e-4).all()), (inner, outer)
