"""Whether what one sees of an avatar moves as the head that drives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import grid_sample

from headstudio.camera import project
from headstudio.evaluate import Judgement
from headstudio.motion.evaluation import evaluation_poses
from headstudio.render.mesh import rasterise_mesh

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.evaluate.framing import Framing
    from headstudio.head.model import HeadModel
    from headstudio.render import SceneRenderer
    from headstudio.types import MeshRaster, Pose

MOUTH = "mouth_open"
ON_THE_SURFACE = 0.02  # world units; a landmark is hidden only by what is clearly in front of it


@dataclass(frozen=True)
class _Motion:
    """How far everything that the cameras see at rest goes from there to a pose; world units."""

    picture: Float[Tensor, "B 3 H W"]  # what is seen at each pixel; zero where the avatar is not there
    surface: MeshRaster  # of the head at rest
    head_start: Float[Tensor, "V 3"]
    head_end: Float[Tensor, "V 3"]


class Driving:
    """Landmark agreement between driven head and rendered avatar, and lip separation; for any prior and any sentence.

    Each Gaussian (of a mesh: each vertex) is painted with its own displacement from rest to the pose, so that a
    picture of the avatar at rest shows, pixel by pixel, where what one sees there will go. Under each landmark of
    the head that a camera sees at rest, this is compared with where the landmark itself goes.

    * `landmark_error`: mean distance of the two over the poses, landmarks and cameras, in distances between the eyes.
      0: what one sees goes exactly with the head. A landmark under which the avatar is not there (opacity below
      `min_alpha`) counts as not moved.
    * `lip_separation`: how far what one sees at the middle thirds of the lips parts when the jaw opens, as a share of
      what the lips part on the head. 1: they part as the head's; 0: they stick together.

    Args:
        framing: how the pictures are taken.
        azimuths_deg, elevation_deg: of the cameras.
        min_alpha: opacity from which on the avatar is there.
    """

    def __init__(
        self, *, framing: Framing, azimuths_deg: Sequence[float], elevation_deg: float, min_alpha: float
    ) -> None:
        self.framing, self.min_alpha = framing, min_alpha
        self.cameras = framing.cameras(azimuths_deg, elevation_deg)

    @torch.no_grad()
    def __call__(self, avatar: Any, renderer: SceneRenderer, prompt: str) -> Judgement:
        """{"landmark_error", "lip_separation"}; nothing for a pose that the head cannot do.

        FLAME cannot blink or smile by name, so its landmark error is that of an open mouth and a turned head. A head
        without outlined eyes has no landmark error, one without lips (line and region) no lip separation.
        """
        poses = evaluation_poses(avatar.head)
        rest = poses.pop("rest").to(avatar.head.v_template.device)
        errors: dict[str, float] = {}
        scores: dict[str, float] = {}
        for name, pose in poses.items():
            motion = self._motion(avatar, renderer, rest, pose.to(avatar.head.v_template.device))
            scale = _between_eyes(avatar.head, motion)
            if scale and (distances := self._landmark_distances(avatar.head, motion)):
                errors[name] = round(sum(distances) / len(distances) / scale, 5)
            if name == MOUTH:
                scores |= self._lips(avatar.head, motion)
        if errors:
            scores = {"landmark_error": round(sum(errors.values()) / len(errors), 5), **scores}
        return Judgement(scores, {"landmark_error": errors} if errors else {})

    def _motion(self, avatar: Any, renderer: SceneRenderer, rest: Pose, pose: Pose) -> _Motion:
        at_rest, moved = avatar.pose(rest)[2], avatar.pose(pose)[2]
        before, posed = avatar.head(avatar.shape, rest), avatar.head(avatar.shape, pose)  # the avatar's may stand still
        flow = moved.points[0] - at_rest.points[0]
        reach = float(flow.abs().max().clamp(min=1e-9))
        colors = 0.5 + 0.5 * flow / reach  # a colour lies in [0, 1]
        drawn = self.framing.photograph(avatar, renderer, rest, self.cameras, colors=colors, background=(0.5, 0.5, 0.5))
        alpha = drawn.alpha.cpu()
        seen = (drawn.rgb.cpu() - 0.5) / alpha.clamp(min=1e-6) * 2.0 * reach
        return _Motion(
            picture=torch.where(alpha >= self.min_alpha, seen, 0.0),
            surface=rasterise_mesh(before.vertices.cpu(), avatar.head.faces.cpu(), self.cameras),
            head_start=before.vertices[0].cpu(),
            head_end=posed.vertices[0].cpu(),
        )

    def _landmark_distances(self, head: HeadModel, motion: _Motion) -> list[float]:
        """Between where a landmark goes and where what is seen there goes, for all that the cameras see."""
        start, end = _landmarks(head, motion.head_start), _landmarks(head, motion.head_end)
        pixels, depth = project(start[None], self.cameras)
        nearest = _sampled(torch.nan_to_num(motion.surface.depth, posinf=1e6)[:, None], pixels)[..., 0]
        visible = (depth - nearest).abs() < ON_THE_SURFACE
        visible &= ((pixels > 0) & (pixels < pixels.new_tensor([self.cameras.width, self.cameras.height]))).all(-1)
        distance = torch.linalg.vector_norm(_sampled(motion.picture, pixels) - (end - start), dim=-1)
        return [float(value) for value in distance[visible]]

    def _lips(self, head: HeadModel, motion: _Motion) -> dict[str, float]:
        """How far the middles of upper and lower lip part: what is seen there, as a share of the head's own."""
        between = _line(head, "lips_inner")
        if between is None or "lips" not in head.region_names:
            return {}
        faces = head.faces.cpu()
        middles = motion.head_start[faces].mean(1)
        line = _landmarks(head, motion.head_start)[between]
        near = (middles[:, 0] - line[:, 0].mean()).abs() < (line[:, 0].max() - line[:, 0].min()) / 6
        near &= head.region_faces("lips").cpu()
        above = middles[:, 1] > line[:, 1].mean()
        moves = (motion.head_end - motion.head_start)[faces]
        parted = []
        for lip in (near & above, near & ~above):
            face = motion.surface.face_index.long()
            pixels = (face >= 0) & lip[face.clamp(min=0)]
            if not bool(pixels.any()):
                return {}
            own = (motion.surface.barycentric[pixels][..., None] * moves[face[pixels]]).sum(1).mean(0)
            parted.append((motion.picture.permute(0, 2, 3, 1)[pixels].mean(0), own))
        seen, wanted = (upper - lower for upper, lower in zip(*parted, strict=True))
        return {"lip_separation": round(float(seen @ wanted / (wanted @ wanted).clamp(min=1e-12)), 4)}


def _sampled(picture: Float[Tensor, "B C H W"], pixels: Float[Tensor, "B L 2"]) -> Float[Tensor, "B L C"]:
    """Bilinear values at pixel positions (the first pixel's middle is 0.5)."""
    size = pixels.new_tensor([picture.shape[-1], picture.shape[-2]])
    grid = (2.0 * pixels / size - 1.0)[:, :, None]
    values = grid_sample(picture.to(pixels), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return values[..., 0].mT


def _landmarks(head: HeadModel, vertices: Float[Tensor, "V 3"]) -> Float[Tensor, "L 3"]:
    corners = vertices[head.faces[head.landmark_faces].cpu()]
    return (head.landmark_bary.cpu()[..., None] * corners).sum(1)


def _line(head: HeadModel, name: str) -> slice | None:
    return next((slice(first, end) for line, first, end, _ in head.landmark_polylines if line == name), None)


def _between_eyes(head: HeadModel, motion: _Motion) -> float | None:
    """None on a head whose landmarks do not outline the eyes."""
    points = _landmarks(head, motion.head_start)
    right, left = _line(head, "right_eye"), _line(head, "left_eye")
    if right is None or left is None:
        return None
    return float(torch.linalg.vector_norm(points[right].mean(0) - points[left].mean(0)))
