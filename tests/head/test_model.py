from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstudio.head.model import HeadModel, axis_angle_to_matrix
from headstudio.types import Pose

NUM_SHAPE, NUM_EXPRESSION = 12, 9


def flame_head(data: dict[str, np.ndarray]) -> HeadModel:
    def array(name: str) -> Tensor:
        return torch.from_numpy(data[name].astype(np.float64)).float()

    directions = array("shapedirs")
    return HeadModel(
        v_template=array("v_template"),
        shapedirs=directions[..., :NUM_SHAPE],
        exprdirs=directions[..., 300 : 300 + NUM_EXPRESSION],
        posedirs=array("posedirs"),
        weights=array("weights"),
        J_regressor=array("J_regressor"),
        faces=torch.from_numpy(data["f"].astype(np.int64)),
        parents=(-1, 0, 1, 1, 1),
        joint_names=("root", "neck", "jaw", "eye_left", "eye_right"),
        expression_names=[f"expression_{index}" for index in range(NUM_EXPRESSION)],
        face_region=torch.zeros(len(data["f"]), dtype=torch.int64),
        region_names=("skin",),
        landmark_faces=torch.from_numpy(data["lmk_face_idx"].astype(np.int64)),
        landmark_bary=array("lmk_b_coords"),
        landmark_polylines=(("face_oval", 0, 7, True),),
    )


@pytest.mark.parametrize("seed", range(4))
def test_vertices_joints_and_gradients_agree_with_smplx(flame_files: Any, seed: int) -> None:
    import smplx

    oracle = smplx.FLAME(
        str(flame_files.folder), num_betas=NUM_SHAPE, num_expression_coeffs=NUM_EXPRESSION, batch_size=3
    )
    head = flame_head(flame_files.data)
    generator = torch.Generator().manual_seed(seed)
    shape = torch.randn(NUM_SHAPE, generator=generator)
    pose = Pose(
        expression=torch.randn(3, NUM_EXPRESSION, generator=generator),
        joints=0.7 * torch.randn(3, 5, 3, generator=generator),
    )
    ours, theirs = shape.clone().requires_grad_(), shape.clone().requires_grad_()
    posed = head(ours, pose)
    root, neck, jaw, left, right = pose.joints.unbind(1)
    expected = oracle(
        betas=theirs.expand(3, -1),
        expression=pose.expression,
        global_orient=root,
        neck_pose=neck,
        jaw_pose=jaw,
        leye_pose=left,
        reye_pose=right,
        transl=torch.zeros(3, 3),
    )
    assert torch.allclose(posed.vertices, expected.vertices, atol=1e-5, rtol=0)
    assert torch.allclose(posed.joints, expected.joints[:, :5], atol=1e-5, rtol=0)
    weight = torch.randn(posed.vertices.shape, generator=generator) / posed.vertices.numel()
    (posed.vertices * weight).sum().backward()
    (expected.vertices * weight).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-4, 4), min_size=3, max_size=3))
def test_rotation_matrices_agree_with_the_matrix_exponential(values: list[float]) -> None:
    vector = torch.tensor(values, dtype=torch.float64)
    x, y, z = values
    skew = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    assert torch.allclose(axis_angle_to_matrix(vector), torch.linalg.matrix_exp(skew), atol=1e-9)


def test_rotation_gradient_is_right_at_and_near_zero() -> None:
    for size in (0.0, 1e-6, 1e-2, 1.0):
        vector = (size * torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)).requires_grad_()
        assert torch.autograd.gradcheck(axis_angle_to_matrix, vector)


def test_rest_pose_is_the_shaped_template(tiny_head: HeadModel) -> None:
    shape = torch.tensor([0.5, -1.0, 0.2, 0.0])
    posed = tiny_head(shape, tiny_head.neutral_pose())
    assert torch.allclose(posed.vertices[0], tiny_head.v_template + tiny_head.shapedirs @ shape, atol=1e-6)


def test_the_root_turns_the_whole_head_about_its_joint(tiny_head: HeadModel, random_pose: Pose) -> None:
    shape = torch.zeros(4)
    still = random_pose.joints.clone()
    still[:, 0] = 0
    turned = still.clone()
    turned[:, 0] = torch.tensor([0.0, 0.9, 0.3])
    before = tiny_head(shape, Pose(random_pose.expression, still))
    after = tiny_head(shape, Pose(random_pose.expression, turned))
    rotation, pivot = axis_angle_to_matrix(turned[0, 0]), before.joints[:, :1]
    assert torch.allclose(after.vertices, (before.vertices - pivot) @ rotation.T + pivot, atol=1e-5)


def test_a_batch_of_poses_equals_the_poses_one_by_one(tiny_head: HeadModel, random_pose: Pose) -> None:
    together = tiny_head(torch.ones(4), random_pose)
    for index in range(len(random_pose)):
        alone = tiny_head(
            torch.ones(4), Pose(random_pose.expression[index : index + 1], random_pose.joints[index : index + 1])
        )
        assert torch.allclose(together.vertices[index], alone.vertices[0], atol=1e-6)


def test_no_pose_correctives_is_the_same_as_zero_ones(tiny_arrays: dict[str, Any], random_pose: Pose) -> None:
    directions = tiny_arrays.pop("posedirs")
    none = HeadModel(**tiny_arrays, posedirs=directions[..., :0])
    zero = HeadModel(**tiny_arrays, posedirs=torch.zeros_like(directions))
    assert torch.equal(none(torch.ones(4), random_pose).vertices, zero(torch.ones(4), random_pose).vertices)


def test_the_head_stays_out_of_checkpoints(tiny_head: HeadModel) -> None:
    assert tiny_head.state_dict() == {}


def test_region_faces_and_its_error(tiny_head: HeadModel) -> None:
    counts = [int(tiny_head.region_faces(name).sum()) for name in tiny_head.region_names]
    assert all(counts)
    assert sum(counts) == len(tiny_head.faces)
    with pytest.raises(KeyError, match="no region nose"):
        tiny_head.region_faces("nose")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weights", torch.ones(42, 4), "weights has shape"),
        ("posedirs", torch.zeros(42, 3, 9), "posedirs has shape"),
        ("expression_names", ("jawOpen",), "exprdirs has shape"),
        ("J_regressor", torch.zeros(42, 5), "J_regressor has shape"),
        ("faces", torch.full((80, 3), 42), "indices outside 0..41"),
        ("parents", (-1, 0, 1, 4, 1), "parent must come before"),
        ("parents", (0, 0, 1, 1, 1), "first joint must be the root"),
        ("joint_names", ("root",), "joint names"),
        ("landmark_polylines", (("lips", 3, 99, True),), "landmark line lips"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tiny_arrays: dict[str, Any], name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HeadModel(**{**tiny_arrays, name: value})


def test_wrong_parameters_are_refused(tiny_head: HeadModel) -> None:
    with pytest.raises(ValueError, match="shape has shape"):
        tiny_head(torch.zeros(5), tiny_head.neutral_pose())
    pose = tiny_head.neutral_pose(2)
    with pytest.raises(ValueError, match="pose has expression"):
        tiny_head(torch.zeros(4), Pose(pose.expression[:1], pose.joints))
