"""The facial-landmark picture that conditions the ControlNet (paper, section 4.3, map C).

Drawn with the very cameras that render the avatar, so a landmark and a Gaussian of the same vertex fall on the
same pixel (the official code draws a mirror image, and draws the face also on the back of the head).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from headstudio.camera import project
from headstudio.head.landmarks import posed_landmarks
from headstudio.render.mesh import rasterise_mesh
from headstudio.types import Cameras, PosedHead

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from headstudio.head.model import HeadModel

# Colours of CrucibleAI/ControlNetMediaPipeFace as they stand in the final RGB picture; the subject's own sides.
COLORS = {
    "face_oval": (10, 200, 10),
    "lips_outer": (10, 180, 10),
    "lips_inner": (10, 180, 10),
    "right_eye": (180, 200, 10),
    "right_brow_upper": (180, 220, 10),
    "right_brow_lower": (180, 220, 10),
    "right_pupil": (250, 200, 10),
    "left_eye": (10, 200, 180),
    "left_brow_upper": (10, 220, 180),
    "left_brow_lower": (10, 220, 180),
    "left_pupil": (10, 200, 250),
}


def resized(cameras: Cameras, height: int) -> Cameras:
    """The same views at another picture height (pixels), aspect kept."""
    ratio = height / cameras.height
    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, :2] *= ratio
    return replace(cameras, intrinsics=intrinsics, height=height, width=round(cameras.width * ratio))


class Control(Protocol):
    """One option of the group `control`: draws the head that a ControlNet is shown.

    Attributes:
        channels: of its pictures.
    """

    channels: int

    def draw(self, posed: PosedHead, head: HeadModel, cameras: Cameras) -> Float[Tensor, "B channels h w"]:
        """The control pictures in [0, 1] of a posed head (one pose, or one per camera), without gradient."""
        ...


class LandmarkControl:
    """Draws visible landmark lines and pupils on black.

    Args:
        size: height of the control picture in pixels.
        thickness_px: width of the lines.
        pupil_px: side of the filled square at a pupil.
        tolerance: world units by which a point may lie behind the surface and still count as seen (lids and
            lips have thin edges). Pupils, which a closed lid hides closely, get `pupil_tolerance`.
        supersample: lines are drawn this many times larger and averaged, which gives fractional widths.
    """

    channels = 3

    def __init__(
        self,
        *,
        size: int,
        thickness_px: float,
        pupil_px: float,
        tolerance: float = 0.03,
        pupil_tolerance: float = 0.008,
        supersample: int = 4,
    ) -> None:
        self.size = size
        self.thickness_px = thickness_px
        self.pupil_px = pupil_px
        self.tolerance = tolerance
        self.pupil_tolerance = pupil_tolerance
        self.supersample = supersample

    def draw(self, posed: PosedHead, head: HeadModel, cameras: Cameras) -> Float[Tensor, "B 3 h w"]:
        """The control pictures in [0, 1] of a posed head (one pose, or one per camera), without gradient.

        On an accelerator they are drawn there (`control_torch`), so that the host need not wait for the head.
        """
        points = posed_landmarks(head, posed).points.detach()
        on_cpu = points.device.type == "cpu"
        return (self._draw_on_cpu if on_cpu else self._draw_there)(points, posed.vertices.detach(), head, cameras)

    @torch.no_grad()
    def _draw_on_cpu(
        self, points: Float[Tensor, "P L 3"], vertices: Float[Tensor, "P V 3"], head: HeadModel, cameras: Cameras
    ) -> Float[Tensor, "B 3 h w"]:
        views = resized(cameras, self.size)
        pixels, depth = project(points, views)
        surface = rasterise_mesh(vertices, head.faces, views).depth
        visible = self.visible(pixels, depth, surface, head.landmark_polylines)
        pictures = [
            self._draw_one(pixels[b].numpy(), visible[b].numpy(), head.landmark_polylines, views)
            for b in range(len(views))
        ]
        return torch.from_numpy(np.stack(pictures))

    @torch.no_grad()
    def _draw_there(
        self, points: Float[Tensor, "P L 3"], vertices: Float[Tensor, "P V 3"], head: HeadModel, cameras: Cameras
    ) -> Float[Tensor, "B 3 h w"]:
        from headstudio.guidance.control_torch import draw_lines, visible_points

        views, lines = resized(cameras, self.size), head.landmark_polylines
        pixels, depth = project(points, views)
        visible = visible_points(
            *(vertices, head.faces, views, pixels, depth, lines),
            tolerance=self.tolerance,
            pupil_tolerance=self.pupil_tolerance,
        )
        return draw_lines(pixels, visible, lines, COLORS, views, thickness_px=self.thickness_px, pupil_px=self.pupil_px)

    def visible(
        self,
        pixels: Float[Tensor, "B L 2"],
        depth: Float[Tensor, "B L"],
        surface: Float[Tensor, "B h w"],
        polylines: tuple[tuple[str, int, int, bool], ...],
    ) -> Bool[Tensor, "B L"]:
        """Points inside the picture that no nearer surface covers: lines judged at the deepest of 3x3 pixels."""
        height, width = surface.shape[-2:]
        finite = torch.where(torch.isinf(surface), torch.full_like(surface, 1e6), surface)
        deepest = torch.nn.functional.max_pool2d(finite[:, None], 3, stride=1, padding=1)[:, 0]
        column, row = pixels[..., 0].floor().long(), pixels[..., 1].floor().long()
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (depth > 0)
        at = (torch.arange(len(surface))[:, None], row.clamp(0, height - 1), column.clamp(0, width - 1))
        seen = depth <= deepest[at] + self.tolerance
        pupils = [first for _, first, last, _ in polylines if last - first == 1]
        seen[:, pupils] = (depth <= finite[at] + self.pupil_tolerance)[:, pupils]
        return inside & seen

    def _draw_one(
        self,
        pixels: np.ndarray,
        visible: np.ndarray,
        polylines: tuple[tuple[str, int, int, bool], ...],
        cameras: Cameras,
    ) -> np.ndarray:
        from PIL import Image, ImageDraw

        scale = self.supersample
        canvas = Image.new("RGB", (cameras.width * scale, cameras.height * scale))
        pen = ImageDraw.Draw(canvas)
        at = pixels * scale
        width = max(1, round(self.thickness_px * scale))
        for name, first, last, closed in polylines:
            if last - first == 1:
                if visible[first]:
                    x, y = at[first]
                    half = self.pupil_px * scale / 2
                    pen.rectangle((x - half, y - half, x + half - 1, y + half - 1), fill=COLORS[name])
                continue
            ring = [*range(first, last), first] if closed else [*range(first, last)]
            for a, b in pairwise(ring):
                if visible[a] and visible[b]:
                    pen.line((*at[a], *at[b]), fill=COLORS[name], width=width)
        small = canvas.reduce(scale) if scale > 1 else canvas
        return np.asarray(small, np.float32).transpose(2, 0, 1) / 255.0
