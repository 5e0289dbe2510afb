"""`head=flame` is FLAME as smplx poses it, in this package's world, with all that a run needs of a head."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstudio.avatar.init import SuperResolution
from headstudio.avatar.rigged import RiggedGaussians
from headstudio.camera import cameras_from_orbit
from headstudio.guidance.control import COLORS, LandmarkControl
from headstudio.head.anny import load_anny
from headstudio.head.flame import load_flame, world_from_flame
from headstudio.head.model import HeadModel
from headstudio.standins.flame import write_flame
from headstudio.types import Pose

NUM_SHAPE, NUM_EXPRESSION = 20, 10


def load(path: Path, **changed: Any) -> HeadModel:
    setting: dict[str, Any] = {
        "path": str(path),
        "version": 2020,
        "gender": "generic",
        "num_shape": NUM_SHAPE,
        "num_expression": NUM_EXPRESSION,
        "landmark_path": None,
        "mask_path": None,
        "arkit_path": None,
    }
    return load_flame(**setting | changed)


@pytest.fixture(scope="module")
def head(flame_folder: Path) -> HeadModel:
    return load(flame_folder)


@pytest.fixture(scope="module")
def oracle(flame_numbers: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """smplx's own FLAME with the same numbers, in pickles that it can open."""
    import smplx

    folder = tmp_path_factory.mktemp("smplx")
    (folder / "FLAME_NEUTRAL.pkl").write_bytes(pickle.dumps(dict(flame_numbers)))
    marks = {"lmk_face_idx": np.zeros(51, np.uint32), "lmk_b_coords": np.full((51, 3), 1 / 3)}
    (folder / "flame_static_embedding.pkl").write_bytes(pickle.dumps(marks))
    return smplx.FLAME(str(folder), num_betas=NUM_SHAPE, num_expression_coeffs=NUM_EXPRESSION, batch_size=2)


@pytest.mark.parametrize("seed", range(3))
def test_vertices_and_joints_agree_with_smplx(
    head: HeadModel, oracle: Any, flame_numbers: Mapping[str, Any], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = torch.randn(NUM_SHAPE, generator=generator)
    pose = Pose(
        expression=torch.randn(2, NUM_EXPRESSION, generator=generator),
        joints=0.5 * torch.randn(2, 5, 3, generator=generator),
    )
    posed = head(shape, pose)
    root, neck, jaw, left, right = pose.joints.unbind(1)
    expected = oracle(
        betas=shape.expand(2, -1),
        expression=pose.expression,
        global_orient=root,
        neck_pose=neck,
        jaw_pose=jaw,
        leye_pose=left,
        reye_pose=right,
        transl=torch.zeros(2, 3),
    )
    similarity = world_from_flame(flame_numbers["v_template"])
    metres = similarity.metres(posed.vertices.numpy())
    assert np.abs(metres - expected.vertices.detach().numpy()).max() < 1e-5
    assert np.abs(similarity.metres(posed.joints.numpy()) - expected.joints[:, :5].detach().numpy()).max() < 1e-5


def test_the_template_is_centred_and_as_tall_as_the_open_head(
    head: HeadModel, flame_numbers: Mapping[str, Any]
) -> None:
    low, high = head.v_template.amin(0), head.v_template.amax(0)
    assert torch.allclose((low + high) / 2, torch.zeros(3), atol=1e-6)
    assert float(high[1] - low[1]) == pytest.approx(1.5, abs=1e-6)
    similarity = world_from_flame(flame_numbers["v_template"])
    back = similarity.metres(similarity.points(flame_numbers["v_template"]))
    assert np.abs(back - flame_numbers["v_template"]).max() < 1e-15
    # the stand-in is the open head, moved and in metres: it must land where the open head is
    open_head = load_anny(num_shape=0)
    neutral = torch.zeros(head.num_shape)
    joints, own = (h(neutral[: h.num_shape], h.neutral_pose()).joints[0] for h in (head, open_head))
    assert torch.allclose(joints[1:], own[1:], atol=0.05)


def test_joints_and_expressions_have_the_names_that_motions_use(head: HeadModel) -> None:
    assert head.joint_names == load_anny(num_shape=0).joint_names
    assert head.expression_names == tuple(f"flame_{index:03d}" for index in range(NUM_EXPRESSION))
    joints = head(torch.zeros(NUM_SHAPE), head.neutral_pose()).joints[0]
    assert joints[head.joint_names.index("eye_left"), 0] > 0 > joints[head.joint_names.index("eye_right"), 0]


def test_the_first_coefficients_are_kept(flame_folder: Path, flame_numbers: Mapping[str, Any]) -> None:
    scale = world_from_flame(flame_numbers["v_template"]).scale
    whole = load(flame_folder, num_shape=300, num_expression=100)
    assert (whole.num_shape, whole.num_expression) == (300, 100)
    part = load(flame_folder, num_shape=3, num_expression=2)
    for model, count in ((whole, 3), (part, 3)):
        expected = flame_numbers["shapedirs"][..., :count] * scale
        assert np.abs(model.shapedirs[..., :count].numpy() - expected).max() < 1e-6
    assert np.abs(part.exprdirs.numpy() - flame_numbers["shapedirs"][..., 300:302] * scale).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(("version", "gender"), [(2020, "male"), (2020, "female"), (2023, "generic")])
def test_every_published_file_is_found_by_its_name(tmp_path: Path, head: HeadModel, version: int, gender: str) -> None:
    write_flame(tmp_path / f"FLAME{version}", version=version, gender=gender)
    found = load(tmp_path, version=version, gender=gender)
    for name, values in head.named_buffers():
        assert torch.equal(values, dict(found.named_buffers())[name]), name
    assert (found.landmark_polylines, found.region_names) == (head.landmark_polylines, head.region_names)


def test_a_chumpy_pickle_gives_the_same_head(tmp_path: Path, head: HeadModel) -> None:
    found = load(write_flame(tmp_path, masks=True))
    for name, values in head.named_buffers():
        assert torch.equal(values, dict(found.named_buffers())[name]), name


def test_gaussians_are_rigged_to_it(head: HeadModel) -> None:
    generator = torch.Generator().manual_seed(0)
    init = SuperResolution(per_triangle=2, neighbours=3, distance_power=2)
    avatar = RiggedGaussians(head, generator, init=init, initial_color=(0.5, 0.5, 0.5), initial_opacity=0.1)
    posed, _, rest = avatar.pose(head.neutral_pose())
    assert rest.means.shape == (1, 2 * 9976, 3)
    corners = posed.vertices[0, head.faces].repeat_interleave(2, 0)
    assert (rest.means[0] >= corners.amin(1) - 1e-4).all()
    assert (rest.means[0] <= corners.amax(1) + 1e-4).all()
    opened = head.neutral_pose()
    opened.joints[:, 2, 0] = 0.2
    moved = avatar.pose(opened)[2].means[0] - rest.means[0]
    jaw = head.weights[head.faces, 2].mean(1).repeat_interleave(2)
    assert moved[jaw > 0.9, 1].max() < moved[jaw < 0.01, 1].min() - 0.001


@pytest.mark.parametrize("source", ["mediapipe", "static", "none"])
def test_the_control_picture_is_a_face_the_right_way_round(source: str, flame_folder: Path, tmp_path: Path) -> None:
    for name in {
        "mediapipe": ("mediapipe_landmark_embedding.npz",),
        "static": ("flame_static_embedding.pkl",),
        "none": (),
    }[source]:
        (tmp_path / name).symlink_to(flame_folder / name)
    (tmp_path / "generic_model.npz").symlink_to(flame_folder / "generic_model.npz")
    head = load(tmp_path)
    camera = cameras_from_orbit(0.0, 0.0, 4.0, 26.0, 192, 192)
    posed = head(torch.zeros(NUM_SHAPE), head.neutral_pose())
    picture = LandmarkControl(size=192, thickness_px=2, pupil_px=4).draw(posed, head, camera)[0]
    assert picture.shape == (3, 192, 192)

    def middle(name: str) -> torch.Tensor:
        color = torch.tensor(COLORS[name])[:, None, None] / 255
        row, column = torch.nonzero(((picture - color).abs() < 0.02).all(0), as_tuple=True)
        assert len(row) > 3, name
        return torch.stack((column, row)).float().mean(1)

    # the subject's left is at the right of the picture, rows grow downwards
    left, right, lips = middle("left_eye"), middle("right_eye"), middle("lips_outer")
    assert left[0] > 110 > 96 > 82 > right[0]
    assert abs(float(left[1] - right[1])) < 2
    assert lips[1] > left[1] + 20
    assert abs(float(lips[0]) - 96) < 3
    assert middle("left_pupil")[0] > middle("right_pupil")[0]
    assert middle("left_brow_upper")[1] < left[1]
