"""How fast an avatar is drawn."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from headstudio.camera import ring, select
from headstudio.device import wait_for
from headstudio.evaluate import Judgement

if TYPE_CHECKING:
    from headstudio.render import SceneRenderer


class Speed:
    """Frames per second of posing and drawing, one picture at a time, and the number of Gaussians.

    Protocol: `views` cameras all around the head at rest, each posed and drawn on its own after one unmeasured
    picture; the median of the seconds per picture counts, so a busy moment of the machine does not.

    Args:
        width, height: of the pictures, pixels.
        views: how many pictures.
        distance: of the cameras, world units.
        fovy_deg: their vertical field of view.
    """

    def __init__(self, *, width: int, height: int, views: int, distance: float, fovy_deg: float) -> None:
        around = ring(views, elevation_deg=0.0, distance=distance, fovy_deg=fovy_deg, width=width, height=height)
        self.cameras = [select(around, index) for index in range(views)]

    @torch.no_grad()
    def __call__(self, avatar: Any, renderer: SceneRenderer, prompt: str) -> Judgement:
        """{"gaussians": N, "render_fps": ...}; a mesh has 0 Gaussians."""
        device = avatar.head.v_template.device
        pose = avatar.head.neutral_pose().to(device)
        seconds = []
        for cameras in [self.cameras[0], *self.cameras]:
            start = time.perf_counter()
            _, _, gaussians = avatar.pose(pose)
            renderer(gaussians, cameras.to(device), torch.zeros(3, device=device))
            wait_for(device)
            seconds.append(time.perf_counter() - start)
        fps = 1.0 / float(torch.tensor(seconds[1:]).median())
        return Judgement({"gaussians": float(avatar.num_gaussians), "render_fps": round(fps, 2)})
