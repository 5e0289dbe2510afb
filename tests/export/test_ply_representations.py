"""Oracles: bit equality after a round trip, and what other programs read from the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from plyfile import PlyData

from headstudio.avatar.init import Sparse
from headstudio.avatar.static import StaticGaussians
from headstudio.avatar.textured_mesh import TexturedMesh
from headstudio.errors import UserError
from headstudio.export.ply import load_avatar, read_header, save_avatar
from headstudio.head.model import HeadModel

INIT = Sparse(neighbours=3, distance_power=2)


def jittered(avatar: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in avatar.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return avatar


@pytest.fixture
def static(tiny_head: HeadModel) -> StaticGaussians:
    start: dict[str, Any] = {"init": INIT, "initial_color": (0.5, 0.4, 0.3), "initial_opacity": 0.5}
    avatar = StaticGaussians(tiny_head, torch.Generator(), **start, length_unit=0.1)
    return jittered(avatar)  # type: ignore[no-any-return]


@pytest.fixture
def mesh(tiny_head: HeadModel) -> TexturedMesh:
    start: dict[str, Any] = {"init": INIT, "initial_color": (0.5, 0.4, 0.3), "subdivisions": 3}
    avatar = TexturedMesh(tiny_head, torch.Generator(), **start, length_unit=0.1, lambda_smooth=1.0)
    return jittered(avatar)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["static", "mesh"])
def test_every_bit_comes_back(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    avatar = request.getfixturevalue(name)
    save_avatar(avatar, tmp_path / "avatar.ply", head_name="tiny")
    again = load_avatar(tmp_path / "avatar.ply", avatar.head)
    assert type(again) is type(avatar)
    state = avatar.state_dict()
    assert again.state_dict().keys() == state.keys()
    for key, value in again.state_dict().items():
        assert value.dtype == state[key].dtype
        assert torch.equal(value, state[key]), key
    save_avatar(again, tmp_path / "again.ply", head_name="tiny")
    assert (tmp_path / "again.ply").read_bytes() == (tmp_path / "avatar.ply").read_bytes()


def test_a_splatting_viewer_finds_the_static_gaussians(static: StaticGaussians, tmp_path: Path) -> None:
    save_avatar(static, tmp_path / "avatar.ply", head_name="tiny")
    ply = PlyData.read(str(tmp_path / "avatar.ply"))
    assert [element.name for element in ply.elements] == ["vertex"]
    v = ply["vertex"]
    world = static.pose(static.head.neutral_pose())[2]
    assert np.array_equal(np.stack([v["x"], v["y"], v["z"]], -1), world.means[0].detach().numpy())
    scales = np.exp(np.stack([v["scale_0"], v["scale_1"], v["scale_2"]], -1))
    assert np.allclose(scales, world.scales[0].detach().numpy(), rtol=1e-5)
    header = read_header(tmp_path / "avatar.ply")
    assert (header.kind, header.num_gaussians, header.shape) == ("static_gaussians", 80, ())


def test_mesh_programs_read_the_mesh(mesh: TexturedMesh, tmp_path: Path) -> None:
    save_avatar(mesh, tmp_path / "avatar.ply", head_name="tiny")
    seen: Any = trimesh.load(tmp_path / "avatar.ply", process=False)
    posed, _, scene = mesh.pose(mesh.head.neutral_pose())
    assert np.allclose(seen.vertices, posed.vertices[0].detach().numpy(), atol=1e-6)
    assert np.array_equal(seen.faces, mesh.head.faces.numpy())
    colors = scene.texels[: len(seen.vertices)].detach().numpy()
    assert np.allclose(seen.visual.vertex_colors[:, :3] / 255, colors, atol=0.51 / 255)
    header = read_header(tmp_path / "avatar.ply")
    assert (header.kind, header.head_name, header.num_gaussians, header.num_triangles) == (
        "textured_mesh",
        "tiny",
        0,
        80,
    )
    assert torch.equal(torch.tensor(header.shape), mesh.shape.detach())


@pytest.mark.parametrize("name", ["static", "mesh"])
def test_damage_is_told(name: str, tmp_path: Path, tiny_arrays: dict[str, Any], request: Any) -> None:
    avatar = request.getfixturevalue(name)
    path = tmp_path / "avatar.ply"
    save_avatar(avatar, path, head_name="tiny")
    content = path.read_bytes()
    other = HeadModel(**(tiny_arrays | {"faces": tiny_arrays["faces"].flip(0)}))
    with pytest.raises(UserError, match="made on the head tiny"):
        load_avatar(path, other)
    path.write_bytes(content[:-3])
    with pytest.raises(UserError, match="damaged"):
        load_avatar(path, avatar.head)
    path.write_bytes(content.replace(b"color_logit_1", b"color_xxxxx_1"))
    with pytest.raises(UserError, match="incomplete"):
        load_avatar(path, avatar.head)
    path.write_bytes(content.replace(b"_gaussians 1\n", b"_gaussians 7\n").replace(b"_mesh 1\n", b"_mesh 7\n"))
    with pytest.raises(UserError, match=r"format .* 7; this version reads avatar 1, static_gaussians 1, textured_mesh"):
        load_avatar(path, avatar.head)
