"""Oracles: GaussianAvatars' way from local to global, written here after its published code; smplx; VHAP's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_avatars import gaussians_on
from plyfile import PlyData
from scipy.spatial.transform import Rotation

from headstudio.avatar.rigged import RiggedGaussians
from headstudio.errors import UserError
from headstudio.export.gaussian_avatars import flame_parameters, write_gaussian_avatar
from headstudio.export.moves import Film
from headstudio.head.model import HeadModel
from headstudio.motion.files import read_file
from headstudio.opened import OpenedRun
from headstudio.types import Pose

Opener = Callable[[Any], OpenedRun]
Array = np.ndarray


@pytest.fixture
def avatar(tiny_arrays: dict[str, Any]) -> RiggedGaussians:
    """On the tiny head with FLAME's names."""
    names = [f"flame_{index:03d}" for index in range(len(tiny_arrays["expression_names"]))]
    return gaussians_on(HeadModel(**(tiny_arrays | {"expression_names": names})))


class Theirs:
    """What GaussianAvatars' loader makes of a file, and where it draws the Gaussians on a posed mesh."""

    def __init__(self, path: Path, *, sh_degree: int = 3) -> None:
        vertex = PlyData.read(str(path)).elements[0]

        def sorted_columns(prefix: str) -> Array:
            names = [prop.name for prop in vertex.properties if prop.name.startswith(prefix)]
            return np.stack([vertex[name] for name in sorted(names, key=lambda name: int(name.split("_")[-1]))], -1)

        self.xyz = np.stack([vertex["x"], vertex["y"], vertex["z"]], -1).astype(np.float64)
        self.opacity = vertex["opacity"]
        self.features = np.stack([vertex[f"f_dc_{index}"] for index in range(3)], -1)
        assert sorted_columns("f_rest_").shape[1] == 3 * (sh_degree + 1) ** 2 - 3
        assert not sorted_columns("f_rest_").any()
        self.scaling = sorted_columns("scale_").astype(np.float64)
        self.rotation = sorted_columns("rot").astype(np.float64)
        self.binding = sorted_columns("binding").astype(np.int32)[:, 0]

    def on(self, vertices: Array, faces: Array) -> tuple[Array, Array, Array]:
        """Centres, rotation matrices and standard deviations."""
        v0, v1, v2 = (vertices[faces[:, corner]] for corner in range(3))
        length = np.linalg.norm(v1 - v0, axis=-1, keepdims=True)
        a0 = (v1 - v0) / length
        a1 = np.cross(a0, v2 - v0)
        a1 /= np.linalg.norm(a1, axis=-1, keepdims=True)
        a2 = -np.cross(a1, a0)
        matrix = np.stack((a0, a1, a2), -1)[self.binding]
        size = ((length + np.abs((a2 * (v2 - v0)).sum(-1, keepdims=True))) / 2)[self.binding]
        centre = ((v0 + v1 + v2) / 3)[self.binding]
        local = Rotation.from_quat(self.rotation[:, [1, 2, 3, 0]]).as_matrix()
        centres = np.einsum("nij,nj->ni", matrix, self.xyz) * size + centre
        return centres, matrix @ local, np.exp(self.scaling) * size


def assert_same(theirs: tuple[Array, Array, Array], avatar: RiggedGaussians, pose: Pose, tolerance: float) -> None:
    with torch.no_grad():
        world = avatar.pose(pose)[2]
    means, turns, scales = theirs
    assert np.allclose(means, world.means[0].numpy(), atol=tolerance)
    assert np.allclose(scales, world.scales[0].numpy(), rtol=10 * tolerance)
    quats = world.quats[0].numpy()[:, [1, 2, 3, 0]]
    assert np.allclose(turns, Rotation.from_quat(quats).as_matrix(), atol=10 * tolerance)


def written(avatar: RiggedGaussians, opened: OpenedRun, folder: Path) -> Theirs:
    told = write_gaussian_avatar(opened, folder, pose=avatar.head.neutral_pose(), motion=None)
    assert told == "200 Gaussians, 1 time step"
    return Theirs(folder / "point_cloud.ply")


def test_they_draw_the_same_head(avatar: RiggedGaussians, opened_with: Opener, tmp_path: Path) -> None:
    theirs, head = written(avatar, opened_with(avatar), tmp_path / "ein Köpf"), avatar.head
    vertices = head(avatar.shape, head.neutral_pose()).vertices[0].detach().double().numpy()
    assert_same(theirs.on(vertices, head.faces.numpy()), avatar, head.neutral_pose(), 2e-6)
    assert np.array_equal(theirs.binding, avatar.triangle.numpy())
    assert np.allclose(1 / (1 + np.exp(-theirs.opacity)), avatar.opacity_logits.sigmoid().detach().numpy(), atol=1e-6)
    colors = 0.5 + 0.28209479177387814 * theirs.features
    assert np.allclose(colors, avatar.color_logits.sigmoid().detach().numpy(), atol=1e-6)


def test_a_turn_of_the_whole_head_turns_them(avatar: RiggedGaussians, opened_with: Opener, tmp_path: Path) -> None:
    """Triangles that do not stretch carry their Gaussians along exactly: the order of the rotations is right."""
    theirs, pose = written(avatar, opened_with(avatar), tmp_path), avatar.head.neutral_pose()
    pose.joints[:, 0] = torch.tensor([0.3, -1.1, 0.5])
    head = HeadModel(**{**heads_arrays(avatar.head), "posedirs": torch.zeros(len(avatar.head.v_template), 3, 0)})
    rigid = RiggedGaussians.from_state(head, avatar.state_dict())
    vertices = head(avatar.shape, pose).vertices[0].detach().double().numpy()
    assert_same(theirs.on(vertices, head.faces.numpy()), rigid, pose, 3e-6)


def heads_arrays(head: HeadModel) -> dict[str, Any]:
    names = ("joint_names", "expression_names", "region_names", "landmark_polylines", "parents")
    return {**dict(head.named_buffers()), **{name: getattr(head, name) for name in names}}


def test_a_pose_stretches_them_a_little_differently(
    avatar: RiggedGaussians, opened_with: Opener, random_pose: Pose, tmp_path: Path
) -> None:
    """Rotations stay exact; centres and sizes differ by what the two measures of a stretched triangle differ by."""
    theirs, head = written(avatar, opened_with(avatar), tmp_path), avatar.head
    pose = Pose(expression=0.3 * random_pose.expression[:1], joints=0.3 * random_pose.joints[:1])
    vertices = head(avatar.shape, pose).vertices[0].detach().double().numpy()
    means, turns, scales = theirs.on(vertices, head.faces.numpy())
    world = avatar.pose(pose)[2]
    assert np.allclose(
        turns, Rotation.from_quat(world.quats[0].detach().numpy()[:, [1, 2, 3, 0]]).as_matrix(), atol=1e-5
    )
    ratio = scales / world.scales[0].detach().numpy()
    assert 0.9 < ratio.min() < ratio.max() < 1.1
    assert np.abs(means - world.means[0].detach().numpy()).max() < 0.02


def test_parameters_are_a_film(avatar: RiggedGaussians, random_pose: Pose, opened_with: Opener, tmp_path: Path) -> None:
    film = Film(random_pose, 25.0, "test")
    told = write_gaussian_avatar(opened_with(avatar), tmp_path, pose=avatar.head.neutral_pose(), motion=film)
    assert told.endswith("3 time steps")
    with np.load(tmp_path / "flame_param.npz", allow_pickle=False) as file:
        arrays = dict(file)
    rows = 5023 + 120  # FLAME's vertices and their teeth
    assert {name: (value.shape, value.dtype.str) for name, value in arrays.items()} == {
        "shape": ((300,), "<f4"),
        "expr": ((3, 100), "<f4"),
        "rotation": ((3, 3), "<f4"),
        "neck_pose": ((3, 3), "<f4"),
        "jaw_pose": ((3, 3), "<f4"),
        "eyes_pose": ((3, 6), "<f4"),
        "translation": ((3, 3), "<f4"),
        "static_offset": ((1, rows, 3), "<f4"),
        "dynamic_offset": ((3, rows, 3), "<f4"),
        "fps": ((), "<f8"),  # ours; its viewer has a rate of its own
    }
    assert np.array_equal(arrays["shape"][:4], avatar.shape.detach().numpy())
    (recording,) = read_file(tmp_path / "flame_param.npz", fps=None)
    assert recording.fps == 25.0
    assert recording.expression is not None
    assert np.array_equal(recording.expression[:, :6], random_pose.expression.numpy())
    assert not recording.expression[:, 6:].any()
    for row, joint in enumerate(("root", "neck", "jaw", "eye_left", "eye_right")):
        assert np.array_equal(getattr(recording, joint), random_pose.joints[:, row].numpy()), joint


def test_other_heads_and_representations_are_refused(
    rigged: RiggedGaussians, avatar: RiggedGaussians, opened_with: Opener, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="needs a run with head=flame: its viewer moves FLAME's triangles"):
        write_gaussian_avatar(opened_with(rigged), tmp_path / "a", pose=rigged.head.neutral_pose(), motion=None)
    from headstudio.avatar.static import StaticGaussians

    state = {name: value for name, value in avatar.state_dict().items() if name not in ("shape", "triangle")}
    static = StaticGaussians.from_state(avatar.head, state)
    with pytest.raises(UserError, match="needs Gaussians on triangles"):
        write_gaussian_avatar(opened_with(static), tmp_path / "a", pose=avatar.head.neutral_pose(), motion=None)
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_flames_own_vertices_carry_them(opened_with: Opener, tmp_path: Path) -> None:
    """A FLAME-like model evaluated by smplx from flame_param.npz, in metres, as their viewer does it; then by ours."""
    from smplx.lbs import lbs

    from headstudio.head.flame import load_flame, world_from_flame
    from headstudio.standins.flame import flame_arrays, write_flame
    from headstudio.standins.flame_mesh import flame_mesh

    path = write_flame(tmp_path / "flame", npz=True, mediapipe=False, static=False, masks=False)
    head = load_flame(
        path=str(path),
        version=2020,
        gender="generic",
        num_shape=10,
        num_expression=20,
        landmark_path=None,
        mask_path=None,
        arkit_path=None,
    )
    ours = gaussians_on(head)
    pose = head.neutral_pose()
    theirs = written(ours, opened_with(ours), tmp_path / "out")
    numbers = {
        name: torch.from_numpy(np.array(value))
        for name, value in flame_arrays(flame_mesh()).items()
        if name[0] != "b" and name != "note"
    }
    given = {name: torch.from_numpy(value).double() for name, value in flame_parameters(ours, pose, 1.0).items()}
    joints = torch.cat([given[name] for name in ("rotation", "neck_pose", "jaw_pose", "eyes_pose")], 1)
    vertices, _ = lbs(
        torch.cat((given["shape"][None], given["expr"]), 1),
        joints,
        numbers["v_template"][None],
        numbers["shapedirs"],
        numbers["posedirs"].reshape(-1, 36).T,
        numbers["J_regressor"],
        torch.tensor([-1, 0, 1, 1, 1]),
        numbers["weights"],
    )
    means, turns, scales = theirs.on(vertices[0].numpy(), numbers["f"].numpy().astype(np.int64))
    similarity = world_from_flame(numbers["v_template"].numpy())
    assert_same((similarity.points(means), turns, scales * similarity.scale), ours, pose, 2e-5)


def test_other_files_are_left_alone(avatar: RiggedGaussians, opened_with: Opener, tmp_path: Path) -> None:
    """A folder with somebody's tracked parameters is not one that we have written."""
    parameters = tmp_path / "flame_param.npz"
    parameters.write_bytes(b"tracked")
    words: dict[str, Any] = {"pose": avatar.head.neutral_pose(), "motion": None}
    with pytest.raises(UserError, match=r"holds other files, such as flame_param.npz"):
        write_gaussian_avatar(opened_with(avatar), tmp_path, **words)
    assert parameters.read_bytes() == b"tracked"
    for _ in range(2):  # its own may be replaced
        write_gaussian_avatar(opened_with(avatar), tmp_path / "new", **words)
