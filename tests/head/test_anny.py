from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from headstudio.avatar.frames import triangle_frames
from headstudio.errors import UserError
from headstudio.head.anny import load_anny, read_head
from headstudio.head.model import HeadModel
from headstudio.types import Pose

ASSET = Path(__file__).parents[2] / "headstudio" / "assets" / "head_anny.npz"
pytestmark = pytest.mark.skipif(not ASSET.is_file(), reason="the head has not been baked yet")


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_anny(num_shape=10)


def expressed(head: HeadModel, **weights: float) -> torch.Tensor:
    pose = head.neutral_pose()
    for name, weight in weights.items():
        pose.expression[0, head.expression_names.index(name)] = weight
    return head(torch.zeros(head.num_shape), pose).vertices[0]


def test_what_the_design_promises_is_there(head: HeadModel) -> None:
    assert head.joint_names == ("root", "neck", "jaw", "eye_left", "eye_right")
    assert head.num_expression == 52
    assert {"jawOpen", "eyeBlinkLeft", "mouthSmileRight", "browInnerUp"} <= set(head.expression_names)
    assert {"skin", "lips", "scalp", "sclera", "iris", "teeth", "tongue", "neck"} <= set(head.region_names)
    assert all(bool(head.region_faces(name).any()) for name in head.region_names)
    assert head.v_template.dtype == head.exprdirs.dtype == torch.float32


def test_it_is_centred_1_5_tall_and_looks_along_z(head: HeadModel) -> None:
    low, high = head.v_template.amin(0), head.v_template.amax(0)
    assert torch.allclose((low + high) / 2, torch.zeros(3), atol=0.02)
    assert float(high[1] - low[1]) == pytest.approx(1.5, abs=0.02)
    eyes = head.v_template[head.faces[head.region_faces("iris")].flatten()]
    assert float(eyes[:, 2].mean()) > 0.2  # eyes in front


def test_skinning_weights_and_joint_regressors_are_affine(head: HeadModel) -> None:
    assert torch.allclose(head.weights.sum(1), torch.ones(len(head.weights)), atol=1e-5)
    assert torch.allclose(head.J_regressor.sum(1), torch.ones(head.num_joints), atol=1e-5)


def test_left_is_plus_x(head: HeadModel) -> None:
    joints = dict(zip(head.joint_names, (head.J_regressor @ head.v_template).tolist(), strict=True))
    assert joints["eye_left"][0] > 0.05 > -0.05 > joints["eye_right"][0]
    moved = (expressed(head, eyeBlinkLeft=1.0) - head.v_template).norm(dim=-1)
    assert float(head.v_template[moved > 0.3 * moved.max()][:, 0].mean()) > 0.05


def test_opening_the_jaw_lowers_the_chin(head: HeadModel) -> None:
    shift = expressed(head, jawOpen=1.0) - head.v_template
    assert float(shift[:, 1].min()) < -0.05
    top = head.v_template[:, 1] > 0.4
    assert float(shift[top].norm(dim=-1).max()) < 1e-3


def test_the_rest_triangles_have_area_and_face_outward(head: HeadModel) -> None:
    frames = triangle_frames(head.v_template[None], head.faces)
    assert float(frames.area.min()) > 1e-9
    skin = head.region_faces("scalp")
    outward = (frames.rotation[0, skin][..., 1] * frames.origin[0, skin]).sum(-1) > 0
    assert float(outward.float().mean()) > 0.95


def test_turning_the_left_eye_moves_only_the_left_eye(head: HeadModel) -> None:
    pose = head.neutral_pose()
    joints = pose.joints.clone()
    joints[0, head.joint_names.index("eye_left"), 1] = 0.4
    moved = (head(torch.zeros(10), Pose(pose.expression, joints)).vertices[0] - head.v_template).norm(dim=-1) > 1e-3
    assert bool(moved.any())
    assert bool((head.v_template[moved][:, 0] > 0).all())


@pytest.mark.parametrize("num_shape", [-1, 10_000])
def test_too_many_shape_directions(num_shape: int) -> None:
    with pytest.raises(UserError, match=f"head.num_shape={num_shape} .*scale.num_shape=32 takes all"):
        load_anny(num_shape=num_shape)
    (finding,) = load_anny.look(num_shape=num_shape)  # type: ignore[attr-defined]
    assert f"head.num_shape={num_shape}" in finding.detail
    assert finding.stops
    assert load_anny.look(num_shape=32) == []  # type: ignore[attr-defined]


def test_no_shape_directions() -> None:
    assert load_anny(num_shape=0).num_shape == 0


def test_a_missing_truncated_or_foreign_file_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    with pytest.raises(UserError, match="missing"):
        read_head(path, num_shape=1)
    whole = ASSET.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="damaged"):
            read_head(path, num_shape=1)
    path.write_bytes(whole[: len(whole) // 2] + b"\0" * 2000 + whole[len(whole) // 2 + 2000 :])
    with pytest.raises(UserError, match="damaged"):
        read_head(path, num_shape=1)
    with path.open("wb") as raw:
        np.save(raw, np.zeros(3))  # a single array instead of an archive
    with pytest.raises(UserError, match="damaged"):
        read_head(path, num_shape=1)
    np.savez(path, v_template=np.zeros((3, 3)))
    with pytest.raises(UserError, match="lacks shapedirs"):
        read_head(path, num_shape=1)


def test_arrays_that_do_not_fit_are_a_user_error(tmp_path: Path) -> None:
    arrays = dict(np.load(ASSET))
    arrays["weights"] = arrays["weights"][:, :4]
    path = tmp_path / "head.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="weights has shape"):
        read_head(path, num_shape=1)
