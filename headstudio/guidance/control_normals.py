"""Normals and regions of the head as the picture that conditions a ControlNet (AnimPortrait3D, SIGGRAPH 2025).

Landmarks are lines; these maps are dense. They say of every pixel of the bare head which way its surface faces and what
it belongs to, so hair and hats are still the sentence's to decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from headstudio.guidance.control import resized
from headstudio.render.mesh import rasterise_mesh, vertex_normals
from headstudio.types import Cameras, PosedHead

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from headstudio.head.model import HeadModel

# RGB of each region; what a head calls otherwise counts as skin. Neighbours in the face are far apart in colour.
COLORS = {
    "skin": (110, 80, 60),
    "lips": (230, 30, 60),
    "scalp": (60, 60, 130),
    "beard": (110, 80, 60),  # where a beard may grow is not where one does
    "brows": (140, 220, 40),
    "sclera": (240, 240, 240),
    "iris": (20, 120, 250),
    "teeth": (250, 240, 120),
    "tongue": (200, 90, 200),
    "mouth": (90, 0, 40),
    "neck": (60, 110, 60),
    "ears": (200, 140, 30),
    "socket": (90, 0, 40),
}


class NormalsRegionsControl:
    """Draws six channels: normals (as RGB), then regions (as RGB), both on black.

    A normal's components in the camera's frame, x to the right, y up, z towards the viewer, become (n + 1) / 2.

    Args:
        size: height of the control picture in pixels.
    """

    channels = 6

    def __init__(self, *, size: int) -> None:
        self.size = size

    def draw(self, posed: PosedHead, head: HeadModel, cameras: Cameras) -> Float[Tensor, "B 6 h w"]:
        """The control pictures in [0, 1] of a posed head (one pose, or one per camera), without gradient.

        The mesh is rasterised on the CPU; on an accelerator the host waits for the head here.
        """
        return colored(*self.surface(posed, head, cameras)).to(cameras.camera_from_world)

    @torch.no_grad()
    def surface(
        self, posed: PosedHead, head: HeadModel, cameras: Cameras
    ) -> tuple[Float[Tensor, "B h w 3"], Int[Tensor, "B h w"]]:
        """Of each pixel the unit normal in the camera's frame (0 off the head) and its region in COLORS (-1 off it)."""
        views = resized(cameras.to("cpu"), self.size)
        vertices, faces = posed.vertices.detach().cpu(), head.faces.cpu()
        raster = rasterise_mesh(vertices, faces, views)
        face = raster.face_index.clamp_min(0).long()
        normals = vertex_normals(vertices, faces).expand(len(views), -1, -1)
        batch = torch.arange(len(views))[:, None, None, None]
        smooth = (normals[batch, faces[face]] * raster.barycentric[..., None].to(normals)).sum(-2)
        axes = views.camera_from_world[:, :3, :3] * torch.tensor([1.0, -1.0, -1.0])[:, None]  # y up, z to the viewer
        turned = torch.einsum("bij,bhwj->bhwi", axes, smooth)
        names = list(COLORS)
        places = torch.tensor([names.index(name) if name in COLORS else 0 for name in head.region_names])
        regions = torch.where(raster.face_index >= 0, places[head.face_region.cpu()][face], -1)
        return torch.nn.functional.normalize(turned, dim=-1), regions


def colored(normals: Float[Tensor, "B h w 3"], regions: Int[Tensor, "B h w"]) -> Float[Tensor, "B 6 h w"]:
    """The control picture of a `surface`."""
    palette = torch.tensor([*COLORS.values(), (0, 0, 0)], dtype=torch.float32) / 255  # -1 is the last: black
    seen = (regions >= 0)[..., None]
    return torch.cat(((normals + 1) / 2 * seen, palette[regions]), -1).permute(0, 3, 1, 2)
