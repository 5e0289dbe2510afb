"""More Gaussians where the guidance pulls hardest, fewer where they show nothing: the option group `densify`.

3DGS's adaptive density control with HumanGaussian's schedule (densify and prune, then a phase that only prunes)
and the paper's changes: a normalised gradient, and children that inherit their parent's triangle.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headstudio.avatar.gaussians import GaussianAvatar
from headstudio.avatar.population import grow, prune
from headstudio.errors import UserError
from headstudio.types import Render

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """What one densification did; `count` is the number of Gaussians afterwards."""

    cloned: int
    split: int
    pruned: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Every:
    """The steps `first`, `first` + `interval`, ... up to and including `last`; never, if `last` is below `first`.

    Raises:
        UserError: when `interval` is below 1.
    """

    first: int
    last: int
    interval: int

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise UserError(f"A densification interval of {self.interval} steps is not possible: it is at least 1.")

    def __call__(self, step: int) -> bool:
        return self.first <= step <= self.last and (step - self.first) % self.interval == 0


class Densification(Protocol):
    """What an option of the group `densify` is; each works on the representations that accept it."""

    def check(self, avatar: Any) -> None: ...

    def step(
        self,
        avatar: Any,
        optimizer: torch.optim.Optimizer,
        render: Render,
        step: int,
        generator: torch.Generator,
    ) -> Change | None: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class Densifier:
    """Clones, splits and prunes the Gaussians of an avatar, within a budget, one per triangle at the least.

    Every step adds to two numbers per Gaussian, and `gradient_threshold` is compared with their quotient: the sum
    of its normalised gradients and the number of pictures that saw it. The normalised gradient in one picture is
    the length of the loss's gradient with respect to its 2D mean, divided by the root mean square of these
    lengths over all Gaussians that the picture sees. So 1 is typical, whatever the prompt, the noise level, the
    resolution and the number of Gaussians: if every Gaussian is doubled and carries half of the gradient, nothing
    changes. (The official code divides by the root of the sum of squares, so that its typical value falls with
    the root of N, and adds up views as vectors, which may cancel.)

    A Gaussian above the threshold is cloned if it is small and split in two if it is large, the strongest first
    while the budget lasts. Gaussians that are nearly transparent or too large are pruned, but the last one of a
    triangle stays. Sizes are the largest standard deviation on the head at rest, so they do not depend on the
    pose that a step happened to draw.

    Args:
        grow: when to clone, split and prune; the statistics start afresh after each.
        prune: when to prune only.
        gradient_threshold: in units of the typical gradient.
        split_scale: world units; larger Gaussians are split, others cloned.
        max_scale: world units; larger Gaussians are pruned.
        min_opacity: Gaussians below it are pruned when `grow` fires.
        prune_min_opacity: the same, when `prune` fires.
        max_gaussians: the budget.

    Source: paper section 4.4; 3DGS (Kerbl et al. 2023) section 5.2; HumanGaussian's schedule.
    """

    def __init__(
        self,
        *,
        grow: Every,
        prune: Every,
        gradient_threshold: float,
        split_scale: float,
        max_scale: float,
        min_opacity: float,
        prune_min_opacity: float,
        max_gaussians: int,
    ) -> None:
        self.grow, self.prune = grow, prune
        self.gradient_threshold = gradient_threshold
        self.split_scale, self.max_scale = split_scale, max_scale
        self.min_opacity, self.prune_min_opacity = min_opacity, prune_min_opacity
        self.max_gaussians = max_gaussians
        self._gradient: Tensor | None = None
        self._seen: Tensor | None = None

    def check(self, avatar: GaussianAvatar) -> None:
        """Raises UserError when the budget cannot hold one Gaussian per triangle, or not even the first ones."""
        triangles = avatar.fewest_gaussians
        if self.max_gaussians < triangles:
            raise UserError(
                f"densify.max_gaussians={self.max_gaussians} is below the head's {triangles} triangles: "
                "every triangle keeps at least one Gaussian, so allow at least that many."
            )
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
        """Read the gradients of step `step` and, where it is due, change the Gaussians; call after the optimiser.

        The optimiser's groups are found by their names; its moments follow their Gaussians and start at zero for
        new ones. Returns what changed, or None.

        Raises:
            UserError: on the first call, as `check`.
            ValueError: when `render` has no gradients or another number of Gaussians than the avatar.
        """
        if self._gradient is None:
            self.check(avatar)
        if step <= self.grow.last:
            self._observe(avatar.num_gaussians, render)
        if self.grow(step):
            change = self._grow_and_prune(avatar, optimizer, generator)
        elif self.prune(step):
            change = self._prune_only(avatar, optimizer)
        else:
            return None
        self._gradient = self._seen = None
        log.info(
            "Step %d: %d Gaussians cloned, %d split, %d pruned; now %d",
            *(step, change.cloned, change.split, change.pruned, change.count),
        )
        return change

    def state_dict(self) -> dict[str, Tensor]:
        """The statistics since the last change; empty when there are none yet."""
        if self._gradient is None or self._seen is None:
            return {}
        return {"gradient": self._gradient, "seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._gradient = state["gradient"].clone() if state else None
        self._seen = state["seen"].clone() if state else None

    def _observe(self, count: int, render: Render) -> None:
        if render.means2d.grad is None or render.means2d.shape[1] != count:
            raise ValueError("densify needs the step's render after backward, with the avatar's own Gaussians")
        lengths, seen = normalised_gradient(render.means2d.grad, render.radii > 0)
        if self._gradient is None or self._seen is None:
            self._gradient, self._seen = torch.zeros_like(lengths), torch.zeros_like(lengths)
        self._gradient += lengths
        self._seen += seen

    def _grow_and_prune(
        self, avatar: GaussianAvatar, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> Change:
        assert self._gradient is not None
        assert self._seen is not None
        score = self._gradient / self._seen.clamp_min(1)
        kept = self._prune_transparent(avatar, optimizer, self.min_opacity)
        pruned = len(score) - len(kept)
        score = score[kept]
        ranked = torch.argsort(score, descending=True, stable=True)
        chosen = ranked[: self.max_gaussians - avatar.num_gaussians]
        chosen = chosen[score[chosen] >= self.gradient_threshold]
        large = avatar.rest_scales().amax(1)[chosen] > self.split_scale
        clone, split = chosen[~large].sort().values, chosen[large].sort().values
        grow(avatar, optimizer, clone, split, generator)
        before = avatar.num_gaussians
        self._prune_large(avatar, optimizer)
        pruned += before - avatar.num_gaussians
        return Change(len(clone), len(split), pruned, avatar.num_gaussians)

    def _prune_only(self, avatar: GaussianAvatar, optimizer: torch.optim.Optimizer) -> Change:
        before = avatar.num_gaussians
        self._prune_transparent(avatar, optimizer, self.prune_min_opacity)
        self._prune_large(avatar, optimizer)
        return Change(0, 0, before - avatar.num_gaussians, avatar.num_gaussians)

    def _prune_transparent(
        self, avatar: GaussianAvatar, optimizer: torch.optim.Optimizer, lowest: float
    ) -> Int[Tensor, " M"]:
        opacity = avatar.opacity_logits.sigmoid()
        return prune(avatar, optimizer, doomed=opacity < lowest, preference=opacity)

    def _prune_large(self, avatar: GaussianAvatar, optimizer: torch.optim.Optimizer) -> Int[Tensor, " M"]:
        size = avatar.rest_scales().amax(1)
        return prune(avatar, optimizer, doomed=size > self.max_scale, preference=-size)


class NoDensification:
    """The Gaussians of the initialisation stay as many as they are."""

    def check(self, avatar: GaussianAvatar) -> None:
        """Nothing to check."""

    def step(
        self,
        avatar: GaussianAvatar,
        optimizer: torch.optim.Optimizer,
        render: Render,
        step: int,
        generator: torch.Generator,
    ) -> None:
        """Change nothing."""

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to load."""


def normalised_gradient(
    gradient: Float[Tensor, "B N 2"], visible: Bool[Tensor, "B N"]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Per Gaussian the sum over pictures of its normalised gradient (see `Densifier`), and how many saw it.

    A picture in which no visible Gaussian has a gradient adds zeros.
    """
    lengths = torch.linalg.vector_norm(gradient, dim=-1) * visible
    typical = (lengths.square().sum(1) / visible.sum(1).clamp_min(1)).sqrt()[:, None]
    normalised = torch.where(typical > 0, lengths / typical.clamp_min(torch.finfo(lengths.dtype).tiny), 0.0)
    return normalised.sum(0), visible.sum(0).to(lengths.dtype)
