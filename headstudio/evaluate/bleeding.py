"""Whether the lips are painted by the lips: colours that bleed over the border of a region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from headstudio.evaluate import UNRIGGED, Judgement
from headstudio.motion.evaluation import evaluation_poses
from headstudio.render.mesh import rasterise_mesh

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from headstudio.evaluate.framing import Framing
    from headstudio.render import SceneRenderer
    from headstudio.types import Pose

MOUTH, POSES = "mouth", ("rest", "mouth_open")


class Bleeding:
    """What Gaussians of other triangles do to the colours of lips, eyes and open mouth; for any prior and sentence.

    The mesh of the driven head says which pixels belong to a region. There the avatar is drawn as it is and with the
    region's own Gaussians only (each pixel divided by its opacity); the difference is what the others paint over it.
    A region that shows nothing of its own has no such number.

    * `color_bleeding`: the mean of that difference, largest of the three channels, over a region's pixels, over the
      regions and over the poses rest and mouth_open; `color_bleeding/lips` and so on for one region. 0: the region
      shows its own colours; 1: black became white. Pixels where less than a twentieth of the opacity is the region's
      own are compared with the region's mean colour.
    * `mouth_opening`: with the mouth open, which share of what one sees in the mouth (teeth, tongue, cavity) belongs
      to its own Gaussians. 1: the mouth is open; 0: lips or skin still cover it.

    A moustache over the lips or a mask around the eyes raise `color_bleeding` by right; compare heads of one sentence.

    Args:
        framing: how the pictures are taken.
        azimuths_deg, elevation_deg: of the cameras.
        regions: names of the head's regions that make one region here.
        min_pixels: regions that show at fewer pixels of all cameras together are left out.
        min_alpha: pixels where the avatar is more transparent than this are left out.
    """

    def __init__(
        self,
        *,
        framing: Framing,
        azimuths_deg: Sequence[float],
        elevation_deg: float,
        regions: Mapping[str, Sequence[str]],
        min_pixels: int,
        min_alpha: float,
    ) -> None:
        self.framing, self.regions = framing, {name: tuple(parts) for name, parts in regions.items()}
        self.cameras = framing.cameras(azimuths_deg, elevation_deg)
        self.min_pixels, self.min_alpha = min_pixels, min_alpha

    @torch.no_grad()
    def __call__(self, avatar: Any, renderer: SceneRenderer, prompt: str) -> Judgement:
        """{"color_bleeding", "color_bleeding/lips", ..., "mouth_opening"}; without a rig to triangles a note."""
        if getattr(avatar, "triangle", None) is None:
            return Judgement(details={"not_measured": UNRIGGED})
        found: dict[str, list[float]] = {}
        scores: dict[str, float] = {}
        poses = evaluation_poses(avatar.head)
        for pose_name in (name for name in POSES if name in poses):
            pose = poses[pose_name].to(avatar.head.v_template.device)
            seen = self._faces(avatar, pose)
            for name, parts in self.regions.items():
                faces = self._of_region(avatar, parts)
                pixels = (seen >= 0) & faces[seen.clamp(min=0)]
                if int(pixels.sum()) < self.min_pixels:
                    continue
                bled, own = self._compare(avatar, renderer, pose, faces[avatar.triangle.cpu()], pixels)
                if bled is not None:
                    found.setdefault(name, []).append(bled)
                if name == MOUTH and pose_name != "rest":
                    scores["mouth_opening"] = round(own, 4)
        each = {name: sum(values) / len(values) for name, values in found.items()}
        if each:
            scores["color_bleeding"] = round(sum(each.values()) / len(each), 5)
        return Judgement(scores | {f"color_bleeding/{name}": round(value, 5) for name, value in each.items()})

    def _faces(self, avatar: Any, pose: Pose) -> Tensor:
        """(B, H, W): the face of the driven head at each pixel, -1 where there is none."""
        posed = avatar.head(avatar.shape, pose)
        return rasterise_mesh(posed.vertices.cpu(), avatar.head.faces.cpu(), self.cameras).face_index.long()

    def _of_region(self, avatar: Any, parts: Sequence[str]) -> Bool[Tensor, " F"]:
        names = avatar.head.region_names
        numbers = torch.tensor([names.index(part) for part in parts if part in names], dtype=torch.long)
        return torch.isin(avatar.head.face_region.cpu(), numbers)

    def _compare(
        self, avatar: Any, renderer: SceneRenderer, pose: Pose, mine: Bool[Tensor, " N"], pixels: Bool[Tensor, "B H W"]
    ) -> tuple[float | None, float]:
        """Mean difference of colour (None: the region shows no colour of its own) and mean share of its Gaussians."""

        def drawn(colors: Float[Tensor, "N 3"]) -> tuple[Tensor, Tensor]:
            black = (0.0, 0.0, 0.0)
            picture = self.framing.photograph(avatar, renderer, pose, self.cameras, colors=colors, background=black)
            alpha = picture.alpha[:, 0].cpu()
            there = pixels & (alpha >= self.min_alpha)
            return picture.rgb.cpu().permute(0, 2, 3, 1)[there] / alpha[there][:, None], alpha[there]

        colors = avatar.pose(pose)[2].colors.cpu()
        own_weight = mine[:, None].to(colors)
        whole, _ = drawn(colors)
        own, _ = drawn(colors * own_weight)
        share = drawn(own_weight.expand(-1, 3).contiguous())[0][:, :1]
        if not len(whole) or float(share.sum()) == 0.0:
            return None, 0.0
        usual = own.sum(0) / share.sum()
        unmixed = torch.where(share >= 0.05, own / share.clamp(min=0.05), usual)
        return float((whole - unmixed).abs().amax(1).mean()), float(share.mean())
