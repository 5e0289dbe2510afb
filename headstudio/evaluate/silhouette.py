"""The avatar's outline: does it have that of its sentence, and does it cover the head that drives it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from headstudio.evaluate import Judgement
from headstudio.evaluate.truth import truth
from headstudio.render.mesh import rasterise_mesh

if TYPE_CHECKING:
    from headstudio.evaluate.framing import Views
    from headstudio.render import SceneRenderer
    from headstudio.types import Cameras, Pose


class Silhouette:
    """Overlap of the avatar's silhouette with the synthetic world's for the same sentence, views all around.

    The world paints the head with the looks that the sentence asks for (what it leaves out is as usual: short hair, no
    beard, no hat), at the avatar's own shape and pose. `silhouette_iou` is intersection over union of the pixels that
    are not background there and those where the avatar's opacity is `min_alpha` or more; the mean over the views at
    rest. `silhouette_iou_motion` is the same for the other evaluation poses, the mean over views, then poses. 1: the
    outline of hair, beard and hat is right; 0: nothing is there.

    `outside_share` (and `outside_share_motion`) is the share of the avatar's opacity that lies outside the world's
    silhouette, in [0, 1]: what blurs the outline and what floats around it, however faint.

    Args:
        views: from where at which pose; avatar and world alike.
        min_alpha: opacity from which on a pixel belongs to the avatar.
    """

    def __init__(self, *, views: Views, min_alpha: float) -> None:
        self.views, self.min_alpha = views, min_alpha

    def __call__(self, avatar: Any, renderer: SceneRenderer, prompt: str) -> Judgement:
        """{"silhouette_iou", "outside_share"} and both _motion; for what the world doesn't know, why not."""
        from headstudio.synthetic.paint import BACKGROUND
        from headstudio.synthetic.world import World

        wanted = truth(avatar, prompt)
        if isinstance(wanted, str):
            return Judgement(details={"not_measured": wanted})
        world = World(wanted.head, supersample=1)  # its labels are then those of the pixels' middles

        outside: list[list[float]] = []

        def overlap(pose: Pose, cameras: Cameras) -> list[float]:
            theirs = world.render(wanted.attributes, wanted.shape, pose, cameras).labels != BACKGROUND
            alpha = self.views.framing.photograph(avatar, renderer, pose, cameras).alpha[:, 0].cpu()
            ours = alpha >= self.min_alpha
            outside.append(((alpha * ~theirs).sum((1, 2)) / alpha.sum((1, 2)).clamp(min=1e-6)).tolist())
            both, either = (ours & theirs).sum((1, 2)), (ours | theirs).sum((1, 2))
            return [float(share) for share in both / either.clamp(min=1)]

        found = self.views.judged("silhouette_iou", wanted.head, overlap)
        again = iter(outside)
        more = self.views.judged("outside_share", wanted.head, lambda *_: next(again))
        return Judgement(found.scores | more.scores, found.details)


class Coverage:
    """How much of the head's surface the avatar covers, views all around; for any head, prior and sentence.

    Of the pixels that show the posed mesh of the driven head, those count as covered where the avatar's opacity is
    `min_alpha` or more and what one sees there (its mean depth) lies no further than `behind` behind the mesh. Without
    the second condition a hole in the face would count as covered: through it one sees the back of the head. Hair, hats
    and beards lie in front and cover. `coverage` is the mean over the views at rest, `coverage_motion` that over the
    other evaluation poses. 1: nothing of the head is bare.

    Args:
        views: from where at which pose.
        min_alpha: opacity from which on something is there.
        behind: world units (the head is about 2 high).
    """

    def __init__(self, *, views: Views, min_alpha: float, behind: float) -> None:
        self.views, self.min_alpha, self.behind = views, min_alpha, behind

    @torch.no_grad()
    def __call__(self, avatar: Any, renderer: SceneRenderer, prompt: str) -> Judgement:
        """{"coverage", "coverage_motion"}."""
        faces = avatar.head.faces.cpu()

        def covered(pose: Pose, cameras: Cameras) -> list[float]:
            posed = avatar.head(avatar.shape, pose.to(avatar.head.v_template.device))
            head = rasterise_mesh(posed.vertices.cpu(), faces, cameras)
            picture = self.views.framing.photograph(avatar, renderer, pose, cameras)
            alpha, depth = picture.alpha[:, 0].cpu(), picture.depth[:, 0].cpu()
            there = (alpha >= self.min_alpha) & (depth <= (head.depth + self.behind) * alpha)
            return [float(share) for share in (there & head.hit).sum((1, 2)) / head.hit.sum((1, 2)).clamp(min=1)]

        return self.views.judged("coverage", avatar.head, covered)
