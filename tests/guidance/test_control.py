"""The control map shows what the renderer's cameras see of the face, on the same pixels."""

from __future__ import annotations

import pytest
import torch

from headstudio.camera import cameras_from_orbit, project
from headstudio.guidance.control import COLORS, LandmarkControl, resized
from headstudio.head.anny import load_anny
from headstudio.head.landmarks import posed_landmarks
from headstudio.head.model import HeadModel
from headstudio.motion.arkit import pose_of, weights_of
from headstudio.render.cpu import CpuRenderer
from headstudio.types import Cameras, Gaussians, Pose, PosedHead

TARGET = (0.0, 0.12, 0.0)
PUPILS = ("right_pupil", "left_pupil")


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_anny(num_shape=4)


@pytest.fixture(scope="module")
def control() -> LandmarkControl:
    return LandmarkControl(size=256, thickness_px=3.0, pupil_px=5.0)  # wide enough for pure colours


def cameras(azimuth_deg: float | list[float], size: int = 256, elevation_deg: float = 4.0) -> Cameras:
    return cameras_from_orbit(azimuth_deg, elevation_deg, 1.75, 54.0, size, size, TARGET)


def asymmetric(head: HeadModel) -> Pose:
    """Nothing about this pose survives a mirror, a transposed rotation or a swapped side."""
    face = {"jawOpen": 0.5, "mouthLeft": 0.6, "browOuterUpLeft": 0.8, "mouthSmileRight": 0.7}
    gaze, neck = torch.tensor([[10.0, 0.0]]), torch.tensor([[14.0, 6.0, 9.0]])
    return pose_of(head, weights_of(face)[None], gaze_deg=gaze, neck_deg=neck)


def posed(head: HeadModel, pose: Pose) -> PosedHead:
    return head(torch.tensor([0.0, 0.3, 0.0, 0.0]), pose)


def where(picture: torch.Tensor, name: str) -> torch.Tensor:
    """Pixels (n, 2) as (row, column) that have a line's colour."""
    color = torch.tensor(COLORS[name])[:, None, None] / 255
    return torch.nonzero((picture - color).abs().amax(0) < 0.02)


@pytest.mark.parametrize("azimuth_deg", [-30.0, 20.0])
def test_a_landmark_and_a_gaussian_fall_on_the_same_pixel(
    head: HeadModel, control: LandmarkControl, azimuth_deg: float
) -> None:
    views, body = cameras(azimuth_deg), posed(head, asymmetric(head))
    picture = control.draw(body, head, views)[0]
    landmarks = posed_landmarks(head, body)
    for name, first, _, _ in landmarks.polylines:
        if name not in PUPILS:
            continue
        point = landmarks.points[:, [first]]
        gaussian = Gaussians(
            means=point,
            quats=torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]),
            scales=torch.full((1, 1, 3), 1e-3),
            opacities=torch.ones(1),
            colors=torch.ones(1, 3),
        )
        drawn = CpuRenderer(threads=1)(gaussian, views, torch.zeros(3)).rgb[0].sum(0)
        row, column = divmod(int(drawn.argmax()), views.width)
        found = where(picture, name).float()
        assert len(found) > 0
        middle = found.mean(0)
        assert abs(float(middle[0]) - row) <= 1.0
        assert abs(float(middle[1]) - column) <= 1.0


def test_every_visible_landmark_is_drawn_where_it_projects(head: HeadModel, control: LandmarkControl) -> None:
    views, body = cameras(0.0), posed(head, asymmetric(head))
    picture = control.draw(body, head, views)[0]
    landmarks = posed_landmarks(head, body)
    pixels, _ = project(landmarks.points, views)
    first, last = next((a, b) for name, a, b, _ in landmarks.polylines if name == "lips_outer")
    lit = torch.nn.functional.max_pool2d(picture.amax(0)[None, None], 3, 1, 1)[0, 0]
    hits = [float(lit[int(y), int(x)]) > 0.2 for x, y in pixels[0, first:last]]
    assert sum(hits) > 0.9 * len(hits)


def test_left_and_right_are_the_subjects(head: HeadModel, control: LandmarkControl) -> None:
    picture = control.draw(posed(head, head.neutral_pose()), head, cameras(0.0))[0]
    right, left = (where(picture, name)[:, 1].float().mean() for name in PUPILS)
    assert float(right) < 128 - 10 < 128 + 10 < float(left)  # seen from in front, the subject's right is on our left


def test_a_shut_eye_hides_its_pupil(head: HeadModel, control: LandmarkControl) -> None:
    pose = pose_of(head, weights_of({"eyeBlinkLeft": 1.0})[None])
    for views in (cameras(0.0), cameras(25.0)):
        picture = control.draw(posed(head, pose), head, views)[0]
        assert len(where(picture, "left_pupil")) == 0
        assert len(where(picture, "right_pupil")) > 0


def test_the_back_of_the_head_is_empty(head: HeadModel, control: LandmarkControl) -> None:
    pictures = control.draw(posed(head, head.neutral_pose()), head, cameras([180.0, 165.0, -170.0]))
    assert float(pictures.abs().max()) == 0.0


@pytest.mark.parametrize(("azimuth_deg", "seen", "hidden"), [(70.0, "left", "right"), (-70.0, "right", "left")])
def test_a_profile_shows_one_side(
    head: HeadModel, control: LandmarkControl, azimuth_deg: float, seen: str, hidden: str
) -> None:
    picture = control.draw(posed(head, head.neutral_pose()), head, cameras(azimuth_deg))[0]
    for part in ("pupil", "brow_upper"):
        assert len(where(picture, f"{seen}_{part}")) > 8
        assert len(where(picture, f"{hidden}_{part}")) == 0


def test_one_pose_for_all_is_one_pose_each(head: HeadModel, control: LandmarkControl) -> None:
    pose = asymmetric(head)
    twice = Pose(pose.expression.repeat(2, 1), pose.joints.repeat(2, 1, 1))
    views = cameras([-20.0, 40.0])
    shared = control.draw(posed(head, pose), head, views)
    assert torch.equal(shared, control.draw(posed(head, twice), head, views))
    assert torch.equal(shared[1], control.draw(posed(head, pose), head, cameras(40.0))[0])


def test_it_has_its_own_size_and_the_cameras_aspect(head: HeadModel) -> None:
    views = cameras_from_orbit(10.0, 0.0, 1.75, 54.0, 300, 200, TARGET)
    small = resized(views, 100)
    assert (small.width, small.height) == (150, 100)
    points = torch.rand(1, 5, 3) - 0.5
    torch.testing.assert_close(project(points, small)[0] * 2, project(points, views)[0])
    drawn = LandmarkControl(size=100, thickness_px=1.0, pupil_px=2.0)
    assert drawn.draw(posed(head, head.neutral_pose()), head, views).shape == (1, 3, 100, 150)


def test_it_carries_no_gradient_and_stays_in_range(head: HeadModel, control: LandmarkControl) -> None:
    shape = torch.zeros(4, requires_grad=True)
    picture = control.draw(head(shape, head.neutral_pose()), head, cameras(0.0))
    assert not picture.requires_grad
    assert 0.0 <= float(picture.min()) <= float(picture.max()) <= 1.0
