"""The drawing on a device against the drawing on the CPU, against areas, and against shapes that depend on data."""

from __future__ import annotations

import math

import pytest
import torch
from no_waiting import no_waiting
from torch import Tensor

from headstudio.camera import cameras_from_orbit, project
from headstudio.guidance import control_torch
from headstudio.guidance.control import COLORS, LandmarkControl, resized
from headstudio.head.anny import load_anny
from headstudio.head.landmarks import posed_landmarks
from headstudio.head.model import HeadModel
from headstudio.motion.arkit import pose_of, weights_of
from headstudio.render.mesh import rasterise_mesh
from headstudio.types import Cameras, Pose, PosedHead

AZIMUTHS = [0.0, 35.0, -75.0, 180.0]
FACE = {"jawOpen": 0.5, "mouthLeft": 0.6, "browOuterUpLeft": 0.8, "mouthSmileRight": 0.7}


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_anny(num_shape=4)


def poses(head: HeadModel) -> dict[str, Pose]:
    gaze, neck = torch.tensor([[10.0, 0.0]]), torch.tensor([[14.0, 6.0, 9.0]])
    return {
        "neutral": head.neutral_pose(),
        "grimace": pose_of(head, weights_of(FACE)[None], gaze_deg=gaze, neck_deg=neck),
        "shut": pose_of(head, weights_of({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 0.7})[None]),
    }


def views(size: int = 256, azimuth_deg: list[float] | None = None) -> Cameras:
    return cameras_from_orbit(azimuth_deg or AZIMUTHS, 8.0, 1.75, 54.0, size, size, (0.0, 0.12, 0.0))


def there(control: LandmarkControl, posed: PosedHead, head: HeadModel, cameras: Cameras) -> Tensor:
    return control._draw_there(posed_landmarks(head, posed).points, posed.vertices, head, cameras)


@pytest.mark.parametrize(
    ("name", "size", "thickness_px", "pupil_px"), [("grimace", 256, 2.0, 4.0), ("shut", 128, 1.0, 2.0)]
)
def test_both_drawings_show_the_same(
    head: HeadModel, name: str, size: int, thickness_px: float, pupil_px: float
) -> None:
    control = LandmarkControl(size=size, thickness_px=thickness_px, pupil_px=pupil_px)
    posed, cameras = head(torch.tensor([0.0, 0.3, 0.0, 0.0]), poses(head)[name]), views(size)
    ours, theirs = there(control, posed, head, cameras), control.draw(posed, head, cameras)
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().mean()) < 0.002
    lit = (ours.amax(1) > 0) | (theirs.amax(1) > 0)
    assert int(lit.sum()) > 500
    assert float((ours - theirs).abs().amax(1)[lit].mean()) < 0.1
    assert float(ours.sum()) == pytest.approx(float(theirs.sum()), rel=0.1)
    assert not bool(theirs[-1].any()), "the back of the head is empty"
    assert not bool(ours[-1].any())


@pytest.mark.parametrize("name", ["grimace", "shut"])
def test_both_see_the_same_points(head: HeadModel, name: str) -> None:
    control = LandmarkControl(size=256, thickness_px=2.0, pupil_px=4.0)
    posed, cameras = head(torch.zeros(4), poses(head)[name]), views()
    pixels, depth = project(posed_landmarks(head, posed).points, cameras)
    lines = head.landmark_polylines
    buffer = rasterise_mesh(posed.vertices, head.faces, cameras).depth
    expected = control.visible(pixels, depth, buffer, lines)
    seen = control_torch.visible_points(
        *(posed.vertices, head.faces, cameras, pixels, depth, lines),
        tolerance=control.tolerance,
        pupil_tolerance=control.pupil_tolerance,
    )
    assert 0.2 < float(expected.float().mean()) < 0.8, "some must be hidden"
    assert float((seen == expected).float().mean()) > 0.998


def test_depths_are_those_of_the_z_buffer(head: HeadModel) -> None:
    posed, cameras = head(torch.zeros(4), poses(head)["grimace"]), views(48, [0.0, 60.0])
    grid = torch.stack(torch.meshgrid(torch.arange(48), torch.arange(48), indexing="xy"), -1) + 0.5
    pixels = grid.reshape(1, -1, 2).expand(len(cameras), -1, -1)
    found = control_torch.surface_depths(posed.vertices, head.faces, cameras, pixels, faces_at_once=3000)
    buffer = rasterise_mesh(posed.vertices, head.faces, cameras).depth.flatten(1)
    hit = torch.isfinite(buffer)
    assert 0.2 < float(hit.float().mean()) < 0.9
    assert float(((found < control_torch.FAR) == hit).float().mean()) > 0.999, "but for pixels right on an edge"
    both = hit & (found < control_torch.FAR)
    assert float(((found - buffer)[both].abs() < 1e-4).float().mean()) > 0.999


def test_triangles_that_reach_behind_the_camera_are_dropped_as_in_the_z_buffer() -> None:
    vertices = torch.tensor([[[-9.0, -9.0, -1.0], [9.0, -9.0, -1.0], [0.0, 9.0, -1.0], [0.0, 0.0, 9.0]]])
    cameras = views(16, [0.0])
    centre = torch.full((1, 1, 2), 8.5)
    behind = torch.tensor([[0, 1, 2], [0, 1, 3]])
    near = control_torch.surface_depths(vertices, behind, cameras, centre)
    assert 2.0 < float(near) < 3.5
    flat = torch.tensor([[0, 1, 1]])
    assert float(control_torch.surface_depths(vertices, flat, cameras, centre)) == pytest.approx(control_torch.FAR)


@pytest.mark.parametrize("angle_deg", [0.0, 90.0, 180.0, 23.0, 45.0, -70.0])
@pytest.mark.parametrize("thickness_px", [0.6, 1.0, 2.0, 5.0])
def test_a_line_covers_its_length_times_its_width(angle_deg: float, thickness_px: float) -> None:
    """Joined from three segments, so that a seam or a doubled joint would show."""
    along = torch.tensor([math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))])
    places = torch.tensor([0.0, 5.3, 11.9, 17.4])
    pixels = (torch.tensor([31.7, 30.2]) + (places[:, None] - 8.0) * along)[None]
    picture = draw(pixels, (("lips_outer", 0, 4, False),), thickness_px=thickness_px)
    share = picture.sum() * 255 / sum(COLORS["lips_outer"])
    straight = angle_deg % 90 == 0
    assert float(share) == pytest.approx(17.4 * thickness_px, rel=1e-4 if straight else 0.02)
    assert float(picture[0, 1].max()) <= 180 / 255 + 1e-6


def draw(pixels: Tensor, lines: control_torch.Polylines, visible: Tensor | None = None, **sizes: float) -> Tensor:
    seen = torch.ones(pixels.shape[:2], dtype=torch.bool) if visible is None else visible
    sizes = {"thickness_px": 2.0, "pupil_px": 4.0, **sizes}
    return control_torch.draw_lines(pixels, seen, lines, COLORS, views(64, [0.0]), **sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize("side", [1.0, 3.0, 4.0])
def test_a_pupil_is_a_square(side: float) -> None:
    picture = draw(torch.tensor([[[20.3, 40.8]]]), (("left_pupil", 0, 1, False),), pupil_px=side)
    assert float(picture[0, 2].sum()) == pytest.approx(side * side * 250 / 255, rel=1e-4)
    rows = picture[0, 2].sum(1)
    centre = float((rows * (torch.arange(64) + 0.5)).sum() / rows.sum())
    assert centre == pytest.approx(40.8, abs=1e-3)


def test_later_lines_lie_over_earlier_ones() -> None:
    pixels = torch.tensor([[[10.0, 30.0], [50.0, 30.0], [30.0, 10.0], [30.0, 50.0]]])
    lines = (("lips_outer", 0, 2, False), ("left_eye", 2, 4, False))
    picture = draw(pixels, lines, thickness_px=4.0)[0, :, 29, 29] * 255
    assert picture.round().tolist() == list(COLORS["left_eye"])
    picture = draw(pixels, (("lips_outer", 0, 2, False),), thickness_px=4.0)[0, :, 29, 29] * 255
    assert picture.round().tolist() == list(COLORS["lips_outer"])


def test_a_segment_needs_both_its_ends() -> None:
    pixels = torch.tensor([[[10.0, 30.5], [30.0, 30.5], [50.0, 30.5]]])
    line = (("lips_outer", 0, 3, False),)
    half = draw(pixels, line, torch.tensor([[True, True, False]]))[0, 1, 30]
    assert float(half[20]) > 0.6
    assert float(half[40]) == 0.0
    assert not bool(draw(pixels, line, torch.tensor([[True, False, True]])).any())
    closed = draw(pixels, (("lips_outer", 0, 3, True),), torch.tensor([[True, False, True]]))
    assert bool(closed.any()), "a closed line returns to its first point"


def test_on_a_device_it_is_drawn_there_and_waits_for_nothing(head: HeadModel) -> None:
    meta = torch.device("meta")
    control = LandmarkControl(size=64, thickness_px=2.0, pupil_px=4.0)
    posed = head(torch.zeros(4), head.neutral_pose())
    body, moved, cameras = posed.to(meta), load_anny(num_shape=4).to(meta), views(64).to(meta)
    control.draw(body, moved, cameras)  # the plan of the lines is moved and kept
    with no_waiting():
        picture = control.draw(body, moved, cameras)
    assert picture.device == meta
    assert picture.shape == (len(AZIMUTHS), 3, 64, 64)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_draws_what_the_cpu_draws(head: HeadModel) -> None:
    control = LandmarkControl(size=512, thickness_px=2.0, pupil_px=4.0)
    posed, cameras = head(torch.zeros(4), poses(head)["grimace"]), views(1024)
    on_gpu = load_anny(num_shape=4).to("cuda")
    ours = control.draw(posed.to("cuda"), on_gpu, cameras.to("cuda")).cpu()
    torch.testing.assert_close(ours, there(control, posed, head, cameras), atol=1e-3, rtol=0)
    assert float((ours - control.draw(posed, head, cameras)).abs().mean()) < 0.001
    assert resized(cameras, 512).height == ours.shape[-2]
