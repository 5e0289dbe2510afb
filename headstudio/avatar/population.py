"""Births and deaths of Gaussians: the avatar's parameters and the optimiser's moments change together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headstudio.avatar.frames import quaternion_to_matrix
from headstudio.avatar.rigged import PER_GAUSSIAN, RiggedGaussians

CHILDREN = 2  # of a split Gaussian
SHRINK = 0.8 * CHILDREN  # by which a child is smaller than its parent; both from 3DGS


def prune(
    avatar: RiggedGaussians,
    optimizer: torch.optim.Optimizer,
    *,
    doomed: Bool[Tensor, " N"],
    preference: Float[Tensor, " N"] | None,
) -> Int[Tensor, " M"]:
    """Remove the doomed Gaussians and return the old indices of those that stay, in order.

    Where all Gaussians of a triangle are doomed, the one with the largest `preference` (then the first) stays;
    without a `preference` it goes too.
    """
    if preference is not None:
        doomed = _spare_one_per_triangle(avatar, doomed, preference)
    kept = torch.nonzero(~doomed)[:, 0]
    if len(kept) < len(doomed):
        _replace(avatar, optimizer, kept, {})
    return kept


def _spare_one_per_triangle(
    avatar: RiggedGaussians, doomed: Bool[Tensor, " N"], preference: Float[Tensor, " N"]
) -> Bool[Tensor, " N"]:
    triangle = avatar.triangle
    survivors = torch.zeros(len(avatar.head.faces), dtype=torch.bool, device=triangle.device)
    survivors[triangle[~doomed]] = True
    order = torch.argsort(preference, descending=True, stable=True)
    order = order[torch.argsort(triangle[order], stable=True)]  # by triangle, the preferred one first
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = triangle[order][1:] != triangle[order][:-1]
    saved = order[first]
    doomed = doomed.clone()
    doomed[saved[~survivors[triangle[saved]]]] = False
    return doomed


def grow(
    avatar: RiggedGaussians,
    optimizer: torch.optim.Optimizer,
    clone: Int[Tensor, " C"],
    split: Int[Tensor, " D"],
    generator: torch.Generator,
    *,
    spread: float = 1.0,
) -> None:
    """Copy the Gaussians `clone`, and put two smaller ones, drawn from it, in the place of each in `split`.

    Everything happens in the triangle's frame, which Eq. 5-7 map to the world by a similarity. `spread` is the
    standard deviation of the children's places in units of their parent's.
    The result: those that were not split, in order, then the copies, then the children.
    """
    if not len(clone) + len(split):
        return
    parents = split.repeat_interleave(CHILDREN)
    source = torch.cat((clone, parents))
    born = {name: getattr(avatar, name).detach()[source].clone() for name in PER_GAUSSIAN}
    noise = torch.randn(len(parents), 3, generator=generator).to(avatar.means)
    offset = noise * (spread * avatar.log_scales[parents].exp())
    turned = (quaternion_to_matrix(avatar.quats[parents]) @ offset[..., None])[..., 0]
    born["means"][len(clone) :] += turned
    born["log_scales"][len(clone) :] -= torch.log(torch.tensor(SHRINK)).to(avatar.means)
    stays = torch.ones_like(avatar.triangle, dtype=torch.bool)
    stays[split] = False
    born_triangle = avatar.triangle[source]
    _replace(avatar, optimizer, torch.nonzero(stays)[:, 0], {**born, "triangle": born_triangle})


def _replace(
    avatar: RiggedGaussians, optimizer: torch.optim.Optimizer, kept: Int[Tensor, " K"], born: Mapping[str, Tensor]
) -> None:
    """Keep the Gaussians `kept`, append `born`, and let the optimiser's per-Gaussian state follow."""
    old = {name: getattr(avatar, name) for name in PER_GAUSSIAN}

    def follow(value: Tensor, appended: Tensor | None) -> Tensor:
        return value.detach()[kept] if appended is None else torch.cat((value.detach()[kept], appended))

    avatar.replace_gaussians(
        {name: follow(value, born.get(name)) for name, value in old.items()},
        follow(avatar.triangle, born.get("triangle")),
    )
    groups = {group.get("name"): group for group in optimizer.param_groups}
    for name, parameter in old.items():
        if name not in groups or groups[name]["params"][0] is not parameter:
            raise ValueError(f"the optimiser has no group named {name} that holds the avatar's {name}")
        zeros = torch.zeros_like(born[name]) if name in born else None
        groups[name]["params"] = [getattr(avatar, name)]
        state = optimizer.state.pop(parameter, None)
        if state is not None:
            optimizer.state[getattr(avatar, name)] = {
                key: follow(value, zeros) if isinstance(value, Tensor) and value.shape == parameter.shape else value
                for key, value in state.items()
            }
