"""How a textured mesh lies in avatar.ply: a mesh with vertex colours, as MeshLab, Blender and trimesh read it.

Elements: vertex (x y z, red green blue, and the parameter `displacement`), face (vertex_indices), texel (color_logit_0,
color_logit_1, color_logit_2: the parameters, in the order of `avatar.texture`). The vertex colours are the texels that
lie on the vertices; programs that don't know the last element show these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstudio.avatar.textured_mesh import TexturedMesh
from headstudio.export.ply import floats, has, table_of

if TYPE_CHECKING:
    from plyfile import PlyData, PlyElement
    from torch import Tensor

    from headstudio.head.model import HeadModel

_TEXELS = ("color_logit_0", "color_logit_1", "color_logit_2")


class MeshLayout:
    """`TexturedMesh`. See `ply.Layout`."""

    kind, has_shape = "textured_mesh", True

    def holds(self, avatar: Any) -> bool:
        return isinstance(avatar, TexturedMesh)

    @torch.no_grad()
    def write(self, avatar: TexturedMesh) -> tuple[list[str], list[PlyElement]]:
        from plyfile import PlyElement

        posed, _, _ = avatar.pose(avatar.head.neutral_pose())
        places = posed.vertices[0].cpu().numpy().astype("<f4")
        rgb = avatar.color_logits[: len(places)].sigmoid().mul(255).round().cpu().numpy().astype("u1")
        vertex = dict(zip("xyz", places.T, strict=True)) | dict(zip(("red", "green", "blue"), rgb.T, strict=True))
        vertex["displacement"] = avatar.displacement.cpu().numpy().astype("<f4")
        faces = avatar.head.faces.cpu().numpy().astype("<i4")
        face = np.empty(len(faces), dtype=[("vertex_indices", "<i4", (3,))])
        face["vertex_indices"] = faces
        texels = avatar.color_logits.cpu().numpy().astype("<f4")
        elements = [
            PlyElement.describe(table_of(vertex), "vertex"),
            PlyElement.describe(face, "face"),
            PlyElement.describe(table_of(dict(zip(_TEXELS, texels.T, strict=True))), "texel"),
        ]
        return [f"texture_subdivisions {avatar.subdivisions}"], elements

    def is_complete(self, ply: PlyData) -> bool:
        there = has(ply, "vertex", {"displacement"}) and has(ply, "texel", set(_TEXELS))
        return there and any(line.startswith("texture_subdivisions ") for line in ply.comments)

    def num_gaussians(self, ply: PlyData) -> int:
        return 0

    def read(self, ply: PlyData, said: Mapping[str, Sequence[str]], head: HeadModel, shape: Tensor) -> TexturedMesh:
        state = {
            "color_logits": floats(ply, "texel", _TEXELS),
            "displacement": floats(ply, "vertex", ["displacement"])[:, 0],
            "shape": shape,
        }
        own = head.v_template
        return TexturedMesh.from_state(
            head,
            {name: value.to(own) for name, value in state.items()},
            subdivisions=int(said["texture_subdivisions"][0]),
        )
