"""Oracles: hand-placed cameras, round trips, the definition of a field of view, the statistics of the sampler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headstudio.camera import (
    CameraSampler,
    cameras_from_orbit,
    intrinsics_from_fov,
    look_at,
    project,
    ring,
    select,
    unproject,
    wrap_degrees,
)
from headstudio.errors import UserError

PAPER: dict[str, Any] = {
    "batch_size": 8,
    "width": 64,
    "height": 48,
    "distance_range": [1.5, 2.0],
    "fovy_deg_range": [40, 70],
    "elevation_deg_range": [-30, 30],
    "narrow_elevation_fraction": 0.0,
    "azimuth_deg_range": [-180, 180],
    "stratified_azimuth": True,
    "front_fraction": 0.0,
    "front_azimuth_deg_range": [-45, 45],
    "target": [0.0, 0.0, 0.0],
    "target_jitter": 0.0,
}


def draw(steps: int = 1, **changes: Any) -> list[Any]:
    generator = torch.Generator().manual_seed(7)
    sampler = CameraSampler(**(PAPER | changes))
    return [sampler(step, generator) for step in range(steps)]


def test_front_camera_sees_the_subjects_left_on_its_right() -> None:
    cameras = cameras_from_orbit(0.0, 0.0, 2.0, 90.0, 100, 100)
    points = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    pixels, depth = project(points, cameras)
    # At distance 2 and a 90 degree field the picture is 4 units high: one unit is 25 pixels.
    assert torch.allclose(pixels[0, :3], torch.tensor([[50.0, 50.0], [75.0, 50.0], [50.0, 25.0]]), atol=1e-4)
    assert torch.allclose(depth[0], torch.tensor([2.0, 2.0, 2.0, 1.0]), atol=1e-5)


def test_azimuth_moves_towards_positive_x_and_elevation_up() -> None:
    cameras = cameras_from_orbit([90.0, 0.0, 180.0], [0.0, 60.0, 0.0], 1.5, 50.0, 10, 10)
    rotation, translation = cameras.camera_from_world[:, :3, :3], cameras.camera_from_world[:, :3, 3]
    centres = -(rotation.mT @ translation[..., None])[..., 0]
    expected = torch.tensor([[1.5, 0.0, 0.0], [0.0, 1.5 * 3**0.5 / 2, 0.75], [0.0, 0.0, -1.5]])
    assert torch.allclose(centres, expected, atol=1e-5)


@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(0.5, 5), st.floats(5, 150), st.integers(0, 2**31 - 1))
@settings(max_examples=60, deadline=None)
def test_look_at_is_a_rotation_and_projection_inverts(az: float, el: float, far: float, fov: float, seed: int) -> None:
    cameras = cameras_from_orbit(az, el, far, fov, 64, 48).to(dtype=torch.float64)
    rotation = cameras.camera_from_world[0, :3, :3]
    assert torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-5)
    assert torch.linalg.det(rotation).item() == pytest.approx(1.0, abs=1e-5)
    middle, depth = project(torch.zeros(1, 1, 3, dtype=torch.float64), cameras)
    assert depth.item() == pytest.approx(far, rel=1e-5)
    assert torch.allclose(middle[0, 0], torch.tensor([32.0, 24.0], dtype=torch.float64), atol=1e-3)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(1, 7, 2, generator=generator, dtype=torch.float64) * 64
    depth = torch.rand(1, 7, generator=generator, dtype=torch.float64) * 3 + 0.2
    seen, again = project(unproject(pixels, depth, cameras), cameras)
    assert torch.allclose(seen, pixels, atol=1e-3)
    assert torch.allclose(again, depth, atol=1e-5)


def test_world_up_is_never_down_in_the_picture() -> None:
    cameras = cameras_from_orbit(torch.linspace(-180, 180, 25), 89.0, 2.0, 50.0, 10, 10)
    assert bool((cameras.camera_from_world[:, 1, 1] < 0).all())


def test_straight_down_is_finite() -> None:
    pose = look_at(torch.tensor([[0.0, 2.0, 0.0]]), torch.zeros(1, 3))
    assert torch.allclose(pose[0, :3, :3] @ pose[0, :3, :3].T, torch.eye(3), atol=1e-6)


def test_field_of_view_reaches_the_edges_of_the_picture() -> None:
    """A ray at half the field of view meets the lower edge, y = height, half a pixel below the last centre."""
    intrinsics = intrinsics_from_fov(torch.tensor([50.0]), 30, 20)[0]
    ray = torch.tensor([0.0, torch.tan(torch.deg2rad(torch.tensor(25.0))).item(), 1.0])
    assert (intrinsics @ ray)[1].item() == pytest.approx(20.0, abs=1e-4)
    # A 1x1 picture has its only pixel centre on the axis, at (0.5, 0.5): gsplat's convention.
    assert intrinsics_from_fov(torch.tensor([50.0]), 1, 1)[0, :2, 2].tolist() == [0.5, 0.5]


def test_one_pose_serves_every_camera_or_each_has_its_own() -> None:
    cameras = ring(3, elevation_deg=10.0, distance=1.7, fovy_deg=60.0, width=32, height=32)
    points = torch.rand(3, 5, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    pixels, depth = project(points, cameras)
    for i in range(3):
        alone, z = project(points[i : i + 1], select(cameras, i))
        assert torch.allclose(alone[0], pixels[i])
        assert torch.allclose(z[0], depth[i])
    assert project(points[:1], cameras)[0].shape == (3, 5, 2)


def test_ring_is_even_and_starts_in_front() -> None:
    cameras = ring(8, elevation_deg=15.0, distance=1.7, fovy_deg=60.0, width=32, height=32)
    assert cameras.azimuth_deg.tolist() == [0.0, 45.0, 90.0, 135.0, 180.0, -135.0, -90.0, -45.0]
    assert len(select(cameras, slice(2, 5))) == 3


@given(st.floats(-2000, 2000, width=32))
def test_wrapping_keeps_the_direction(angle: float) -> None:
    wrapped = wrap_degrees(torch.tensor([angle]))
    assert -180.0 < wrapped.item() <= 180.0
    turn = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
    assert torch.allclose(torch.deg2rad(wrapped.double()).cos(), turn.cos(), atol=1e-4)


def test_sampler_covers_its_ranges_uniformly_in_angle() -> None:
    batches = draw(steps=400)
    elevation = torch.cat([c.elevation_deg for c in batches])
    assert elevation.abs().max() <= 30.0
    # Uniform on [-30, 30]: standard deviation 60/sqrt(12) = 17.3; a third lies beyond 20 degrees.
    assert elevation.std().item() == pytest.approx(17.3, abs=0.5)
    assert (elevation.abs() > 20).float().mean().item() == pytest.approx(1 / 3, abs=0.03)
    distance = torch.cat([torch.linalg.vector_norm(c.camera_from_world[:, :3, 3], dim=-1) for c in batches])
    assert (distance - 1.75).abs().max() <= 0.251
    focal = torch.cat([c.intrinsics[:, 1, 1] for c in batches])
    fovy = torch.rad2deg(2 * torch.atan(24.0 / focal))
    assert (fovy - 55.0).abs().max() <= 15.01
    assert fovy.mean().item() == pytest.approx(55.0, abs=0.6)


def test_the_official_elevations_are_a_mixture_of_two_laws() -> None:
    """Half of the batches uniform in angle within 30 degrees, half uniform in sine within a third."""
    batches = torch.stack([c.elevation_deg for c in draw(steps=2000, narrow_elevation_fraction=0.5)])
    wide = batches.abs().amax(1) > 19.4712206  # asin(1/3); a uniform batch of 8 stays within it once in 32
    assert wide.float().mean().item() == pytest.approx(0.5 * (1 - (19.4712 / 30) ** 8), abs=0.04)
    narrow = torch.cat([c.elevation_deg for c in draw(steps=500, narrow_elevation_fraction=1.0)])
    assert narrow.abs().max().item() == pytest.approx(19.47, abs=0.05)
    sine = torch.sin(torch.deg2rad(narrow.double())).sort().values  # uniform: its quantiles are a straight line
    assert torch.allclose(sine, torch.linspace(-1 / 3, 1 / 3, len(sine), dtype=torch.float64), atol=0.02)


def test_the_papers_elevations_draw_nothing_more() -> None:
    """Without narrow batches the generator is where it always was, so that finished runs stay what they are."""
    one, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    CameraSampler(**PAPER)(0, one)
    torch.rand(3 * 8 + 8 * 3 + 8, generator=other)
    assert torch.rand(3, generator=one).tolist() == torch.rand(3, generator=other).tolist()


def test_stratified_batches_see_every_side() -> None:
    for cameras in draw(steps=20):
        strata = torch.floor((cameras.azimuth_deg + 180.0) / 45.0).clamp(0, 7).long()
        assert sorted(strata.tolist()) == list(range(8))


def test_front_fraction_may_follow_the_step() -> None:
    in_front = [
        (c.azimuth_deg.abs() <= 45.0).float().mean().item()
        for c in draw(steps=2, batch_size=400, front_fraction=lambda step: [0.0, 0.8][step])
    ]
    assert in_front[0] == pytest.approx(0.25, abs=0.01)
    assert in_front[1] == pytest.approx(0.8 + 0.2 * 0.25, abs=0.01)


def test_target_jitter_moves_the_target_only_so_far() -> None:
    still, moved = (draw(batch_size=200, target_jitter=jitter)[0] for jitter in (0.0, 0.05))
    positions = [-(c.camera_from_world[:, :3, :3].mT @ c.camera_from_world[:, :3, 3:])[..., 0] for c in (still, moved)]
    shift = (positions[1] - positions[0]).abs()
    assert shift.max() <= 0.05 + 1e-5
    assert shift.mean().item() == pytest.approx(0.025, abs=0.005)


def test_same_generator_same_cameras() -> None:
    assert torch.equal(draw()[0].camera_from_world, draw()[0].camera_from_world)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fovy_deg_range", [40, 180]),
        ("distance_range", [2.0, 1.5]),
        ("distance_range", [0.0, 1.5]),
        ("elevation_deg_range", [-95, 0]),
        ("azimuth_deg_range", [10]),
        ("batch_size", 0),
        ("front_fraction", 1.5),
        ("narrow_elevation_fraction", -0.5),
        ("target_jitter", -0.1),
    ],
)
def test_bad_values_are_named(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"camera.{key}="):
        CameraSampler(**(PAPER | {key: value}))
