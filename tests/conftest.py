"""Fixtures shared by the tests: a tiny head with everything a real one has, and seeded randomness."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from headstudio.head.model import HeadModel
from headstudio.types import Pose

TINY_EXPRESSIONS = ("browInnerUp", "eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "mouthSmileLeft", "mouthSmileRight")
TINY_LINES = (
    ("face_oval", 0, 8, True),
    ("lips_outer", 8, 14, True),
    ("lips_inner", 14, 18, True),
    ("right_eye", 18, 22, True),
    ("right_brow", 22, 25, False),
    ("left_eye", 25, 29, True),
    ("left_brow", 29, 32, False),
    ("right_pupil", 32, 33, False),
    ("left_pupil", 33, 34, False),
)


def icosphere() -> tuple[Tensor, Tensor]:
    """A unit sphere of 42 vertices and 80 triangles, counter-clockwise from outside, closed."""
    golden = (1 + 5**0.5) / 2
    corners = [(-1, golden, 0), (1, golden, 0), (-1, -golden, 0), (1, -golden, 0)]
    points = [p for x, y, z in corners for p in ((x, y, z), (z, x, y), (y, z, x))]
    vertices = torch.tensor(points, dtype=torch.float64)
    edges = torch.cdist(vertices, vertices)
    near = (edges > 0.1) & (edges < 2.1)
    faces: list[tuple[int, int, int]] = []
    for a in range(12):
        for b in range(a + 1, 12):
            for c in range(b + 1, 12):
                if near[a, b] and near[b, c] and near[a, c]:
                    outward = torch.linalg.det(vertices[[a, b, c]]) > 0
                    faces.append((a, b, c) if outward else (a, c, b))
    middles: dict[tuple[int, int], int] = {}
    grown = [row.tolist() for row in vertices]

    def middle(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in middles:
            middles[key] = len(grown)
            grown.append(((vertices[a] + vertices[b]) / 2).tolist())
        return middles[key]

    split = []
    for a, b, c in faces:
        ab, bc, ca = middle(a, b), middle(b, c), middle(c, a)
        split += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    sphere = torch.nn.functional.normalize(torch.tensor(grown), dim=-1)
    return sphere.float(), torch.tensor(split)


def tiny_head_arrays(*, seed: int = 0) -> dict[str, Any]:
    """What `HeadModel` takes for an ellipsoid of height 1.5 that looks along +z, with all that `HeadModel` wants.

    jawOpen moves the chin down, blinks and smiles move one side, the first of 4 shape directions makes the
    head bigger. 42 vertices, 80 faces, 5 joints.
    """
    generator = torch.Generator().manual_seed(seed)
    sphere, faces = icosphere()
    vertices = sphere * torch.tensor([0.55, 0.75, 0.6])
    count = len(vertices)
    joints = torch.tensor([[0, -0.75, 0], [0, -0.6, -0.05], [0, -0.1, 0.1], [0.2, 0.15, 0.4], [-0.2, 0.15, 0.4]])
    nearest = torch.softmax(-(torch.cdist(joints, vertices) ** 2) / 0.02, dim=-1)
    weights = torch.softmax(-(torch.cdist(vertices, joints) ** 2) / 0.05, dim=-1)

    def bump(centre: tuple[float, float, float], shift: tuple[float, float, float]) -> Tensor:
        weight = torch.exp(-((vertices - torch.tensor(centre)) ** 2).sum(-1, keepdim=True) / 0.08)
        return weight * torch.tensor(shift)

    expressions = [
        bump((0, 0.4, 0.5), (0, 0.08, 0)),
        bump((0.2, 0.15, 0.5), (0, -0.06, 0.01)),
        bump((-0.2, 0.15, 0.5), (0, -0.06, 0.01)),
        bump((0, -0.55, 0.4), (0, -0.15, -0.05)),
        bump((0.25, -0.3, 0.5), (0.05, 0.05, 0)),
        bump((-0.25, -0.3, 0.5), (-0.05, 0.05, 0)),
    ]
    shapes = [vertices * 0.1] + [vertices * 0.05 * torch.randn(3, generator=generator) for _ in range(3)]
    directions = torch.randn(count, 3, 36, generator=generator) * 0.01
    centres = vertices[faces].mean(1)
    skin, lips, scalp = 0, 1, 2
    region = torch.full((len(faces),), skin)
    region[centres[:, 1] > 0.3] = scalp
    region[torch.cdist(centres, torch.tensor([[0.0, -0.3, 0.5]]))[:, 0] < 0.25] = lips
    front = torch.argsort(-centres[:, 2])[: TINY_LINES[-1][2]]
    return {
        "v_template": vertices,
        "shapedirs": torch.stack(shapes, -1),
        "exprdirs": torch.stack(expressions, -1),
        "posedirs": directions,
        "weights": weights,
        "J_regressor": nearest,
        "faces": faces,
        "parents": (-1, 0, 1, 1, 1),
        "joint_names": ("root", "neck", "jaw", "eye_left", "eye_right"),
        "expression_names": TINY_EXPRESSIONS,
        "face_region": region,
        "region_names": ("skin", "lips", "scalp"),
        "landmark_faces": front,
        "landmark_bary": torch.full((len(front), 3), 1 / 3),
        "landmark_polylines": TINY_LINES,
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no process is left alone with one at the end (`make test` uses two)."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def tiny_arrays() -> dict[str, Any]:
    return tiny_head_arrays()


@pytest.fixture
def tiny_head() -> HeadModel:
    """42 vertices, 80 triangles, 4 shape and 6 expression directions, 5 joints; see `tiny_head_arrays`."""
    return HeadModel(**tiny_head_arrays())


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1234)


@pytest.fixture
def random_pose(tiny_head: HeadModel, generator: torch.Generator) -> Pose:
    """Three poses of the tiny head with every joint and expression in use."""
    return Pose(
        expression=torch.rand(3, tiny_head.num_expression, generator=generator),
        joints=0.4 * torch.randn(3, tiny_head.num_joints, 3, generator=generator),
    )


# A busy machine is no failure: time limits are pytest-timeout's business, not those of single examples.
settings.register_profile("headstudio", deadline=None)
settings.load_profile("headstudio")
