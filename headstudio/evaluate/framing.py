"""How metrics look at an avatar: from which cameras, on which background."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from headstudio.camera import cameras_from_orbit
from headstudio.evaluate import Judgement
from headstudio.motion.evaluation import evaluation_poses

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.motion import Controls
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


class Views:
    """From where a metric looks at the evaluation poses: rest from all around, the others from fewer sides.

    Args:
        framing: of the pictures.
        elevation_deg: of the cameras.
        rest_azimuths_deg, motion_azimuths_deg: at rest, and at each of the other poses (none: only rest is judged).
    """

    def __init__(
        self,
        *,
        framing: Framing,
        elevation_deg: float,
        rest_azimuths_deg: Sequence[float],
        motion_azimuths_deg: Sequence[float],
    ) -> None:
        self.framing = framing
        self.rest = framing.cameras(rest_azimuths_deg, elevation_deg)
        self.motion = framing.cameras(motion_azimuths_deg, elevation_deg)

    def judged(self, name: str, head: Controls, per_view: Callable[[Pose, Cameras], Sequence[float]]) -> Judgement:
        """The score `name` at rest and `name`_motion over the other poses: means over views, then poses.

        Args:
            name: of the score at rest.
            head: whose poses.
            per_view: one value per camera, at one pose.
        """
        found: dict[str, list[float]] = {}
        for pose_name, pose in evaluation_poses(head).items():
            cameras = self.rest if pose_name == "rest" else self.motion
            if len(cameras):
                found[pose_name] = [round(value, 5) for value in per_view(pose, cameras)]
        means = {pose_name: sum(values) / len(values) for pose_name, values in found.items()}
        scores = {name: round(means.pop("rest"), 5)}
        if means:
            scores[f"{name}_motion"] = round(sum(means.values()) / len(means), 5)
        return Judgement(scores, found)
