"""How Gaussians lie in avatar.ply: a file that any Gaussian splatting viewer opens.

The viewer finds the usual 3DGS properties: x y z, nx ny nz (zero), f_dc_0..2 (degree 0 of the spherical harmonics),
opacity (logit), scale_0..2 (log), rot_0..3 (wxyz). Behind them stand the parameters themselves: local_mean_0..2,
local_scale_0..2 (log), local_rot_0..3, color_logit_0..2 and, for rigged Gaussians, the triangle's index; `opacity` is
already a parameter. Everything else is in the header and not in a second element, because some web viewers take all
properties of a file for those of one vertex.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstudio.avatar.gaussians import GaussianAvatar
from headstudio.avatar.rigged import RiggedGaussians
from headstudio.avatar.static import StaticGaussians
from headstudio.export.ply import floats, has, table_of
from headstudio.export.splats import PROPERTIES, SH_DEGREE_0

if TYPE_CHECKING:
    from plyfile import PlyData, PlyElement
    from torch import Tensor

    from headstudio.head.model import HeadModel

_OWN = {
    "means": ("local_mean_0", "local_mean_1", "local_mean_2"),
    "log_scales": ("local_scale_0", "local_scale_1", "local_scale_2"),
    "quats": ("local_rot_0", "local_rot_1", "local_rot_2", "local_rot_3"),
    "color_logits": ("color_logit_0", "color_logit_1", "color_logit_2"),
}


class RiggedLayout:
    """`RiggedGaussians`. See `ply.Layout`."""

    kind, has_shape = "avatar", True
    avatars: type[GaussianAvatar] = RiggedGaussians

    def holds(self, avatar: Any) -> bool:
        return type(avatar) is self.avatars

    def write(self, avatar: GaussianAvatar) -> tuple[list[str], list[PlyElement]]:
        from plyfile import PlyElement

        columns = _viewer_columns(avatar) | _own_columns(avatar)
        return [], [PlyElement.describe(table_of(columns), "vertex")]

    def is_complete(self, ply: PlyData) -> bool:
        needed = {"opacity", *self.avatars.carried_names, *(name for names in _OWN.values() for name in names)}
        return has(ply, "vertex", needed)

    def num_gaussians(self, ply: PlyData) -> int:
        return len(ply["vertex"].data)

    def read(self, ply: PlyData, said: Mapping[str, Sequence[str]], head: HeadModel, shape: Tensor) -> GaussianAvatar:
        state = {key: floats(ply, "vertex", names) for key, names in _OWN.items()}
        state["opacity_logits"] = floats(ply, "vertex", ["opacity"])[:, 0]
        for name in self.avatars.carried_names:
            state[name] = torch.from_numpy(np.asarray(ply["vertex"][name], dtype=np.int64).copy())
        if self.has_shape:
            state["shape"] = shape
        own = head.v_template
        return self.avatars.from_state(
            head, {key: value.to(own) if value.is_floating_point() else value for key, value in state.items()}
        )


class StaticLayout(RiggedLayout):
    """`StaticGaussians`: neither triangles nor a shape; local_mean and so on are in the world."""

    kind, has_shape = "static_gaussians", False
    avatars = StaticGaussians


def _viewer_columns(avatar: GaussianAvatar) -> dict[str, np.ndarray]:
    """The properties that viewers read, in the world at the neutral pose."""
    with torch.no_grad():
        _, _, world = avatar.pose(avatar.head.neutral_pose())
        fields = torch.cat(
            (
                world.means[0],
                torch.zeros_like(world.means[0]),
                (world.colors - 0.5) / SH_DEGREE_0,
                avatar.opacity_logits[:, None],
                world.scales[0].log(),
                torch.nn.functional.normalize(world.quats[0], dim=-1),
            ),
            dim=-1,
        )
    return dict(zip(PROPERTIES, fields.cpu().numpy().astype("<f4").T, strict=True))


def _own_columns(avatar: GaussianAvatar) -> dict[str, np.ndarray]:
    """The parameters themselves."""
    columns: dict[str, np.ndarray] = {}
    for key, names in _OWN.items():
        values = getattr(avatar, key).detach().cpu().numpy().astype("<f4")
        columns |= dict(zip(names, values.T, strict=True))
    return columns | {name: value.cpu().numpy().astype("<i4") for name, value in avatar.carried.items()}
