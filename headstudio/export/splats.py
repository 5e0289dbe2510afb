"""An avatar's Gaussians at one pose as arrays, in the axes of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstudio.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float

    from headstudio.export.axes import Axes
    from headstudio.types import Pose

SH_DEGREE_0 = 0.28209479177387814  # the constant basis function: rgb = 0.5 + SH_DEGREE_0 * f_dc
LARGEST_LOGIT = 15.0  # of an opacity of 1; further out, readers that take 1 - exp(-x) in float32 have nothing to divide

PROPERTIES: tuple[str, ...] = ("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity")
PROPERTIES += ("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")


@dataclass(frozen=True)
class Splats:
    """N Gaussians, float32: what every viewer of 3DGS scenes reads.

    `means` and `log_scales` (natural logarithms of standard deviations) are in world units, `quats` are unit (wxyz),
    `opacities` logits within `LARGEST_LOGIT`, `colors` RGB in [0, 1].
    """

    means: Float[np.ndarray, "N 3"]
    quats: Float[np.ndarray, "N 4"]
    log_scales: Float[np.ndarray, "N 3"]
    opacities: Float[np.ndarray, " N"]
    colors: Float[np.ndarray, "N 3"]

    def __len__(self) -> int:
        return len(self.means)

    @property
    def f_dc(self) -> Float[np.ndarray, "N 3"]:
        """Degree 0 of the spherical harmonics; there are no further ones, as the colours depend on no direction."""
        return ((self.colors - 0.5) / SH_DEGREE_0).astype(np.float32)

    def columns(self) -> dict[str, np.ndarray]:
        """`PROPERTIES` of a PLY of 3DGS, with normals of zero as there."""
        parts = (
            self.means,
            np.zeros_like(self.means),
            self.f_dc,
            self.opacities[:, None],
            self.log_scales,
            self.quats,
        )
        return dict(zip(PROPERTIES, np.concatenate(parts, axis=-1).astype("<f4").T, strict=True))


def splats_of(avatar: Any, pose: Pose, axes: Axes) -> Splats:
    """The Gaussians of a `GaussianAvatar` at one pose (P = 1), turned into the file's axes."""
    import torch

    with torch.no_grad():
        world = avatar.pose(pose.to(avatar.head.v_template.device))[2]
        unit = torch.nn.functional.normalize(world.quats[0], dim=-1)
        logits = avatar.opacity_logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        fields = (world.means[0], unit, world.scales[0].log(), logits, world.colors)
        means, quats, log_scales, opacities, colors = (field.cpu().float().numpy() for field in fields)
    return Splats(axes.points(means), axes.quaternions(quats), log_scales, opacities, colors)


def check_has_gaussians(avatar: Any) -> None:
    """Raises UserError for a representation without Gaussians."""
    from headstudio.avatar.gaussians import GaussianAvatar

    if not isinstance(avatar, GaussianAvatar):
        raise UserError(
            "This run's representation=textured_mesh has no Gaussians; take --format glb, or its avatar.ply, a "
            "mesh that MeshLab and Blender read."
        )


def check_moves(avatar: Any, option: str) -> None:
    """Raises UserError for a representation that no pose changes.

    Args:
        avatar: the representation.
        option: what was asked for, as the command line has it.
    """
    from headstudio.avatar.static import StaticGaussians

    if isinstance(avatar, StaticGaussians):
        raise UserError(
            f"{option}: this run's representation=static_gaussians has no rig and stays as it is; "
            "leave that out and take ply, splat or spz."
        )
