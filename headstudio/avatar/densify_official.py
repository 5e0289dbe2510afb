"""Densification as the released code does it, where that differs from `densify.Densifier` and is not a mistake."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headstudio.avatar.densify import Change, Every
from headstudio.avatar.gaussians import GaussianAvatar
from headstudio.avatar.population import CHILDREN, SHRINK, grow, prune
from headstudio.errors import UserError
from headstudio.types import Render

log = logging.getLogger(__name__)


class OfficialDensifier:
    """Clones and splits by the official gradient; prunes large Gaussians late, transparent ones later still.

    Unlike `Densifier`: the gradients of all views of a step are added as vectors before their length is taken and are
    divided by the root of the sum of squares, so that a typical value is one over the root of the number of visible
    Gaussians; nothing is pruned for its opacity while Gaussians grow; children of a split stay close to their parent;
    a triangle may lose all of its Gaussians.

    Not reproduced: the clone test that reads Gaussian 0 only (gaussian_flame_model.py:567). Here every Gaussian is
    judged by its own gradient. Sizes are those on the head at rest, not in the pose that a step happened to draw.

    Args:
        grow: when to clone and split; the statistics start afresh after each.
        prune: when to prune only.
        gradient_threshold: for the mean over steps of the normalised gradient, at or above which a Gaussian grows.
        split_scale: world units; larger Gaussians are split, others cloned.
        child_spread: standard deviation of the children's places, in units of their parent's.
        large_after_step: from the step after this one on, growing also prunes what is too large.
        max_radius_px: pictures' pixels; Gaussians that were ever drawn larger are too large.
        max_scale: world units; larger Gaussians are too large.
        prune_min_opacity: Gaussians below it are pruned when `prune` fires, and those above `max_scale`.
        max_gaussians: the budget, which the official code has not: the strongest grow first while it lasts.

    Source: Head3DGSLKs.py:265-294; gaussian_flame_model.py:538-623.
    """

    def __init__(
        self,
        *,
        grow: Every,
        prune: Every,
        gradient_threshold: float,
        split_scale: float,
        child_spread: float,
        large_after_step: int,
        max_radius_px: float,
        max_scale: float,
        prune_min_opacity: float,
        max_gaussians: int,
    ) -> None:
        self.grow, self.prune = grow, prune
        self.gradient_threshold, self.split_scale, self.child_spread = gradient_threshold, split_scale, child_spread
        self.large_after_step, self.max_radius_px, self.max_scale = large_after_step, max_radius_px, max_scale
        self.prune_min_opacity, self.max_gaussians = prune_min_opacity, max_gaussians
        self._state: dict[str, Tensor] = {}  # "gradient", "seen" since the last change; "radius" ever; each (N,)

    def check(self, avatar: GaussianAvatar) -> None:
        """Raises UserError when the budget cannot hold the first Gaussians."""
        if self.max_gaussians < avatar.num_gaussians:
            raise UserError(
                f"densify.max_gaussians={self.max_gaussians} is below the {avatar.num_gaussians} Gaussians that init "
                "starts with: raise it, or start with fewer."
            )

    @torch.no_grad()
    def step(
        self,
        avatar: GaussianAvatar,
        optimizer: torch.optim.Optimizer,
        render: Render,
        step: int,
        generator: torch.Generator,
    ) -> Change | None:
        """As `Densifier.step`.

        Raises:
            UserError: when every Gaussian would go.
            ValueError: when `render` has no gradients or another number of Gaussians than the avatar.
        """
        if step <= self.grow.last:
            self._observe(avatar.num_gaussians, render)
        if self.grow(step):
            change = self._grow(avatar, optimizer, step, generator)
        elif self.prune(step):
            doomed = avatar.opacity_logits.sigmoid() < self.prune_min_opacity
            pruned = self._remove(avatar, optimizer, doomed | self._too_large(avatar), step)
            change = Change(0, 0, pruned, avatar.num_gaussians)
        else:
            return None
        log.info(
            "Step %d: %d Gaussians cloned, %d split, %d pruned; now %d",
            *(step, change.cloned, change.split, change.pruned, change.count),
        )
        return change

    def state_dict(self) -> dict[str, Tensor]:
        """The statistics; empty when there are none yet."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._state = {name: value.clone() for name, value in state.items()}

    def _observe(self, count: int, render: Render) -> None:
        if render.means2d.grad is None or render.means2d.shape[1] != count:
            raise ValueError("densify needs the step's render after backward, with the avatar's own Gaussians")
        gradient, seen = official_gradient(render.means2d.grad, render.radii > 0)
        if not self._state:
            self._state = {name: torch.zeros_like(gradient) for name in ("gradient", "seen", "radius")}
        self._state["gradient"] += gradient
        self._state["seen"] += seen
        self._state["radius"] = torch.maximum(self._state["radius"], render.radii.amax(0).to(gradient.dtype))

    def _grow(
        self, avatar: GaussianAvatar, optimizer: torch.optim.Optimizer, step: int, generator: torch.Generator
    ) -> Change:
        score = self._state["gradient"] / self._state["seen"].clamp_min(1)
        chosen = torch.argsort(score, descending=True, stable=True)[: self.max_gaussians - avatar.num_gaussians]
        chosen = chosen[score[chosen] >= self.gradient_threshold]
        large = avatar.rest_scales().amax(1)[chosen] > self.split_scale
        clone, split = chosen[~large].sort().values, chosen[large].sort().values
        grow(avatar, optimizer, clone, split, generator, spread=self.child_spread)

        radius, stays = self._state["radius"], torch.ones_like(score, dtype=torch.bool)
        stays[split] = False
        born = torch.cat((radius[clone], radius[split].repeat_interleave(CHILDREN) / SHRINK))
        radius = torch.cat((radius[stays], born))
        zeros = torch.zeros_like(radius)
        self._state = {"gradient": zeros, "seen": zeros.clone(), "radius": radius}
        pruned = 0
        if step > self.large_after_step:
            doomed = (radius > self.max_radius_px) | self._too_large(avatar)
            pruned = self._remove(avatar, optimizer, doomed, step)
        return Change(len(clone), len(split), pruned, avatar.num_gaussians)

    def _too_large(self, avatar: GaussianAvatar) -> Bool[Tensor, " N"]:
        return avatar.rest_scales().amax(1) > self.max_scale

    def _remove(
        self, avatar: GaussianAvatar, optimizer: torch.optim.Optimizer, doomed: Bool[Tensor, " N"], step: int
    ) -> int:
        if bool(doomed.all()):
            raise UserError(
                f"Stopped at step {step} because densify would remove every Gaussian; "
                "lower densify.prune_min_opacity, or raise densify.max_scale."
            )
        kept = prune(avatar, optimizer, doomed=doomed, preference=None)
        self._state = {name: value[kept] for name, value in self._state.items()}
        return len(doomed) - len(kept)


def official_gradient(
    gradient: Float[Tensor, "B N 2"], visible: Bool[Tensor, "B N"]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Per Gaussian the length of its summed gradient over that of the vector of all visible lengths, and 1 if seen.

    Source: Head3DGSLKs.py:269-276; gaussian_flame_model.py:612-623 (`F.normalize(grads, dim=0)`).
    """
    seen = visible.any(0)
    lengths = torch.linalg.vector_norm(gradient.nan_to_num(nan=0.0).sum(0), dim=-1) * seen
    return torch.nn.functional.normalize(lengths, dim=0), seen.to(lengths.dtype)
