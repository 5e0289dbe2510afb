"""Gaussians without a rig: what text-to-3D by splatting does before anything is animated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from headstudio.avatar.frames import Frames, triangle_frames
from headstudio.avatar.gaussians import GaussianAvatar, start_values
from headstudio.avatar.init import Initialisation
from headstudio.errors import UserError
from headstudio.head.model import HeadModel
from headstudio.optim import Adam
from headstudio.reg import NoRegularisation, Regularisation
from headstudio.schedule import Schedule
from headstudio.types import Gaussians, Pose, PosedHead


class StaticGaussians(GaussianAvatar):
    """N Gaussians in the world, as in 3DGS; they stay where they are, whatever the pose.

    The head gives them their start (`init`) and the control picture of the guidance: at rest, as the Gaussians are, so
    that no picture asks for an open mouth that nothing could open. It has no shape of its own to learn, as nothing
    that is drawn would show it; mesh regularisation has no triangles to hold on to and is left out.

    The parameters are those of `WIDTHS` in world units. Densification works in world units as well; a triangle has no
    last Gaussian to be spared.

    Args:
        head: where the Gaussians begin.
        generator: draws the starting points.
        init: places the first Gaussians on the head at rest.
        initial_color: RGB in (0, 1).
        initial_opacity: in (0, 1).
        length_unit: world units in which `optim.rates.means` counts here. Rates for F-3DGS count in roots of the
            triangle's area.

    Raises:
        UserError: when a starting colour or opacity is not inside (0, 1), or the unit is not above 0.

    Source: 3DGS (Kerbl et al. 2023), section 4; as a baseline: DreamGaussian, HumanGaussian without its skeleton.
    """

    def __init__(
        self,
        head: HeadModel,
        generator: torch.Generator,
        *,
        init: Initialisation,
        initial_color: tuple[float, float, float],
        initial_opacity: float,
        length_unit: float,
    ) -> None:
        super().__init__()
        self.head, self.length_unit = head, checked_unit(length_unit)
        seeds = init(head.v_template, head.faces, generator)
        self.replace_gaussians({"means": seeds.points, **start_values(seeds.scales, initial_color, initial_opacity)})

    @property
    def shape(self) -> Float[Tensor, " S"]:
        """The head's, as it comes: zeros. Not a parameter."""
        return self.head.v_template.new_zeros(self.head.num_shape)

    def pose(self, pose: Pose) -> tuple[PosedHead, Frames, Gaussians]:
        """The head at rest, its triangles' frames, and the Gaussians: one pose (P = 1), whatever is asked for."""
        with torch.no_grad():
            posed = self.head(self.shape, self.head.neutral_pose())
            frames = triangle_frames(posed.vertices, self.head.faces)
        gaussians = Gaussians(
            means=self.means[None],
            quats=torch.nn.functional.normalize(self.quats, dim=-1)[None],
            scales=self.log_scales.exp()[None],
            opacities=self.opacity_logits.sigmoid(),
            colors=self.color_logits.sigmoid(),
        )
        return posed, frames, gaussians

    @torch.no_grad()
    def rest_scales(self) -> Float[Tensor, "N 3"]:
        """Standard deviations in world units."""
        return self.log_scales.exp()

    def regularisation(self, given: Regularisation) -> Regularisation:
        """None: Eq. 8-10 are about the triangle that carries a Gaussian."""
        return NoRegularisation()

    def optimisation(self, given: Adam) -> Adam:
        """The given rates without the shape's; that of the means is per `length_unit`."""
        rates = {name: rate for name, rate in given.rates.items() if name != "shape"}
        if "means" in rates:
            rates["means"] = Scaled(rates["means"], self.length_unit)
        return Adam(betas=given.betas, rates=rates, eps=given.eps)


@dataclass(frozen=True)
class Scaled:
    """Another schedule's values times a number."""

    schedule: Schedule
    factor: float

    def __call__(self, step: int) -> float:
        return self.factor * self.schedule(step)


def checked_unit(length_unit: float) -> float:
    """Raises UserError unless it is above 0."""
    if not length_unit > 0:
        raise UserError(f"representation.length_unit={length_unit:g} is not possible: it must be more than 0.")
    return length_unit
