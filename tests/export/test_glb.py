"""Oracles: a reader and evaluator of glTF after its specification, Khronos' validator, trimesh, pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from export_avatars import gaussians_on
from export_gltf import Gltf
from export_node import run_script
from scipy.spatial.transform import Rotation

from headstudio.avatar.rigged import RiggedGaussians
from headstudio.avatar.static import StaticGaussians
from headstudio.avatar.textured_mesh import TexturedMesh
from headstudio.camera import ring
from headstudio.errors import UserError
from headstudio.export.glb import METRES, linear, write_glb
from headstudio.export.moves import Film
from headstudio.head.anny import load_anny
from headstudio.head.model import HeadModel
from headstudio.motion.evaluation import evaluation_poses
from headstudio.opened import OpenedRun
from headstudio.render.mesh_renderer import MeshRenderer
from headstudio.types import Pose, PosedMesh

Opener = Callable[[Any], OpenedRun]


@pytest.fixture
def four_joints(tiny_arrays: dict[str, Any]) -> HeadModel:
    """The tiny head, no vertex of which follows more than four joints; it has pose correctives."""
    weights = tiny_arrays["weights"].clone()
    weights.scatter_(1, weights.argmin(1, keepdim=True), 0.0)
    return HeadModel(**(tiny_arrays | {"weights": weights / weights.sum(1, keepdim=True)}))


def one(pose: Pose, index: int) -> Pose:
    return Pose(expression=pose.expression[index : index + 1], joints=pose.joints[index : index + 1])


def wanted(avatar: Any, pose: Pose) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(avatar.pose(pose)[0].vertices.double().numpy()) * METRES


def test_every_frame_is_the_heads(
    four_joints: HeadModel, random_pose: Pose, opened_with: Opener, tmp_path: Path
) -> None:
    """Expressions, joints that follow them, pose correctives: within a micrometre, at rest, in a pose and animated."""
    avatar = gaussians_on(four_joints)
    film = Film(random_pose, 25.0, "test")
    told = write_glb(opened_with(avatar), tmp_path / "ein Köpf.glb", pose=one(random_pose, 2), motion=film)
    assert told == "42 vertices, 42 morph targets, 5 joints, 3 frames"  # 6 expressions and 4 times 9 correctives
    gltf = Gltf(tmp_path / "ein Köpf.glb")
    vertices = wanted(avatar, random_pose)
    assert np.allclose(gltf.vertices(), vertices[2], atol=1e-6)
    for number in range(3):
        assert np.allclose(gltf.frame(number), vertices[number], atol=1e-6), number
    assert np.allclose(gltf.seconds, [0.0, 0.04, 0.08])
    assert np.array_equal(gltf.array(gltf.primitive["indices"]).reshape(-1, 3), four_joints.faces.numpy())


def test_the_open_head(opened_with: Opener, tmp_path: Path) -> None:
    """ARKit's names and all evaluation poses, each to a micrometre."""
    avatar = gaussians_on(load_anny(num_shape=4), count=9206)
    for name, pose in evaluation_poses(avatar.head).items():
        write_glb(opened_with(avatar), tmp_path / "a.glb", pose=pose, motion=None)
        gltf = Gltf(tmp_path / "a.glb")
        assert np.allclose(gltf.vertices(), wanted(avatar, pose)[0], atol=1e-6), name
        assert "animations" not in gltf.json
    assert gltf.json["meshes"][0]["extras"]["targetNames"] == list(avatar.head.expression_names)
    assert "jawOpen" in avatar.head.expression_names
    names = [gltf.json["nodes"][node]["name"] for node in gltf.json["skins"][0]["joints"]]
    assert names == ["root", "neck", "jaw", "eye_left", "eye_right"]
    assert gltf.json["asset"]["extras"]["prompt"] == "a head with a höt"


def test_a_joint_turned_by_hand_is_nearly_the_heads(opened_with: Opener, tmp_path: Path) -> None:
    """Without the translations of an animation: a millimetre on the open head with an open mouth, turned by 30°."""
    avatar = gaussians_on(load_anny(num_shape=4), count=9206)
    pose = evaluation_poses(avatar.head)["turned"]
    pose.expression[:, list(avatar.head.expression_names).index("jawOpen")] = 1.0
    write_glb(opened_with(avatar), tmp_path / "a.glb", pose=avatar.head.neutral_pose(), motion=None)
    gltf = Gltf(tmp_path / "a.glb")
    neck = Rotation.from_rotvec(pose.joints[0, 1].numpy()).as_quat()
    far = np.abs(gltf.vertices(pose.expression[0].tolist(), {2: {"rotation": neck}}) - wanted(avatar, pose)[0])
    assert 1e-6 < far.max() < 1.5e-3


def test_a_fifth_joint_is_told(
    rigged: RiggedGaussians, random_pose: Pose, opened_with: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pose = one(random_pose, 0)
    with caplog.at_level(logging.WARNING):
        write_glb(opened_with(rigged), tmp_path / "a.glb", pose=pose, motion=None)
    (record,) = caplog.records
    assert "follow more than four joints" in record.message
    assert np.abs(Gltf(tmp_path / "a.glb").vertices() - wanted(rigged, pose)[0]).max() < 0.005


def test_trimesh_reads_it(rigged: RiggedGaussians, opened_with: Opener, tmp_path: Path) -> None:
    write_glb(opened_with(rigged), tmp_path / "a.glb", pose=rigged.head.neutral_pose(), motion=None)
    (mesh,) = trimesh.load(tmp_path / "a.glb", process=False).geometry.values()
    assert np.array_equal(mesh.faces, rigged.head.faces.numpy())
    assert np.allclose(mesh.vertices, wanted(rigged, rigged.head.neutral_pose())[0], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["moving", "still", "mesh"])
def test_khronos_finds_nothing(
    kind: str,
    four_joints: HeadModel,
    painted_mesh: TexturedMesh,
    random_pose: Pose,
    opened_with: Opener,
    tmp_path: Path,
    node_folder: Path,
) -> None:
    avatar: Any = painted_mesh if kind == "mesh" else gaussians_on(four_joints)
    film = Film(random_pose, 24.0, "test") if kind == "moving" else None
    write_glb(opened_with(avatar), tmp_path / "a.glb", pose=one(random_pose, 1), motion=film)
    report = run_script(
        node_folder,
        """
        import { readFileSync } from "node:fs";
        import validator from "gltf-validator";
        const report = await validator.validateBytes(new Uint8Array(readFileSync(process.argv[2])));
        console.log(JSON.stringify(report));
        """,
        str(tmp_path / "a.glb"),
    )
    assert report["mimeType"] == "model/gltf-binary"
    assert report["issues"]["messages"] == []
    assert report["info"]["hasSkins"]
    assert report["info"]["hasMorphTargets"]


def test_a_textured_mesh_keeps_its_texture(painted_mesh: TexturedMesh, opened_with: Opener, tmp_path: Path) -> None:
    """A vertex per texel: what a program draws of the file is what our renderer draws of the mesh, texels and all."""
    write_glb(opened_with(painted_mesh), tmp_path / "a.glb", pose=painted_mesh.head.neutral_pose(), motion=None)
    gltf = Gltf(tmp_path / "a.glb")
    light = gltf.attribute("COLOR_0")
    colors = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    faces = torch.from_numpy(gltf.array(gltf.primitive["indices"]).reshape(-1, 3).astype(np.int64))
    from headstudio.avatar.texture import face_neighbours

    read = PosedMesh(
        vertices=torch.from_numpy(gltf.vertices() / METRES).float()[None],
        faces=faces,
        neighbours=face_neighbours(faces),
        texels=torch.from_numpy(colors).float(),
        texel_ids=faces,
        subdivisions=1,
    )
    own = painted_mesh.pose(painted_mesh.head.neutral_pose())[2]
    cameras = ring(2, elevation_deg=10.0, distance=3.0, fovy_deg=40.0, width=48, height=48)
    renderer, white = MeshRenderer(torch.device("cpu")), torch.ones(3)
    with torch.no_grad():
        pictures = [renderer(mesh, cameras, white).rgb for mesh in (own, read)]
    assert float((pictures[0] - 1.0).abs().max()) > 0.3
    far = (pictures[0] - pictures[1]).abs().amax(1)
    assert float(far.median()) < 1e-4
    assert float((far > 0.02).float().mean()) < 0.01  # pixels on an edge may see the other side of it


def test_a_posed_mesh_keeps_its_own_vertices(
    tiny_arrays: dict[str, Any], random_pose: Pose, opened_with: Opener, tmp_path: Path
) -> None:
    """Displacements turn with the skin."""
    weights = tiny_arrays["weights"].clone()
    weights[:, 4] = 0.0
    head = HeadModel(**(tiny_arrays | {"weights": weights / weights.sum(1, keepdim=True)}))
    texels = 42 + 120
    state = {
        "color_logits": torch.zeros(texels, 3),
        "displacement": torch.linspace(-0.05, 0.05, 42),
        "shape": torch.tensor([0.3, -0.2, 0.1, 0.4]),
    }
    mesh = TexturedMesh.from_state(head, state, subdivisions=2)
    write_glb(opened_with(mesh), tmp_path / "a.glb", pose=one(random_pose, 1), motion=None)
    vertices = Gltf(tmp_path / "a.glb").vertices()
    assert len(vertices) == texels
    assert np.allclose(vertices[:42], wanted(mesh, one(random_pose, 1))[0], atol=1e-6)


def test_unrigged_gaussians_have_no_mesh(static_avatar: StaticGaussians, opened_with: Opener, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--format glb: this run's representation=static_gaussians has no rig"):
        write_glb(opened_with(static_avatar), tmp_path / "a.glb", pose=static_avatar.head.neutral_pose(), motion=None)


def test_light_is_linear() -> None:
    light = linear(torch.tensor([[0.0, 0.04, 0.5], [0.2, 0.735357, 1.0]]))
    assert torch.allclose(light, torch.tensor([[0.0, 0.0030960, 0.2140411], [0.0331048, 0.5, 1.0]]), atol=1e-6)
