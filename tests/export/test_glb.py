"""Oracles: a reader and evaluator of glTF after its specification, Khronos' validator, trimesh, pictures."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from conftest import gaussians_on
from node import node_folder, run_script
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

__all__ = ["node_folder"]
Opener = Callable[[Any], OpenedRun]
COMPONENT = {5121: "u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Gltf:
    """A .glb: its chunks, accessors, and the vertices that a program draws."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", content)
        assert (magic, version, length) == (b"glTF", 2, len(content))
        size, kind = struct.unpack_from("<I4s", content, 12)
        assert kind == b"JSON"
        self.json = json.loads(content[20 : 20 + size])
        binary, kind = struct.unpack_from("<I4s", content, 20 + size)
        assert kind == b"BIN\0"
        self.binary = content[28 + size : 28 + size + binary]
        assert size % 4 == binary % 4 == 0

    def _view(self, index: int, dtype: str, count: int, offset: int = 0) -> np.ndarray:
        view = self.json["bufferViews"][index]
        assert view["byteOffset"] % 4 == 0
        assert count * np.dtype(dtype).itemsize <= view["byteLength"]
        return np.frombuffer(self.binary, dtype, count, view["byteOffset"] + offset)

    def array(self, index: int) -> np.ndarray:
        accessor = self.json["accessors"][index]
        width, dtype = WIDTH[accessor["type"]], COMPONENT[accessor["componentType"]]
        values = np.zeros((accessor["count"], width), dtype)
        if "bufferView" in accessor:
            offset = accessor.get("byteOffset", 0)
            values = self._view(accessor["bufferView"], dtype, values.size, offset).reshape(values.shape).copy()
        if sparse := accessor.get("sparse"):
            places = self._view(
                sparse["indices"]["bufferView"], COMPONENT[sparse["indices"]["componentType"]], sparse["count"]
            )
            assert (np.diff(places.astype(int)) > 0).all()
            values[places] = self._view(sparse["values"]["bufferView"], dtype, sparse["count"] * width).reshape(
                -1, width
            )
        if "min" in accessor:
            assert accessor["min"] == values.min(0).tolist()
            assert accessor["max"] == values.max(0).tolist()
        return values

    @property
    def primitive(self) -> Any:
        (primitive,) = self.json["meshes"][0]["primitives"]
        return primitive

    def attribute(self, name: str) -> np.ndarray:
        return self.array(self.primitive["attributes"][name])

    def vertices(self, weights: Any = None, nodes: dict[int, dict[str, Any]] | None = None) -> np.ndarray:
        """Morphed and skinned, in metres; what is not given is as the file has it at rest."""
        weights = self.json["meshes"][0]["weights"] if weights is None else weights
        points = self.attribute("POSITION").astype(np.float64)
        for weight, target in zip(weights, self.primitive["targets"], strict=True):
            points = points + weight * self.array(target["POSITION"])
        skin = self.json["skins"][0]
        inverse = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        placed = self._globals(nodes or {})
        joints = np.stack([placed[node] @ bound for node, bound in zip(skin["joints"], inverse, strict=True)])
        ids, shares = self.attribute("JOINTS_0"), self.attribute("WEIGHTS_0").astype(np.float64)
        assert np.allclose(shares.sum(1), 1.0, atol=1e-6)
        moved = np.einsum("vk,vkij->vij", shares, joints[ids])
        return np.asarray(np.einsum("vij,vj->vi", moved[:, :3, :3], points) + moved[:, :3, 3])

    def _globals(self, changed: dict[int, dict[str, Any]]) -> dict[int, np.ndarray]:
        found: dict[int, np.ndarray] = {}

        def walk(index: int, above: np.ndarray) -> None:
            node = self.json["nodes"][index] | changed.get(index, {})
            local = np.eye(4)
            local[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
            local[:3, 3] = node.get("translation", [0, 0, 0])
            found[index] = above @ local
            for child in node.get("children", []):
                walk(child, found[index])

        for root in self.json["scenes"][self.json["scene"]]["nodes"]:
            walk(root, np.eye(4))
        return found

    def frame(self, number: int) -> np.ndarray:
        """The vertices at a key frame of the animation."""
        (animation,) = self.json["animations"]
        weights, nodes = None, {}
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            output = self.array(sampler["output"])
            keys = len(self.array(sampler["input"]))
            value = output.reshape(keys, -1)[number]
            node, path = channel["target"]["node"], channel["target"]["path"]
            if path == "weights":
                weights = value
            else:
                nodes.setdefault(node, {})[path] = value
        return self.vertices(weights, nodes)

    @property
    def seconds(self) -> np.ndarray:
        return self.array(self.json["animations"][0]["samplers"][0]["input"])[:, 0]


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
