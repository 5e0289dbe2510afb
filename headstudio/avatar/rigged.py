"""FLAME-based 3D Gaussian splatting: Gaussians that live on the triangles of a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from headstudio.avatar.frames import Frames, matrix_to_quaternion, quaternion_multiply, triangle_frames
from headstudio.avatar.gaussians import PER_GAUSSIAN as PER_GAUSSIAN
from headstudio.avatar.gaussians import GaussianAvatar, start_values
from headstudio.avatar.init import Initialisation, to_local
from headstudio.errors import UserError
from headstudio.head.model import HeadModel
from headstudio.types import Gaussians, Pose, PosedHead


class RiggedGaussians(GaussianAvatar):
    """N Gaussians, each in the frame of one triangle of a head, and the head's learnable shape.

    The parameters are local: `means` (N, 3) and exp(`log_scales`) (N, 3) in units of the root of the triangle's
    area, `quats` (N, 4) wxyz of any length, `color_logits` (N, 3) and `opacity_logits` (N,) before a sigmoid,
    `shape` (S,). The buffer `triangle` (N,) names the triangle. `state_dict` holds exactly these seven, whatever
    N has become; the head is not in it. The trainer freezes the shape by `shape.requires_grad_(False)`; the head
    and the frames are then evaluated without a graph.

    Args:
        head: the head that carries them; becomes a submodule, so that `.to(device)` moves both.
        generator: draws the starting points.
        init: places the first Gaussians on the head at rest with zero shape.
        initial_color: RGB in (0, 1).
        initial_opacity: in (0, 1).

    Raises:
        UserError: when a starting colour or opacity is not inside (0, 1).
    """

    others = ("shape",)
    carried_names = ("triangle",)

    shape: nn.Parameter
    triangle: Tensor

    def __init__(
        self,
        head: HeadModel,
        generator: torch.Generator,
        *,
        init: Initialisation,
        initial_color: tuple[float, float, float],
        initial_opacity: float,
    ) -> None:
        super().__init__()
        self.head = head
        rest = head.v_template
        seeds = init(rest, head.faces, generator)
        means, scales = to_local(seeds, triangle_frames(rest[None], head.faces))
        start = start_values(scales, initial_color, initial_opacity)
        self.replace_gaussians({"means": means, **start, "triangle": seeds.triangle})
        self.shape = nn.Parameter(rest.new_zeros(head.num_shape))

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise UserError unless `state` holds the seven tensors of one avatar on this head."""
        super().check_state(state)
        triangle, faces = state["triangle"], len(self.head.faces)
        if tuple(state["shape"].shape) != (self.head.num_shape,):
            raise UserError(
                f"The saved avatar has {len(state['shape'])} shape values but this head has {self.head.num_shape}: "
                "use the head and head.num_shape that it was made with."
            )
        if len(triangle) and not (int(triangle.min()) >= 0 and int(triangle.max()) < faces):
            raise UserError(
                f"The saved avatar sits on {int(triangle.max()) + 1} triangles but this head has {faces}: "
                "use the head that it was made with."
            )

    @property
    def fewest_gaussians(self) -> int:
        """One per triangle of the head."""
        return len(self.head.faces)

    def spared(self, doomed: Bool[Tensor, " N"], preference: Float[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """Which of the doomed Gaussians really go: of every triangle that would lose all, the preferred one stays."""
        triangle = self.triangle
        survivors = torch.zeros(len(self.head.faces), dtype=torch.bool, device=triangle.device)
        survivors[triangle[~doomed]] = True
        order = torch.argsort(preference, descending=True, stable=True)
        order = order[torch.argsort(triangle[order], stable=True)]  # by triangle, the preferred one first
        first = torch.ones_like(order, dtype=torch.bool)
        first[1:] = triangle[order][1:] != triangle[order][:-1]
        saved = order[first]
        doomed = doomed.clone()
        doomed[saved[~survivors[triangle[saved]]]] = False
        return doomed

    def pose(self, pose: Pose) -> tuple[PosedHead, Frames, Gaussians]:
        """The head at P poses, its triangles' frames, and the Gaussians in the world. Evaluates the head once.

        r' = R r, mu' = sqrt(S) R mu + T, s' = sqrt(S) s.
        Source: paper Eq. 5-7. Unlike the official code, R has the axes as columns and turns the Gaussians too.
        """
        posed = self.head(self.shape, pose)
        frames = triangle_frames(posed.vertices, self.head.faces)
        gaussians = Gaussians(
            *self._to_world(frames),
            opacities=self.opacity_logits.sigmoid(),
            colors=self.color_logits.sigmoid(),
        )
        return posed, frames, gaussians

    def _to_world(
        self, frames: Frames
    ) -> tuple[Float[Tensor, "P N 3"], Float[Tensor, "P N 4"], Float[Tensor, "P N 3"]]:
        """Means, quaternions and scales by Eq. 6, 5 and 7.

        Everything that a Gaussian needs of its triangle is gathered at once, components first: rows of N numbers
        are what a CPU adds and multiplies fastest.
        """
        poses, faces = frames.area.shape
        root = frames.area.sqrt()
        packed = torch.cat(
            (
                (root[..., None, None] * frames.rotation).permute(3, 2, 0, 1).reshape(9, poses, faces),
                frames.origin.permute(2, 0, 1),
                matrix_to_quaternion(frames.rotation).permute(2, 0, 1),
                root[None],
            )
        )
        mine = packed.reshape(-1, faces).index_select(1, self.triangle).reshape(17, poses, -1)
        linear, origin, turn, size = mine.split((9, 3, 4, 1))
        first, second, third = linear.split(3)  # the columns of sqrt(S) R
        x, y, z = self.means.T.contiguous()
        means = first * x + second * y + third * z + origin
        quats = quaternion_multiply(turn.permute(1, 2, 0), normalize(self.quats, dim=-1))
        return means.permute(1, 2, 0).contiguous(), quats, size[0, ..., None] * self.log_scales.exp()

    @torch.no_grad()
    def rest_scales(self) -> Float[Tensor, "N 3"]:
        """Standard deviations in world units on the head at rest with its present shape."""
        posed = self.head(self.shape, self.head.neutral_pose())
        area = triangle_frames(posed.vertices, self.head.faces).area[0]
        return area.sqrt().index_select(0, self.triangle)[:, None] * self.log_scales.exp()
