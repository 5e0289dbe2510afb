"""The pictures of a finished avatar: a turntable, a film of it talking, and a grid of views and expressions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from headstudio.camera import cameras_from_orbit, ring, select
from headstudio.errors import UserError
from headstudio.export.pictures import viewing_factor, write_grid
from headstudio.export.video import write_mp4
from headstudio.motion.evaluation import evaluation_poses
from headstudio.types import Cameras, Pose

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.motion import Motion
    from headstudio.render import SceneRenderer
    from headstudio.runstate import RunPaths

VIEWS: dict[str, float] = {"front": 0.0, "45 left": 45.0, "left": 90.0, "back": 180.0, "right": -90.0}
"""Columns of the grid: the subject's own left and right, as azimuths in degrees."""


class Gallery:
    """Renders what a person looks at when a run ends. Nothing here changes the avatar.

    Args:
        width, height: of one rendered picture, pixels.
        seconds: of both films; the turntable makes one turn in that time.
        fps: of both films.
        background: RGB in [0, 1]; None is white.
        distance, fovy_deg, elevation_deg, target: the framing, wider than training so that afros and top hats fit.
        sway_deg: how far the camera of the talking film swings to both sides.
        viewing_size: smaller pictures are enlarged by a whole factor to at least this many pixels.
        chunk: pictures rendered at once, for speed and memory only.

    Raises:
        UserError: if a size, the seconds or the frame rate is not positive.
    """

    def __init__(
        self,
        *,
        width: int,
        height: int,
        seconds: float,
        fps: float,
        background: Sequence[float] | None = None,
        distance: float = 1.85,
        fovy_deg: float = 68.0,
        elevation_deg: float = 6.0,
        target: Sequence[float] = (0.0, 0.05, 0.0),
        sway_deg: float = 15.0,
        viewing_size: int = 256,
        chunk: int = 8,
    ) -> None:
        for name, value in (("width", width), ("height", height), ("seconds", seconds), ("fps", fps)):
            if value <= 0:
                raise UserError(f"gallery.{name}={value} must be more than 0.")
        self.width, self.height, self.seconds, self.fps = width, height, seconds, fps
        self.background = torch.tensor([float(v) for v in background or (1.0, 1.0, 1.0)])
        self.distance, self.fovy_deg, self.elevation_deg, self.sway_deg = distance, fovy_deg, elevation_deg, sway_deg
        self.target = tuple(target)
        self.factor = viewing_factor(min(width, height), viewing_size)
        self.chunk = chunk

    def __call__(
        self, avatar: Any, renderer: SceneRenderer, motion: Motion, paths: RunPaths, generator: torch.Generator
    ) -> dict[str, Path]:
        """Write turntable.mp4, animation.mp4 and grid.png; returns where they lie.

        Args:
            avatar: a representation with `pose(pose)` and `head`.
            renderer: what trained it, or another.
            motion: its sequence is the film; the neutral pose (`motion=none`) makes a still one.
            paths: the run's directory.
            generator: decides the film.
        """
        files = {"turntable": paths.turntable, "animation": paths.animation, "grid": paths.grid}
        self.write_grid(avatar, renderer, files["grid"])
        write_mp4(self.turntable(avatar, renderer), files["turntable"], self.fps, factor=self.factor)
        film = self.animation(avatar, renderer, motion, generator)
        write_mp4(film, files["animation"], self.fps, factor=self.factor)
        return files

    @property
    def num_frames(self) -> int:
        return max(1, round(self.seconds * self.fps))

    def turntable(self, avatar: Any, renderer: SceneRenderer) -> Iterator[Float[Tensor, "3 H W"]]:
        """One turn of the camera around the neutral head, as pictures in [0, 1]; it moves to the subject's left."""
        cameras = ring(
            self.num_frames,
            elevation_deg=self.elevation_deg,
            distance=self.distance,
            fovy_deg=self.fovy_deg,
            width=self.width,
            height=self.height,
            target=self.target,
        )
        return self.pictures(avatar, renderer, cameras, avatar.head.neutral_pose())

    def animation(
        self, avatar: Any, renderer: SceneRenderer, motion: Motion, generator: torch.Generator
    ) -> Iterator[Float[Tensor, "3 H W"]]:
        """The head talking while the camera swings once to both sides."""
        pose = motion.sequence(self.num_frames / self.fps, self.fps, generator)
        return self.film(avatar, renderer, pose, self.num_frames)

    def film(
        self, avatar: Any, renderer: SceneRenderer, pose: Pose, swing_frames: int
    ) -> Iterator[Float[Tensor, "3 H W"]]:
        """Given poses, one a frame, while the camera swings to both sides once in so many frames."""
        turn = 2.0 * torch.pi * torch.arange(len(pose)) / swing_frames
        return self.pictures(avatar, renderer, self._cameras(self.sway_deg * torch.sin(turn)), pose)

    def write_grid(self, avatar: Any, renderer: SceneRenderer, path: Path) -> None:
        """The evaluation poses in rows, `VIEWS` in columns."""
        poses = evaluation_poses(avatar.head)
        cameras = self._cameras(torch.tensor(list(VIEWS.values())))
        rows = [list(self.pictures(avatar, renderer, cameras, pose)) for pose in poses.values()]
        names = [name.replace("_", " ") for name in poses]
        write_grid(rows, path, row_labels=names, column_labels=list(VIEWS), factor=self.factor)

    @torch.no_grad()
    def pictures(
        self, avatar: Any, renderer: SceneRenderer, cameras: Cameras, pose: Pose
    ) -> Iterator[Float[Tensor, "3 H W"]]:
        """The avatar seen by each camera in turn; one pose for all of them, or one each.

        The head is evaluated once per pose, `chunk` at a time.
        """
        device = avatar.head.v_template.device
        pose, cameras, background = pose.to(device), cameras.to(device), self.background.to(device)
        still = avatar.pose(pose)[2] if len(pose) == 1 else None
        for first in range(0, len(cameras), self.chunk):
            part = slice(first, first + self.chunk)
            scene = still or avatar.pose(Pose(expression=pose.expression[part], joints=pose.joints[part]))[2]
            yield from renderer(scene, select(cameras, part), background).rgb.cpu()

    def _cameras(self, azimuth_deg: Float[Tensor, " B"]) -> Cameras:
        return cameras_from_orbit(
            azimuth_deg, self.elevation_deg, self.distance, self.fovy_deg, self.width, self.height, self.target
        )
