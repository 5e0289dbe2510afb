"""Where pictures are taken from: look-at cameras, orbits, the training sampler and pinhole projection.

Frames are those of `headstudio.types`: the world has y up and the face looks along +z; cameras are OpenCV
(x right, y down, z forward) and the centre of the first pixel is (0.5, 0.5), as in gsplat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from headstudio.errors import UserError
from headstudio.types import Cameras

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def look_at(
    position: Float[Tensor, "B 3"], target: Float[Tensor, "B 3"], up: Sequence[float] = (0.0, 1.0, 0.0)
) -> Float[Tensor, "B 4 4"]:
    """The rigid `camera_from_world` of cameras at `position` that look at `target` (world units).

    A camera that looks straight along `up` has no defined roll; its picture's top is then turned towards -z.
    """
    forward = torch.nn.functional.normalize(target - position, dim=-1)
    upward = torch.tensor(up, dtype=position.dtype, device=position.device).expand_as(forward)
    spare = torch.tensor((0.0, 0.0, -1.0), dtype=position.dtype, device=position.device).expand_as(forward)
    side = torch.linalg.cross(forward, upward)
    vertical = torch.linalg.vector_norm(side, dim=-1, keepdim=True) < 1e-4
    right = torch.nn.functional.normalize(torch.where(vertical, torch.linalg.cross(forward, spare), side), dim=-1)
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack((right, down, forward), dim=-2)
    camera_from_world = torch.zeros(*position.shape[:-1], 4, 4, dtype=position.dtype, device=position.device)
    camera_from_world[..., :3, :3] = rotation
    camera_from_world[..., :3, 3] = -(rotation @ position[..., None])[..., 0]
    camera_from_world[..., 3, 3] = 1.0
    return camera_from_world


def intrinsics_from_fov(fovy_deg: Float[Tensor, " B"], width: int, height: int) -> Float[Tensor, "B 3 3"]:
    """Pinhole matrices in pixels: square pixels, the axis through the picture's middle (width/2, height/2).

    `fovy_deg` is the whole vertical angle from the upper edge of the picture to its lower edge.
    """
    focal = 0.5 * height / torch.tan(torch.deg2rad(fovy_deg) / 2)
    intrinsics = torch.zeros(len(fovy_deg), 3, 3, dtype=fovy_deg.dtype, device=fovy_deg.device)
    intrinsics[:, 0, 0] = focal
    intrinsics[:, 1, 1] = focal
    intrinsics[:, 0, 2] = width / 2
    intrinsics[:, 1, 2] = height / 2
    intrinsics[:, 2, 2] = 1.0
    return intrinsics


def wrap_degrees(angle_deg: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The same angle in (-180, 180]."""
    return 180.0 - torch.remainder(180.0 - angle_deg, 360.0)


def cameras_from_orbit(
    azimuth_deg: Float[Tensor, " B"] | Sequence[float] | float,
    elevation_deg: Float[Tensor, " B"] | Sequence[float] | float,
    distance: Float[Tensor, " B"] | Sequence[float] | float,
    fovy_deg: Float[Tensor, " B"] | Sequence[float] | float,
    width: int,
    height: int,
    target: Float[Tensor, "B 3"] | Sequence[float] = (0.0, 0.0, 0.0),
) -> Cameras:
    """Cameras on a sphere around `target` (world units) that look at it; single numbers serve all cameras.

    Azimuth 0 is in front of the face (on +z) and grows as the camera moves towards +x; elevation is positive
    above `target`. Angles are degrees, in any turn; the returned azimuth lies in (-180, 180].
    """
    given = (azimuth_deg, elevation_deg, distance, fovy_deg)
    device = next((v.device for v in (*given, target) if isinstance(v, torch.Tensor)), None)
    columns = (torch.atleast_1d(torch.as_tensor(v, dtype=torch.float32, device=device)) for v in given)
    azimuth, elevation, radius, fovy = torch.broadcast_tensors(*columns)
    around, above = torch.deg2rad(azimuth), torch.deg2rad(elevation)
    direction = torch.stack((above.cos() * around.sin(), above.sin(), above.cos() * around.cos()), dim=-1)
    centre = torch.as_tensor(target, dtype=torch.float32, device=azimuth.device).expand(len(azimuth), 3)
    return Cameras(
        camera_from_world=look_at(centre + radius[:, None] * direction, centre),
        intrinsics=intrinsics_from_fov(fovy, width, height),
        azimuth_deg=wrap_degrees(azimuth),
        elevation_deg=elevation.clone(),
        width=width,
        height=height,
    )


def ring(
    count: int,
    *,
    elevation_deg: float,
    distance: float,
    fovy_deg: float,
    width: int,
    height: int,
    target: Sequence[float] = (0.0, 0.0, 0.0),
) -> Cameras:
    """`count` cameras evenly all around, the first in front of the face: turntables and evaluation."""
    azimuth = torch.arange(count, dtype=torch.float32) * (360.0 / count)
    return cameras_from_orbit(azimuth, elevation_deg, distance, fovy_deg, width, height, target)


def select(cameras: Cameras, index: int | slice | Sequence[int]) -> Cameras:
    """The cameras at `index`, still as a batch."""
    chosen = [index] if isinstance(index, int) else index
    places = range(len(cameras))[chosen] if isinstance(chosen, slice) else chosen
    return replace(
        cameras,
        crops=tuple(cameras.crops[place] for place in places) if cameras.crops else (),
        camera_from_world=cameras.camera_from_world[chosen],
        intrinsics=cameras.intrinsics[chosen],
        azimuth_deg=cameras.azimuth_deg[chosen],
        elevation_deg=cameras.elevation_deg[chosen],
    )


def project(points: Float[Tensor, "P L 3"], cameras: Cameras) -> tuple[Float[Tensor, "B L 2"], Float[Tensor, "B L"]]:
    """World points to pixels (x, y) and camera-space depth (world units, positive in front); P is 1 or B.

    The pixels of a point behind its camera mean nothing: ask the depth first.
    """
    rotation, translation = cameras.camera_from_world[:, :3, :3], cameras.camera_from_world[:, :3, 3]
    in_camera = points @ rotation.mT + translation[:, None]
    depth = in_camera[..., 2]
    on_plane = in_camera / torch.where(depth.abs() < 1e-8, torch.full_like(depth, 1e-8), depth)[..., None]
    return (on_plane @ cameras.intrinsics.mT)[..., :2], depth


def unproject(pixels: Float[Tensor, "B L 2"], depth: Float[Tensor, "B L"], cameras: Cameras) -> Float[Tensor, "B L 3"]:
    """Pixels at a camera-space depth (world units) to world points: the inverse of `project`."""
    homogeneous = torch.cat((pixels, torch.ones_like(pixels[..., :1])), dim=-1)
    in_camera = homogeneous @ torch.linalg.inv(cameras.intrinsics).mT * depth[..., None]
    rotation, translation = cameras.camera_from_world[:, :3, :3], cameras.camera_from_world[:, :3, 3]
    return (in_camera - translation[:, None]) @ rotation


class CameraSampler:
    """Random training views on orbits around the head (paper, section 5.1: distance, fovy, elevation, azimuth).

    Every quantity is uniform in its own unit: elevation uniform in *angle*. The official code draws half of its
    batches through an inverse CDF that takes an angle for a sine, so that a range of 30 degrees becomes one of 19.5;
    `narrow_elevation_fraction` does the same.

    Args:
        batch_size: B, the views of one step.
        width, height: of the pictures, in pixels.
        distance_range: from the target, world units.
        fovy_deg_range: vertical field of view, inside (0, 180).
        elevation_deg_range: inside [-90, 90].
        narrow_elevation_fraction: share of the batches, in [0, 1], whose elevations e (degrees) become
            asin(e / 90). The paper's value is 0, the official code's 0.5 (uncond_rand_exp.py:217-241).
        azimuth_deg_range: 0 in front of the face, +90 at the subject's left.
        stratified_azimuth: divide the azimuths into B equal strata and draw one view in each, so that no step
            sees one side only (as the official code does).
        front_fraction: share of the views drawn from `front_azimuth_deg_range` instead of the whole range; a
            number in [0, 1] or a schedule `step -> number`. The paper's value is 0.
        front_azimuth_deg_range: what counts as front for `front_fraction`.
        target: the point looked at, world units.
        target_jitter: the target moves uniformly by up to this much along each axis, world units.

    Raises:
        UserError: for a range that is out of bounds or the wrong way round, naming its key.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        width: int,
        height: int,
        distance_range: Sequence[float],
        fovy_deg_range: Sequence[float],
        elevation_deg_range: Sequence[float],
        narrow_elevation_fraction: float,
        azimuth_deg_range: Sequence[float],
        stratified_azimuth: bool,
        front_fraction: float | Callable[[int], float],
        front_azimuth_deg_range: Sequence[float],
        target: Sequence[float],
        target_jitter: float,
    ) -> None:
        for name, size in (("batch_size", batch_size), ("width", width), ("height", height)):
            if size < 1:
                raise UserError(f"camera.{name}={size} must be at least 1.")
        if not callable(front_fraction) and not 0.0 <= front_fraction <= 1.0:
            raise UserError(f"camera.front_fraction={front_fraction} must lie between 0 and 1.")
        if not 0.0 <= narrow_elevation_fraction <= 1.0:
            raise UserError(f"camera.narrow_elevation_fraction={narrow_elevation_fraction} must lie between 0 and 1.")
        if target_jitter < 0.0:
            raise UserError(f"camera.target_jitter={target_jitter} must not be negative.")
        self.batch_size, self.width, self.height = batch_size, width, height
        self.distance_range = _checked("distance_range", distance_range, 1e-3, math.inf)
        self.fovy_deg_range = _checked("fovy_deg_range", fovy_deg_range, 0.1, 179.0)
        self.elevation_deg_range = _checked("elevation_deg_range", elevation_deg_range, -90.0, 90.0)
        self.azimuth_deg_range = _checked("azimuth_deg_range", azimuth_deg_range, -360.0, 360.0)
        self.front_azimuth_deg_range = _checked("front_azimuth_deg_range", front_azimuth_deg_range, -360.0, 360.0)
        self.stratified_azimuth = stratified_azimuth
        self.front_fraction = front_fraction
        self.narrow_elevation_fraction = narrow_elevation_fraction
        self.target = tuple(float(v) for v in target)
        self.target_jitter = target_jitter

    def __call__(self, step: int, generator: torch.Generator) -> Cameras:
        """B fresh cameras, on the CPU; `generator` is a CPU generator and is all that they depend on, with `step`."""
        elevation, distance, fovy = torch.rand(3, self.batch_size, generator=generator)
        jitter = (2.0 * torch.rand(self.batch_size, 3, generator=generator) - 1.0) * self.target_jitter
        return cameras_from_orbit(
            self._azimuths(step, generator),
            self._elevations(elevation, generator),
            _between(self.distance_range, distance),
            _between(self.fovy_deg_range, fovy),
            self.width,
            self.height,
            torch.tensor(self.target) + jitter,
        )

    def _elevations(self, unit: Float[Tensor, " B"], generator: torch.Generator) -> Float[Tensor, " B"]:
        """Uniform in angle; a batch that is drawn to be narrow through the official code's inverse CDF."""
        elevation = _between(self.elevation_deg_range, unit)
        share = self.narrow_elevation_fraction
        if share and float(torch.rand((), generator=generator)) < share:
            return torch.rad2deg(torch.asin(elevation / 90.0))
        return elevation

    def _azimuths(self, step: int, generator: torch.Generator) -> Float[Tensor, " B"]:
        """A share of the unit interval stands for the front, the rest for the whole circle."""
        unit = torch.rand(self.batch_size, generator=generator)
        if self.stratified_azimuth:
            unit = (torch.arange(self.batch_size) + unit) / self.batch_size
        front = self.front_fraction(step) if callable(self.front_fraction) else self.front_fraction
        from_front = _between(self.front_azimuth_deg_range, unit / max(front, 1e-12))
        from_anywhere = _between(self.azimuth_deg_range, (unit - front) / max(1.0 - front, 1e-12))
        return torch.where(unit < front, from_front, from_anywhere)


def _between(bounds: tuple[float, float], unit: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * unit


def _checked(name: str, bounds: Sequence[float], lowest: float, highest: float) -> tuple[float, float]:
    """The range as two floats; wrong ones are the user's to mend."""
    shown = list(bounds)
    if len(shown) != 2 or not lowest <= shown[0] <= shown[1] <= highest:
        limits = f"at least {lowest:g}" if highest == math.inf else f"between {lowest:g} and {highest:g}"
        raise UserError(f"camera.{name}={shown} must be [low, high] with low <= high, both {limits}.")
    return float(shown[0]), float(shown[1])
