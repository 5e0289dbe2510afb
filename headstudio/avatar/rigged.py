"""FLAME-based 3D Gaussian splatting: Gaussians that live on the triangles of a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from headstudio.avatar.frames import Frames, matrix_to_quaternion, quaternion_multiply, triangle_frames
from headstudio.avatar.init import Initialisation, to_local
from headstudio.errors import UserError
from headstudio.head.model import HeadModel
from headstudio.types import Gaussians, Pose, PosedHead

WIDTHS = {"means": 3, "log_scales": 3, "quats": 4, "color_logits": 3, "opacity_logits": 0}
PER_GAUSSIAN = tuple(WIDTHS)


class RiggedGaussians(nn.Module):
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

    means: nn.Parameter
    log_scales: nn.Parameter
    quats: nn.Parameter
    color_logits: nn.Parameter
    opacity_logits: nn.Parameter
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
        color = torch.tensor(list(initial_color), dtype=head.v_template.dtype)
        opacity = torch.tensor(initial_opacity, dtype=head.v_template.dtype)
        for key, value in (("initial_color", color), ("initial_opacity", opacity)):
            if not bool(((value > 0) & (value < 1)).all()):
                raise UserError(f"representation.{key}={value.tolist()} is not possible: it must lie between 0 and 1.")
        if color.shape != (3,):
            raise UserError(f"representation.initial_color={color.tolist()} is not possible: it has three values.")
        self.head = head
        rest = head.v_template
        seeds = init(rest, head.faces, generator)
        means, scales = to_local(seeds, triangle_frames(rest[None], head.faces))
        count = len(means)
        self._adopt(
            {
                "means": means,
                "log_scales": scales.log()[:, None].repeat(1, 3),
                "quats": rest.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
                "color_logits": torch.logit(color).to(rest).repeat(count, 1),
                "opacity_logits": torch.logit(opacity).to(rest).repeat(count),
                "triangle": seeds.triangle,
            }
        )
        self.shape = nn.Parameter(rest.new_zeros(head.num_shape))

    @classmethod
    def from_state(cls, head: HeadModel, state: Mapping[str, Tensor]) -> RiggedGaussians:
        """An avatar from a `state_dict` alone, of whatever size it was saved. Raises as `load_state_dict`."""
        avatar = cls.__new__(cls)
        nn.Module.__init__(avatar)
        avatar.head = head
        _check_state(head, state)
        avatar._adopt({name: value.to(head.v_template) for name, value in state.items()})
        avatar.shape = nn.Parameter(state["shape"].detach().to(head.v_template).clone())
        return avatar

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take the values of a checkpoint, and its number of Gaussians.

        A change of number makes new parameters, so load the avatar first and then build its optimiser.

        Raises:
            UserError: when a tensor is missing, or does not fit this head.
        """
        _check_state(self.head, state_dict)
        if len(state_dict["triangle"]) != self.num_gaussians:
            self._adopt({name: value.to(self.means) for name, value in state_dict.items()})
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def _adopt(self, values: Mapping[str, Tensor]) -> None:
        for name in PER_GAUSSIAN:
            setattr(self, name, nn.Parameter(values[name].detach().clone()))
        self.register_buffer("triangle", values["triangle"].detach().to(torch.int64).clone())

    @property
    def num_gaussians(self) -> int:
        return len(self.triangle)

    def replace_gaussians(self, values: Mapping[str, Tensor], triangle: Int[Tensor, " M"]) -> None:
        """Put M Gaussians in the place of the N.

        All parameters but `shape` are new objects afterwards: whoever holds an optimiser must follow.
        """
        self._adopt({**values, "triangle": triangle})

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


def _check_state(head: HeadModel, state: Mapping[str, Any]) -> None:
    """Raise UserError unless `state` holds the seven tensors of one avatar on this head."""
    wanted = {*PER_GAUSSIAN, "shape", "triangle"}
    if set(state) != wanted:
        raise UserError(f"The saved avatar has {sorted(state)} where an avatar has {sorted(wanted)}.")
    triangle, count = state["triangle"], len(state["triangle"])
    for name, width in WIDTHS.items():
        shape = (count, width) if width else (count,)
        if tuple(state[name].shape) != shape:
            raise UserError(f"The saved avatar's {name} has shape {tuple(state[name].shape)} instead of {shape}.")
    if tuple(state["shape"].shape) != (head.num_shape,):
        raise UserError(
            f"The saved avatar has {len(state['shape'])} shape values but this head has {head.num_shape}: "
            "use the head and head.num_shape that it was made with."
        )
    if count and not (int(triangle.min()) >= 0 and int(triangle.max()) < len(head.faces)):
        raise UserError(
            f"The saved avatar sits on {int(triangle.max()) + 1} triangles but this head has {len(head.faces)}: "
            "use the head that it was made with."
        )
