"""Close views of the eyes and the mouth among the views of the whole head (AnimPortrait3D, SIGGRAPH 2025).

At a prior's picture size an iris or a lip is a few pixels; a close view gives it as many as the head has elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from headstudio.camera import CameraSampler, cameras_from_orbit
from headstudio.errors import UserError
from headstudio.types import Cameras

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Region:
    """What a close view shows: aimed at `target` (world units, of the head at rest), `fovy_deg_range` tall."""

    target: Sequence[float]
    fovy_deg_range: Sequence[float]


class CropSampler:
    """Some views of every batch come close to a region of the face; the rest are another sampler's.

    A close view keeps the distance of the view it replaces and narrows the field of view, so nothing but the framing
    changes. `Cameras.crops` names its region; the prompts then say what it shows.

    Args:
        views: draws the views of the whole head.
        crop_fraction: chance of each view to become a close one, in [0, 1].
        azimuth_deg_range, elevation_deg_range: from where a face's features can be seen.
        target_jitter: a close view's target moves uniformly by up to this much along each axis, world units.
        regions: by name; each is as likely.

    Raises:
        UserError: for a value out of its range, no region, a field of view outside (0, 180) degrees.
    """

    def __init__(
        self,
        *,
        views: CameraSampler,
        crop_fraction: float,
        azimuth_deg_range: Sequence[float],
        elevation_deg_range: Sequence[float],
        target_jitter: float,
        regions: Mapping[str, Region],
    ) -> None:
        if not 0.0 <= crop_fraction <= 1.0:
            raise UserError(f"camera.crop_fraction={crop_fraction} must lie between 0 and 1.")
        if not regions:
            raise UserError("camera.regions names no region; name at least one, as conf/camera/crops.yaml does.")
        for name, region in regions.items():
            low, high = region.fovy_deg_range
            if not 0.0 < low <= high < 180.0:
                raise UserError(
                    f"camera.regions.{name}.fovy_deg_range={list(region.fovy_deg_range)} must be [low, high] with "
                    "low <= high, both between 0 and 180."
                )
        self.views, self.crop_fraction, self.target_jitter = views, crop_fraction, target_jitter
        self.azimuth_deg_range, self.elevation_deg_range = azimuth_deg_range, elevation_deg_range
        self.names = tuple(regions)
        self.targets = torch.tensor([[float(v) for v in region.target] for region in regions.values()])
        self.fovys_deg = torch.tensor([[float(v) for v in region.fovy_deg_range] for region in regions.values()])

    def __call__(self, step: int, generator: torch.Generator) -> Cameras:
        """The cameras of `views`, on the CPU, some of them moved close; `generator` is all that they depend on."""
        whole = self.views(step, generator)
        count = len(whole)
        chosen, azimuth, elevation, fovy = torch.rand(4, count, generator=generator)
        jitter = (2.0 * torch.rand(count, 3, generator=generator) - 1.0) * self.target_jitter
        region = torch.randint(len(self.names), (count,), generator=generator)
        position = -(whole.camera_from_world[:, :3, :3].mT @ whole.camera_from_world[:, :3, 3:])[..., 0]
        target = torch.tensor(self.views.target)
        close = cameras_from_orbit(
            _between(torch.tensor(self.azimuth_deg_range), azimuth),
            _between(torch.tensor(self.elevation_deg_range), elevation),
            torch.linalg.vector_norm(position - target, dim=-1),
            _between(self.fovys_deg[region].mT, fovy),
            whole.width,
            whole.height,
            self.targets[region] + jitter,
        )
        return _mixed(whole, close, chosen < self.crop_fraction, [self.names[i] for i in region.tolist()])


def _mixed(whole: Cameras, close: Cameras, is_close: Tensor, names: Sequence[str]) -> Cameras:
    """`close` where `is_close`, else `whole`."""

    def take(one: Tensor, other: Tensor) -> Tensor:
        return torch.where(is_close.reshape(-1, *[1] * (one.ndim - 1)), one, other)

    return replace(
        whole,
        camera_from_world=take(close.camera_from_world, whole.camera_from_world),
        intrinsics=take(close.intrinsics, whole.intrinsics),
        azimuth_deg=take(close.azimuth_deg, whole.azimuth_deg),
        elevation_deg=take(close.elevation_deg, whole.elevation_deg),
        crops=tuple(name if near else "" for name, near in zip(names, is_close.tolist(), strict=True)),
    )


def _between(bounds: Float[Tensor, "2 *B"], unit: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    return bounds[0] + (bounds[1] - bounds[0]) * unit
