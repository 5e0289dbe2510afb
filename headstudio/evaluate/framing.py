"""How metrics look at an avatar: from which cameras, on which background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from headstudio.camera import cameras_from_orbit

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.render import SceneRenderer
    from headstudio.types import Cameras, Pose, Render


@dataclass(frozen=True, kw_only=True)
class Framing:
    """One framing for all pictures of a metric.

    Args:
        width, height: of the pictures, pixels.
        distance, fovy_deg, target: of the cameras (world units, degrees, world units).
        background: RGB in [0, 1].
    """

    width: int
    height: int
    distance: float
    fovy_deg: float
    target: Sequence[float]
    background: Sequence[float]

    def cameras(self, azimuth_deg: Sequence[float], elevation_deg: Sequence[float] | float) -> Cameras:
        """One camera per azimuth."""
        return cameras_from_orbit(
            list(azimuth_deg), elevation_deg, self.distance, self.fovy_deg, self.width, self.height, self.target
        )

    @torch.no_grad()
    def photograph(
        self,
        avatar: Any,
        renderer: SceneRenderer,
        pose: Pose,
        cameras: Cameras,
        *,
        colors: Float[Tensor, "N 3"] | None = None,
        background: Sequence[float] | None = None,
    ) -> Render:
        """The avatar at one pose, seen by each camera.

        Args:
            avatar: a representation with `pose(pose)` and `head`.
            renderer: draws it.
            pose: one (P = 1).
            cameras: from `cameras`.
            colors: in place of the avatar's own, one for each Gaussian (of a mesh: vertex), RGB in [0, 1]; any quantity
                that a pixel should average can be one.
            background: in place of the framing's.
        """
        device = avatar.head.v_template.device
        scene = avatar.pose(pose.to(device))[2]
        if colors is not None:
            scene = scene.painted(colors.to(device))
        behind = torch.tensor([float(v) for v in background or self.background], device=device)
        return renderer(scene, cameras.to(device), behind)
