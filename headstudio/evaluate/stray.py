"""How many Gaussians have left the triangle that carries them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from headstudio.evaluate import UNRIGGED, Judgement

if TYPE_CHECKING:
    from headstudio.render import SceneRenderer


class Stray:
    """Distance of the Gaussians from their triangles, on the head at rest, each counted by its opacity.

    * `stray_share`: share of the opacity that lies further from its triangle's middle than `reach` times the triangle's
      tau (Eq. 8: the distance from the middle to the furthest corner), in [0, 1].
    * `stray_distance`: mean distance from the middle, world units (the head is about 2 high).

    Hair, hats and beards leave the skin by right: these tell two heads of one sentence apart, not two sentences.

    Args:
        reach: in tau.
    """

    def __init__(self, *, reach: float) -> None:
        self.reach = reach

    @torch.no_grad()
    def __call__(self, avatar: Any, renderer: SceneRenderer, prompt: str) -> Judgement:
        """{"stray_share", "stray_distance"}; without a rig to triangles a note why not."""
        triangle = getattr(avatar, "triangle", None)
        if triangle is None:
            return Judgement(details={"not_measured": UNRIGGED})
        _, frames, gaussians = avatar.pose(avatar.head.neutral_pose())
        away = torch.linalg.vector_norm(gaussians.means[0] - frames.origin[0, triangle], dim=-1).double()
        weight = gaussians.opacities.double() / gaussians.opacities.double().sum()
        beyond = away > self.reach * frames.reach[0, triangle]
        return Judgement(
            {
                "stray_share": round(float((weight * beyond).sum()), 5),
                "stray_distance": round(float((weight * away).sum()), 5),
            }
        )
