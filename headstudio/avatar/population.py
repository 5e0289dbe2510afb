"""Births and deaths of Gaussians: the avatar's parameters and the optimiser's moments change together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headstudio.avatar.frames import quaternion_to_matrix
from headstudio.avatar.gaussians import PER_GAUSSIAN, GaussianAvatar

CHILDREN = 2  # of a split Gaussian
SHRINK = 0.8 * CHILDREN  # by which a child is smaller than its parent; both from 3DGS


def prune(
    avatar: GaussianAvatar,
    optimizer: torch.optim.Optimizer,
    *,
    doomed: Bool[Tensor, " N"],
    preference: Float[Tensor, " N"] | None,
) -> Int[Tensor, " M"]:
    """Remove the doomed Gaussians and return the old indices of those that stay, in order.

    Where all Gaussians of a triangle (without a rig: all) are doomed, the one with the largest `preference` (then the
    first) stays; without a `preference` it goes too.
    """
    if preference is not None:
        doomed = avatar.spared(doomed, preference)
    kept = torch.nonzero(~doomed)[:, 0]
    if len(kept) < len(doomed):
        _replace(avatar, optimizer, kept, {})
    return kept


def grow(
    avatar: GaussianAvatar,
    optimizer: torch.optim.Optimizer,
    clone: Int[Tensor, " C"],
    split: Int[Tensor, " D"],
    generator: torch.Generator,
    *,
    spread: float = 1.0,
) -> None:
    """Copy the Gaussians `clone`, and put two smaller ones, drawn from it, in the place of each in `split`.

    Everything happens in the frame of the parameters, which Eq. 5-7 map to the world by a similarity. `spread` is the
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
    stays = torch.ones(avatar.num_gaussians, dtype=torch.bool, device=avatar.means.device)
    stays[split] = False
    born |= {name: value[source] for name, value in avatar.carried.items()}
    _replace(avatar, optimizer, torch.nonzero(stays)[:, 0], born)


def _replace(
    avatar: GaussianAvatar, optimizer: torch.optim.Optimizer, kept: Int[Tensor, " K"], born: Mapping[str, Tensor]
) -> None:
    """Keep the Gaussians `kept`, append `born`, and let the optimiser's per-Gaussian state follow."""
    old = {name: getattr(avatar, name) for name in PER_GAUSSIAN}

    def follow(value: Tensor, appended: Tensor | None) -> Tensor:
        return value.detach()[kept] if appended is None else torch.cat((value.detach()[kept], appended))

    avatar.replace_gaussians({name: follow(value, born.get(name)) for name, value in {**old, **avatar.carried}.items()})
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
