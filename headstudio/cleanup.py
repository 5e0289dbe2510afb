"""What is left lying around the finished head, and who takes it away: the option group `cleanup`.

Score distillation leaves single Gaussians beside the outline. Each step's gradient on them is noise, so nothing makes
them go, and against the background that the prior knows they hardly show. The prior itself can tell: asked for the
picture behind a slightly noisy view of the avatar, it draws the head and leaves them out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

from headstudio.avatar.gaussians import PER_GAUSSIAN, GaussianAvatar
from headstudio.device import to_device
from headstudio.render.background import backgrounds

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from headstudio.render import SceneRenderer
    from headstudio.trainer import Parts
    from headstudio.types import Cameras, Gaussians

log = logging.getLogger(__name__)


class Cleanup(Protocol):
    """What an option of the group `cleanup` is: changes the finished avatar, before it is saved and judged."""

    def __call__(self, parts: Parts, step: int, generator: torch.Generator) -> int:
        """Returns how many Gaussians are gone. `step` is the last one; the same generator gives the same result."""
        ...


class NoCleanup:
    """The avatar stays as the last step left it, as in the paper."""

    def __call__(self, parts: Parts, step: int, generator: torch.Generator) -> int:
        return 0


class PriorCleanup:
    """Removes the Gaussians that show mostly where the prior sees nothing but background.

    Views are drawn as in training, with its cameras and poses. In each, the prior's one-step estimate of the picture
    behind noise tells which pixels are background; a Gaussian's share of background is that of its blending weight,
    over all views. One that no view shows stays.

    Args:
        background: RGB in [0, 1], the one that training had behind every picture; None: a random one behind each.
        views: how many are looked at, at the least.
        timestep: noise level; at a low one the prior believes what it is shown, at a high one it no longer sees it.
        tolerance: how far each channel may be from `background` in a pixel that counts as background, in [0, 1].
        max_background_share: a Gaussian with a larger one is removed.
        max_removed: share of all Gaussians; more specks than that are no specks but a head that is not there yet, which
            stays as it is.
    """

    def __init__(
        self,
        *,
        background: Sequence[float] | None,
        views: int,
        timestep: int,
        tolerance: float,
        max_background_share: float,
        max_removed: float = 0.1,
    ) -> None:
        self.background = None if background is None else torch.tensor([float(value) for value in background])
        self.views, self.timestep = views, timestep
        self.tolerance, self.max_background_share = tolerance, max_background_share
        self.max_removed = max_removed

    def __call__(self, parts: Parts, step: int, generator: torch.Generator) -> int:
        """See `Cleanup`; a representation without Gaussians is left alone."""
        avatar: Any = parts.avatar
        if not isinstance(avatar, GaussianAvatar):
            log.info("This representation has no Gaussians that cleanup could remove")
            return 0
        doomed = self.background_share(parts, step, generator) > self.max_background_share
        removed = int(doomed.sum())
        if removed > self.max_removed * len(doomed):
            log.warning("Of %d Gaussians the prior sees %d as background: none is removed", len(doomed), removed)
            return 0
        if removed:
            values = {name: getattr(avatar, name).detach() for name in PER_GAUSSIAN} | avatar.carried
            avatar.replace_gaussians({name: value[~doomed] for name, value in values.items()})
        log.info("%d of %d Gaussians showed where the prior sees background; removed", removed, len(doomed))
        return removed

    @torch.no_grad()
    def background_share(self, parts: Parts, step: int, generator: torch.Generator) -> Float[Tensor, " N"]:
        """Of each Gaussian's blending weight, the share on background; 0 for one that no view shows."""
        avatar: Any = parts.avatar
        weights, seen = torch.zeros(avatar.num_gaussians, 2, device=parts.device), 0
        while seen < self.views:
            cameras = to_device(parts.camera(step, generator), parts.device)
            pose = to_device(parts.motion.sample(len(cameras), generator), parts.device)
            background = to_device(backgrounds(self.background, len(cameras), generator), parts.device)
            posed, _, gaussians = avatar.pose(pose)
            rgb = parts.renderer(gaussians, cameras, background).rgb
            control = parts.control.draw(posed, avatar.head, cameras) if parts.guidance.use_control else None
            believed = parts.guidance.one_step(rgb, control, cameras, step, self.timestep, generator)
            empty = self._is_background(believed, background, rgb.shape[-2:])
            weights += blending_weights(gaussians, cameras, parts.renderer, empty)
            seen += len(cameras)
        return weights[:, 0] / weights[:, 1].clamp_min(torch.finfo(weights.dtype).tiny)

    def _is_background(
        self, picture: Float[Tensor, "B 3 S S"], background: Float[Tensor, "B 3"], size: Sequence[int]
    ) -> Bool[Tensor, "B H W"]:
        """Which pixels of the pictures, brought to `size`, have the background's colour."""
        scaled = torch.nn.functional.interpolate(picture, size=tuple(size), mode="bilinear", align_corners=False)
        return (scaled - background[:, :, None, None]).abs().amax(1) <= self.tolerance


def blending_weights(
    gaussians: Gaussians, cameras: Cameras, renderer: SceneRenderer, mask: Bool[Tensor, "B H W"]
) -> Float[Tensor, "N 2"]:
    """Each Gaussian's weight in the pictures: over the pixels of the mask, and over all.

    A pixel's colour is the sum of weight times colour, so the weights are what its gradient says of the colours.
    """
    with torch.enable_grad():
        colors = torch.zeros_like(gaussians.colors, requires_grad=True)
        still = gaussians.painted(colors)
        rgb = renderer(still, cameras, colors.new_zeros(3)).rgb
        (weights,) = torch.autograd.grad((rgb[:, 0] * mask).sum() + rgb[:, 1].sum(), colors)
    return weights[:, :2]
