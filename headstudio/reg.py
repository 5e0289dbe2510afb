"""Mesh regularisation, Eq. 8-10: how far a Gaussian may leave its triangle, and how big it may grow.

How `max(., tau)` is read. Eq. 8 and 9 penalise the norm of max(x, tau), where x is the distance (or the scale) in
world units. Below tau its gradient is zero, above it that of x. The hinge max(x - tau, 0) has the same gradients,
and its value is 0 where nothing is wrong, so a loss curve shows violations and not the sum of all tolerances. The
offset tau changes nothing but the value, and inside an outer norm over several numbers it would let those that
are within their tolerance dilute those that are not. So we take the hinge.

How the norms are read. Eq. 10 divides by the root of a triangle's area, so Eq. 8 and 9 are values of one Gaussian:
the outer norm runs over what one Gaussian has, one number for the position and three for the scale. A loss is the
mean over poses and the *sum* over Gaussians: the pull on one Gaussian then stays the same when others are cloned.
(The official code takes a mean over the violators, smooth L1 for the position, and divides by S:
`OfficialRegularisation`.)

What a length is. Eq. 10 divides by a root of an area, so the strength of `scaled` against `strict` depends on the unit
of length, which the paper does not give: `length_unit` is that unit. On a triangle of this size (the root of its area)
both options pull equally; on larger ones `scaled` pulls less than `strict`, on smaller ones more.

The triangle is measured, not taught: area and tau are detached, or the shape could buy room by growing. (The official
code detaches neither the area nor its root.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from headstudio.avatar.frames import Frames
from headstudio.errors import UserError
from headstudio.schedule import Schedule, as_schedule

if TYPE_CHECKING:
    from headstudio.avatar.rigged import RiggedGaussians


class Regularisation(Protocol):
    """What an option of the group `reg` is: named loss terms, already weighted, to be added.

    Each works on the representations that accept it (`Representation.regularisation`).
    """

    def __call__(self, avatar: Any, frames: Frames, step: int) -> dict[str, Tensor]: ...


def position_excess(
    means: Float[Tensor, "N 3"], root_area: Float[Tensor, "P N"], tolerance: Float[Tensor, "P N"]
) -> Float[Tensor, "P N"]:
    """Eq. 8: how much further than `tolerance` each Gaussian is from the middle of its triangle, world units.

    `means` are local. The rotation of Eq. 8 is left out: it does not change a length.
    """
    return torch.relu(root_area * torch.linalg.vector_norm(means, dim=-1) - tolerance)


def scale_excess(
    scales: Float[Tensor, "N 3"], root_area: Float[Tensor, "P N"], tolerance: Float[Tensor, "P N"]
) -> Float[Tensor, "P N"]:
    """Eq. 9: norm over the axes of how much larger than `tolerance` each local scale is, world units."""
    return torch.linalg.vector_norm(torch.relu(root_area[..., None] * scales - tolerance[..., None]), dim=-1)


def sparsity(alpha: Float[Tensor, "B 1 H W"]) -> Float[Tensor, ""]:
    """Mean opacity of the pixels.

    A Gaussian that has taken the background's colour shows no difference to the prior, so nothing else makes it go;
    where a colour matters, the guidance outweighs this by far.
    Source: `loss_sparsity` of threestudio, which smooths it near 0 (the root of a^2 + 0.01), and of the official code,
    which applies that to a depth.
    """
    return alpha.mean()


@dataclass(frozen=True, kw_only=True)
class MeshRegularisation:
    """Eq. 10, with the factor 1/sqrt(S) when `scaled`, without it (the paper's strict ablation) when not.

    Args:
        lambda_pos, lambda_scale: weights, or schedules of them (the official code starts the position's late);
            0.1 and 0.1 in the paper.
        length_unit: world units in which Eq. 8-10 measure lengths and roots of areas.
        tolerance_pos, tolerance_scale: tau_pos and tau_s in units of the triangle's tau; 0.5 and 0.5 in the paper.
        scaled: divide by the root of the triangle's area, which frees the large triangles (scalp, jaw, neck)
            relative to the small ones (lids, lips).

    Raises:
        UserError: when a number is negative.
    """

    lambda_pos: float | Schedule
    lambda_scale: float | Schedule
    tolerance_pos: float
    tolerance_scale: float
    length_unit: float
    scaled: bool

    def __post_init__(self) -> None:
        if not self.length_unit > 0:
            raise UserError(f"reg.length_unit={self.length_unit:g} is not possible: it must be more than 0.")
        _refuse_negative(self)

    def __call__(self, avatar: RiggedGaussians, frames: Frames, step: int) -> dict[str, Tensor]:
        """{"reg_position": ..., "reg_scale": ...}: scalars, for the triangles of the present poses."""
        root = frames.area.detach().index_select(1, avatar.triangle).sqrt()
        reach = frames.reach.detach().index_select(1, avatar.triangle)
        position = position_excess(avatar.means, root, self.tolerance_pos * reach)
        scale = scale_excess(avatar.log_scales.exp(), root, self.tolerance_scale * reach)
        unit: float | Tensor = root if self.scaled else self.length_unit
        position, scale = position / unit, scale / unit
        return {
            "reg_position": as_schedule(self.lambda_pos)(step) * position.sum(1).mean(),
            "reg_scale": as_schedule(self.lambda_scale)(step) * scale.sum(1).mean(),
        }


@dataclass(frozen=True, kw_only=True)
class OfficialRegularisation:
    """What the released code does in the place of Eq. 8-10.

    Over all Gaussians that lie further from the middle of their triangle than `tolerance_pos` tau: the mean of
    h(distance), h(x) = x^2 / 2 below 1 and x - 1/2 above. Over all scale components larger than `tolerance_scale` tau:
    the mean of the component. Both count the whole length, not what exceeds the tolerance, and the mean over violators
    pulls each of them less, the more there are. Where nothing is wrong the loss is 0.

    Args:
        lambda_pos, lambda_scale: weights or schedules of them; official 0 before step 2400 and then 0.1, and 0.1.
        tolerance_pos, tolerance_scale: in units of the triangle's tau; official 0.5 and 0.5.
        divide_by_area: divide each length's loss by the triangle's area S, where the paper has its root (official
            `area_relax`, which is on in every shipped command).
        detach_area: keep the gradient of these losses from the head's shape (official: no).

    Raises:
        UserError: when a number is negative.

    Source: Head3DGSLKs.py:78-85, 217-239.
    """

    lambda_pos: float | Schedule
    lambda_scale: float | Schedule
    tolerance_pos: float
    tolerance_scale: float
    divide_by_area: bool
    detach_area: bool

    def __post_init__(self) -> None:
        _refuse_negative(self)

    def __call__(self, avatar: RiggedGaussians, frames: Frames, step: int) -> dict[str, Tensor]:
        """{"reg_position": ..., "reg_scale": ...}: scalars, for the triangles of the present poses."""
        area = (frames.area.detach() if self.detach_area else frames.area).index_select(1, avatar.triangle)
        reach = frames.reach.detach().index_select(1, avatar.triangle)
        distance = area.sqrt() * torch.linalg.vector_norm(avatar.means, dim=-1)
        scale = area.sqrt()[..., None] * avatar.log_scales.exp()
        unit = area if self.divide_by_area else torch.ones_like(area)
        too_far, too_big = distance > self.tolerance_pos * reach, scale > self.tolerance_scale * reach[..., None]
        far = torch.nn.functional.smooth_l1_loss(distance, torch.zeros_like(distance), reduction="none") / unit
        return {
            "reg_position": as_schedule(self.lambda_pos)(step) * _mean_where(too_far, far),
            "reg_scale": as_schedule(self.lambda_scale)(step) * _mean_where(too_big, scale / unit[..., None]),
        }


def _mean_where(mask: Tensor, values: Tensor) -> Tensor:
    """Mean of the values under the mask; 0 where it is empty (the official code's is not a number there)."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)


def _refuse_negative(reg: MeshRegularisation | OfficialRegularisation) -> None:
    for name in ("lambda_pos", "lambda_scale", "tolerance_pos", "tolerance_scale"):
        value = as_schedule(getattr(reg, name))(0)
        if value < 0:
            raise UserError(f"reg.{name}={value:g} is not possible: it must be 0 or more.")


@dataclass(frozen=True, kw_only=True)
class NoRegularisation:
    """No terms: Gaussians may go where the guidance pulls them."""

    def __call__(self, avatar: RiggedGaussians, frames: Frames, step: int) -> dict[str, Tensor]:
        return {}
