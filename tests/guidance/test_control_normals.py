"""Normals and regions: what a pixel says is what the mesh has there."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from headstudio.camera import cameras_from_orbit
from headstudio.errors import UserError
from headstudio.guidance.control import LandmarkControl
from headstudio.guidance.control_normals import COLORS, NormalsRegionsControl, colored
from headstudio.guidance.fit import require_channels
from headstudio.head.anny import load_anny
from headstudio.render.mesh import vertex_normals
from headstudio.types import Pose

CONTROL = NormalsRegionsControl(size=96)


@pytest.fixture(scope="module")
def head() -> Any:
    return load_anny(num_shape=2)


@pytest.fixture(scope="module")
def posed(head: Any) -> Any:
    return head(torch.zeros(2), Pose(torch.zeros(1, head.exprdirs.shape[-1]), torch.zeros(1, len(head.parents), 3)))


def test_normals_are_those_of_the_mesh_in_the_camera_s_frame(head: Any, posed: Any) -> None:
    front = cameras_from_orbit([0.0, 90.0], 0.0, 1.75, 54.0, 64, 64, (0.0, 0.12, 0.0))
    normals, regions = CONTROL.surface(posed, head, front)
    assert normals.shape == (2, 96, 96, 3)
    seen = regions >= 0
    torch.testing.assert_close(normals[seen].norm(dim=-1), torch.ones(int(seen.sum())))
    assert float((normals[seen][:, 2] > 0).float().mean()) > 0.97  # what is seen faces the viewer
    nose, top = normals[0, 44:56, 48].mean(0), normals[0][seen[0].nonzero()[0][0], 48]
    assert nose[2] > 0.7
    assert top[1] > 0.5  # the crown looks up
    left, right = normals[0][60, seen[0][60].nonzero()[0, 0]], normals[0][60, seen[0][60].nonzero()[-1, 0]]
    assert left[0] < -0.5 < 0.5 < right[0]


def test_turning_head_and_camera_alike_changes_nothing(head: Any, posed: Any) -> None:
    cameras = cameras_from_orbit([20.0], 10.0, 1.75, 54.0, 64, 64)
    angle = torch.tensor(0.7)
    turn = torch.tensor([[angle.cos(), 0, angle.sin()], [0, 1, 0], [-angle.sin(), 0, angle.cos()]])
    around = torch.eye(4)
    around[:3, :3] = turn.T
    turned = replace(posed, vertices=posed.vertices @ turn.T)
    moved = replace(cameras, camera_from_world=cameras.camera_from_world @ around)
    one, other = CONTROL.draw(posed, head, cameras), CONTROL.draw(turned, head, moved)
    assert float(((one - other).abs().amax(1) > 0.02).float().mean()) < 2e-3  # but for pixels on an edge


def test_regions_and_background_have_their_colours(head: Any, posed: Any) -> None:
    cameras = cameras_from_orbit([0.0], 0.0, 1.75, 54.0, 64, 64, (0.0, 0.12, 0.0))
    _, regions = CONTROL.surface(posed, head, cameras)
    picture = CONTROL.draw(posed, head, cameras)
    assert picture.shape == (1, CONTROL.channels, 96, 96)
    for name in ("skin", "lips", "iris", "scalp", "brows"):
        pixels = regions[0] == list(COLORS).index(name)
        assert bool(pixels.any()), name
        assert torch.allclose(picture[0, 3:, pixels].T, torch.tensor(COLORS[name]) / 255)
    assert float(picture[0][:, regions[0] < 0].abs().max()) == 0.0
    blank = colored(torch.zeros(1, 2, 2, 3), torch.full((1, 2, 2), -1))
    assert not blank.any()


def test_every_triangle_s_normal_points_the_way_of_its_vertices(head: Any) -> None:
    vertices, faces = head.v_template[None], head.faces
    corners = vertices[:, faces]
    across = torch.linalg.cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :])
    mean = vertex_normals(vertices, faces)[:, faces].mean(2)
    assert float(((across * mean).sum(-1) > 0).float().mean()) > 0.98


def test_a_controlnet_of_other_pictures_is_refused() -> None:
    net = SimpleNamespace(config=SimpleNamespace(conditioning_channels=3))
    require_channels(net, LandmarkControl(size=8, thickness_px=1, pupil_px=1))
    require_channels(None, CONTROL)
    with pytest.raises(UserError, match=r"control draws 6 channels .*, but the prior's ControlNet reads 3; name one"):
        require_channels(net, CONTROL)
