from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstudio.avatar.frames import (
    Frames,
    matrix_to_quaternion,
    quaternion_multiply,
    quaternion_to_matrix,
    triangle_frames,
)
from headstudio.head.model import HeadModel, axis_angle_to_matrix

ONE = torch.tensor([[0, 1, 2]])
coordinates = st.lists(st.floats(-2, 2), min_size=9, max_size=9)
angles = st.lists(st.floats(-4, 4), min_size=3, max_size=3)


def as_triangle(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 3, 3)


def by_hand(triangle: Tensor) -> Frames:
    """The same by the words of the paper, one triangle at a time."""
    a, b, c = triangle[0]
    normal = torch.linalg.cross(b - a, c - a)
    area = normal.norm() / 2
    edge, normal = (b - a) / (b - a).norm(), normal / normal.norm()
    origin = (a + b + c) / 3
    reach = torch.stack([(corner - origin).norm() for corner in (a, b, c)]).max()
    return Frames(origin, torch.stack((edge, normal, torch.linalg.cross(edge, normal)), dim=1), area, reach)


def test_a_right_triangle_in_the_plane() -> None:
    vertices = torch.tensor([[[0.0, 0, 0], [2, 0, 0], [0, 2, 0]]])
    frames = triangle_frames(vertices, ONE)
    assert torch.allclose(frames.origin[0, 0], torch.tensor([2 / 3, 2 / 3, 0]))
    assert torch.allclose(frames.rotation[0, 0], torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]))  # columns
    assert float(frames.area[0, 0]) == pytest.approx(2)
    assert float(frames.reach[0, 0]) == pytest.approx((16 / 9 + 4 / 9) ** 0.5)


@settings(deadline=None)
@given(coordinates)
def test_random_triangles(values: list[float]) -> None:
    triangle = as_triangle(values)
    frames = triangle_frames(triangle, ONE)
    for value in (frames.origin, frames.rotation, frames.area, frames.reach):
        assert bool(torch.isfinite(value).all())
    rotation = frames.rotation[0, 0]
    assert torch.allclose(rotation.mT @ rotation, torch.eye(3, dtype=torch.float64), atol=1e-6)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1, abs=1e-6)
    if float(frames.area) > 1e-6:
        expected = by_hand(triangle)
        assert torch.allclose(rotation, expected.rotation, atol=1e-8)
        assert torch.allclose(frames.area[0, 0], expected.area)
        assert torch.allclose(frames.reach[0, 0], expected.reach)


@settings(deadline=None)
@given(coordinates, angles, st.floats(0.1, 10), st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_frames_move_with_a_similarity(values: list[float], turn: list[float], size: float, shift: list[float]) -> None:
    triangle = as_triangle(values)
    before = triangle_frames(triangle, ONE)
    if float(before.area) < 1e-3:
        return
    rotation = axis_angle_to_matrix(torch.tensor(turn, dtype=torch.float64))
    offset = torch.tensor(shift, dtype=torch.float64)
    after = triangle_frames(size * triangle @ rotation.mT + offset, ONE)
    assert torch.allclose(after.rotation, rotation @ before.rotation, atol=1e-8)
    assert torch.allclose(after.origin, size * before.origin @ rotation.mT + offset, atol=1e-8)
    assert torch.allclose(after.area, size**2 * before.area)
    assert torch.allclose(after.reach, size * before.reach)


def test_gradients(tiny_head: HeadModel) -> None:
    generator = torch.Generator().manual_seed(3)
    vertices = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    faces = torch.tensor([[0, 1, 2], [2, 1, 3], [4, 0, 3]])

    def flat(v: Tensor) -> tuple[Tensor, ...]:
        frames = triangle_frames(v, faces)
        return frames.origin, frames.rotation, frames.area, frames.reach, matrix_to_quaternion(frames.rotation)

    assert torch.autograd.gradcheck(flat, (vertices,))


@pytest.mark.parametrize(
    "corners",
    [
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[1, 1, 1], [1, 1, 1], [2, 0, 1]],
        [[0, 0, 0], [1, 0, 0], [2, 0, 0]],
        [[0, 0, 0], [1e-9, 0, 0], [0, 1e-9, 0]],
        [[0, 0, 0], [1e-20, 0, 0], [0, 1, 0]],
    ],
)
def test_degenerate_triangles_are_finite_forward_and_backward(corners: list[list[float]]) -> None:
    vertices = torch.tensor([corners], dtype=torch.float32, requires_grad=True)
    frames = triangle_frames(vertices, ONE)
    rotation = frames.rotation[0, 0]
    assert torch.allclose(rotation.mT @ rotation, torch.eye(3), atol=1e-6)
    assert float(frames.area.detach()) >= 1e-12 * (1 - 1e-6)
    total = frames.origin.sum() + frames.rotation.sum() + frames.area.sqrt().sum() + frames.reach.sum()
    (total + matrix_to_quaternion(frames.rotation).sum()).backward()
    assert vertices.grad is not None
    assert bool(torch.isfinite(vertices.grad).all())


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="need vertices"):
        triangle_frames(torch.zeros(3, 3), ONE)


@settings(deadline=None)
@given(angles, angles)
def test_quaternions_and_matrices_agree(first: list[float], second: list[float]) -> None:
    a, b = (axis_angle_to_matrix(torch.tensor(v, dtype=torch.float64)) for v in (first, second))
    qa, qb = matrix_to_quaternion(a), matrix_to_quaternion(b)
    assert torch.allclose(quaternion_to_matrix(qa), a, atol=1e-9)
    assert torch.allclose(quaternion_to_matrix(quaternion_multiply(qa, qb)), a @ b, atol=1e-9)
    assert torch.allclose(quaternion_to_matrix(3 * qb), b, atol=1e-9)


@pytest.mark.parametrize("axis", [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.6, 0.8, 0], [0, -0.6, 0.8]])
def test_half_turns_have_finite_gradients(axis: list[float]) -> None:
    vector = (torch.pi * torch.tensor(axis, dtype=torch.float64)).requires_grad_()
    matrix = axis_angle_to_matrix(vector)
    assert torch.allclose(quaternion_to_matrix(matrix_to_quaternion(matrix)), matrix, atol=1e-9)
    assert torch.autograd.gradcheck(lambda v: matrix_to_quaternion(axis_angle_to_matrix(v)), (vector * 0.999,))
