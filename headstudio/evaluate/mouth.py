"""Whether a character without a mouth shows a hole when the head that drives it opens its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from headstudio.evaluate import Judgement
from headstudio.head.landmarks import posed_landmarks
from headstudio.motion.arkit import pose_of, weights_of
from headstudio.render.mesh import rasterise_mesh
from headstudio.synthetic.reading import parse

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from headstudio.evaluate.framing import Framing
    from headstudio.head.model import HeadModel
    from headstudio.render import SceneRenderer
    from headstudio.types import Pose, PosedHead


class MouthHole:
    """How much of the opened mouth does not look like the skin around it; for any head, prior and sentence.

    A membrane over the head's opened lips (from their inner line to its middle) says which pixels show the opening.
    Such a pixel looks like skin where the avatar is there (opacity of `min_alpha` or more) and its colour is within
    `noticeable`, in every channel, of the median colour of the skin around the lips in the same picture.

    * `mouth_shown`: the share of the opening's pixels that do not look like skin, all views of a pose together, the
      mean over the poses. Near 1, by right, for whoever has a mouth.
    * `mouth_hole`: the same number for characters that have none, whose opening should be skin: 0.

    Args:
        framing: how the pictures are taken.
        azimuths_deg, elevation_deg: of the cameras.
        jaw_open: how far the mouth opens, a pose each: weights of ARKit's jawOpen, 0 to 1.
        skin: names of the head's regions that count as skin ...
        ring: ... no further than this from the outer line of the lips at rest, world units.
        noticeable: difference of a channel, RGB in [0, 1].
        min_alpha: opacity from which on something is there.
        min_pixels: a pose whose opening shows at fewer pixels of all cameras together is left out.
        without: characters that have no mouth though their sentences don't say it; upper and lower case are the same.
    """

    def __init__(
        self,
        *,
        framing: Framing,
        azimuths_deg: Sequence[float],
        elevation_deg: float,
        jaw_open: Sequence[float],
        skin: Sequence[str],
        ring: float,
        noticeable: float,
        min_alpha: float,
        min_pixels: int,
        without: Sequence[str],
    ) -> None:
        self.framing, self.cameras = framing, framing.cameras(azimuths_deg, elevation_deg)
        self.jaw_open, self.skin, self.ring = tuple(jaw_open), tuple(skin), ring
        self.noticeable, self.min_alpha, self.min_pixels = noticeable, min_alpha, min_pixels
        self.without = tuple(name.lower() for name in without)

    @torch.no_grad()
    def __call__(self, avatar: Any, renderer: SceneRenderer, prompt: str) -> Judgement:
        """{"mouth_shown"}, and {"mouth_hole"} if the sentence's character has no mouth; or why nothing is measured."""
        ring = self._around_lips(avatar)
        shares: dict[str, float] = {}
        for jaw_open in self.jaw_open:
            pose = pose_of(avatar.head, weights_of({"jawOpen": jaw_open})[None], neck_deg=torch.zeros(1, 3))
            unlike = self._unlike_skin(avatar, renderer, pose.to(avatar.head.v_template.device), ring)
            if len(unlike) >= self.min_pixels:
                shares[f"jaw_open_{jaw_open:g}"] = round(float(unlike.double().mean()), 5)
        if not shares:
            return Judgement(details={"not_measured": "no opening is seen between lips and skin of this head"})
        scores = {"mouth_shown": round(sum(shares.values()) / len(shares), 5)}
        if parse(prompt).attributes.mouth == "none" or any(name in prompt.lower() for name in self.without):
            scores["mouth_hole"] = scores["mouth_shown"]
        return Judgement(scores, shares)

    def _around_lips(self, avatar: Any) -> Bool[Tensor, " F"]:
        """The triangles of the skin around the lips; none on a head without their outline."""
        head: HeadModel = avatar.head
        rest = head(avatar.shape, head.neutral_pose().to(head.v_template.device))
        line = _line(head, rest, "lips_outer")
        named = [head.region_faces(name) for name in self.skin if name in head.region_names]
        if line is None or not named:
            return torch.zeros(len(head.faces), dtype=torch.bool)
        near = torch.cdist(rest.vertices[0, head.faces].mean(1), line).amin(1) < self.ring
        return (torch.stack(named).any(0) & near).cpu()

    def _unlike_skin(
        self, avatar: Any, renderer: SceneRenderer, pose: Pose, ring: Bool[Tensor, " F"]
    ) -> Bool[Tensor, " K"]:
        """For each pixel of the opening in any camera that sees skin around it: does it look like something else?"""
        head: HeadModel = avatar.head
        posed = head(avatar.shape, pose)
        rim = _line(head, posed, "lips_inner")
        if rim is None:
            return torch.zeros(0, dtype=torch.bool)
        faces = head.faces.cpu()
        vertices, membrane = _membrane(posed.vertices[0].cpu(), rim.cpu())
        face = rasterise_mesh(vertices[None], torch.cat([faces, membrane]), self.cameras).face_index.long()
        picture = self.framing.photograph(avatar, renderer, pose, self.cameras, background=(0.0, 0.0, 0.0))
        alpha = picture.alpha[:, 0].cpu()
        colors = picture.rgb.cpu().permute(0, 2, 3, 1) / alpha[..., None].clamp(min=1e-6)
        there = alpha >= self.min_alpha
        found = []
        for view in range(len(self.cameras)):
            opening = face[view] >= len(faces)
            skin = (face[view] >= 0) & ~opening & ring[face[view].clamp(max=len(faces) - 1)] & there[view]
            if bool(skin.any()):
                away = (colors[view][opening] - colors[view][skin].median(0).values).abs().amax(1)
                found.append(~there[view][opening] | (away > self.noticeable))
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.bool)


def _line(head: HeadModel, posed: PosedHead, name: str) -> Float[Tensor, "L 3"] | None:
    """A line of the head's landmarks, in world units; None on a head without it."""
    points = posed_landmarks(head, posed).points[0]
    return next((points[first:end] for line, first, end, _ in head.landmark_polylines if line == name), None)


def _membrane(vertices: Float[Tensor, "V 3"], rim: Float[Tensor, "L 3"]) -> tuple[Float[Tensor, "W 3"], Tensor]:
    """`vertices` with the rim and its middle appended, and the triangles (L, 3) that span it."""
    first, count = len(vertices), len(rim)
    around = torch.arange(count)
    faces = torch.stack((around, (around + 1) % count, torch.full_like(around, count)), 1) + first
    return torch.cat((vertices, rim, rim.mean(0, keepdim=True))), faces
