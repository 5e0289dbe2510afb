"""What of an avatar a page needs to draw it at any pose: numbers and their tolerances, nothing of the page itself.

Tolerances are those of single numbers; docs/web.md says what they come to in a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstudio.avatar.rigged import RiggedGaussians
from headstudio.avatar.static import StaticGaussians
from headstudio.avatar.texture import lattice_points
from headstudio.avatar.textured_mesh import TexturedMesh
from headstudio.errors import UserError
from headstudio.export.web_pack import Stored, indices, plain, steps, within
from headstudio.render import MIN_ALPHA

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.avatar.gaussians import GaussianAvatar
    from headstudio.head.model import HeadModel
    from headstudio.types import Pose

DIRECTION_TOLERANCE = 1e-5  # world units per unit of an expression's weight
LOCAL_MEAN_TOLERANCE = 5e-4  # roots of the triangle's area
WORLD_MEAN_TOLERANCE = 2e-5  # world units
LOG_SCALE_TOLERANCE = 1e-3
WEIGHT_TOLERANCE = 1e-4  # of a film's expressions
ANGLE_TOLERANCE = 1e-4  # of a film's rotations, radians
_LARGEST = 32767  # steps of an int16 to either side


@torch.no_grad()
def scene(avatar: Any) -> tuple[str, dict[str, Stored]]:
    """The kind of an avatar ("rigged", "static" or "mesh") and its arrays.

    Raises:
        UserError: for a representation that no page can draw.
    """
    for kind, representation, arrays in _SCENES:
        if isinstance(avatar, representation):
            return kind, arrays(avatar)
    known = ", ".join(representation.__name__ for _, representation, _ in _SCENES)
    raise UserError(f"A page cannot draw the representation {type(avatar).__name__}; it draws {known}.")


def film(pose: Pose) -> dict[str, Stored]:
    """A sequence of T poses: `film_weights` (T, E) and `film_turns` (T, 3 J)."""
    weights, turns = pose.expression.cpu().numpy(), pose.joints.flatten(1).cpu().numpy()
    return {"film_weights": within(weights, WEIGHT_TOLERANCE), "film_turns": within(turns, ANGLE_TOLERANCE)}


def _rigged(avatar: RiggedGaussians) -> dict[str, Stored]:
    shaped = avatar.head.v_template + avatar.head.shapedirs @ avatar.shape
    kept = _visible(avatar)
    return {
        **_head(avatar.head, shaped, shaped),
        **_gaussians(avatar, kept, LOCAL_MEAN_TOLERANCE),
        "triangle": indices(avatar.triangle[kept].cpu().numpy()),
    }


def _static(avatar: StaticGaussians) -> dict[str, Stored]:
    return _gaussians(avatar, _visible(avatar), WORLD_MEAN_TOLERANCE)


def _mesh(avatar: TexturedMesh) -> dict[str, Stored]:
    """A texel is a point of the mesh: weights of three vertices, and a colour. Lines join it to small triangles.

    Displacements turn with the skin, as vertices do, so they are added to the resting head once and for all.
    """
    head, parts = avatar.head, avatar.subdivisions
    shaped = head.v_template + head.shapedirs @ avatar.shape
    displaced = shaped + avatar.displacement[:, None] * avatar.normals
    texel_ids = avatar.texel_ids.cpu().numpy()
    places = np.asarray(lattice_points(parts)) / parts
    texels, first = np.unique(texel_ids, return_index=True)
    face, point = np.divmod(first, len(places))
    assert len(texels) == len(avatar.color_logits)
    return {
        **_head(head, displaced, shaped),
        "texel_corners": indices(head.faces.cpu().numpy()[face]),
        "texel_weights": plain(places[point], "float32"),
        "texel_colors": steps(avatar.color_logits.sigmoid().cpu().numpy(), "uint8", 0.0, 1.0),
        "texel_triangles": plain(texel_ids[:, _small_triangles(parts)].reshape(-1, 3), "uint32"),
    }


_SCENES: tuple[tuple[str, type[Any], Any], ...] = (
    ("rigged", RiggedGaussians, _rigged),
    ("static", StaticGaussians, _static),
    ("mesh", TexturedMesh, _mesh),
)


def _small_triangles(parts: int) -> list[tuple[int, int, int]]:
    """The lattice points of each of the parts^2 triangles that the lattice cuts a triangle into."""
    number = {place[1:]: n for n, place in enumerate(lattice_points(parts))}
    upright = [((i, j), (i + 1, j), (i, j + 1)) for i, j in number if i + j < parts]
    turned = [((i + 1, j), (i + 1, j + 1), (i, j + 1)) for i, j in number if i + j < parts - 1]
    return [(number[a], number[b], number[c]) for a, b, c in upright + turned]


def _visible(avatar: GaussianAvatar) -> Tensor:
    """Which Gaussians can be seen at all: the others are below the threshold of every renderer, or not finite."""
    numbers = torch.cat((avatar.means, avatar.log_scales, avatar.quats, avatar.color_logits), dim=-1)
    return numbers.isfinite().all(-1) & (avatar.opacity_logits.sigmoid() >= MIN_ALPHA)


def _gaussians(avatar: GaussianAvatar, kept: Tensor, mean_tolerance: float) -> dict[str, Stored]:
    """The Gaussians as they are learned: means and scales in their frame."""
    if not bool(kept.any()):
        raise UserError("This avatar has no Gaussian that could be seen, so there is nothing to show in a page.")
    own = {name: getattr(avatar, name)[kept].cpu() for name in ("means", "log_scales", "quats")}
    quats = torch.nn.functional.normalize(own["quats"], dim=-1)
    return {
        "means": within(own["means"].numpy(), mean_tolerance),
        "log_scales": within(own["log_scales"].numpy(), LOG_SCALE_TOLERANCE),
        "quats": steps(quats.numpy(), "uint16", -1.0, 1.0),
        "opacities": steps(avatar.opacity_logits[kept].sigmoid()[:, None].cpu().numpy(), "uint16", 0.0, 1.0),
        "colors": steps(avatar.color_logits[kept].sigmoid().cpu().numpy(), "uint8", 0.0, 1.0),
    }


def _head(head: HeadModel, skinned: Float[Tensor, "V 3"], shaped: Float[Tensor, "V 3"]) -> dict[str, Stored]:
    """The rig: what is skinned at rest, where the joints of the shaped head are, and what moves either."""
    basis = torch.cat((head.exprdirs, head.posedirs), dim=-1)
    moved = torch.einsum("jv,vce->ejc", head.J_regressor, head.exprdirs)
    return {
        "template": plain(skinned.cpu().numpy(), "float32"),
        "faces": indices(head.faces.cpu().numpy()),
        "weights": plain(head.weights.cpu().numpy(), "float32"),
        "joints": plain((head.J_regressor @ shaped).cpu().numpy(), "float32"),
        "joint_directions": plain(moved.cpu().numpy(), "float32"),
        "parents": plain(np.asarray(head.parents), "int32"),
        **sparse_directions(basis.cpu().numpy().transpose(2, 0, 1), DIRECTION_TOLERANCE),
    }


def sparse_directions(basis: Any, tolerance: float) -> Mapping[str, Stored]:
    """(K, V, 3) displacements without those that are all within the tolerance.

    `direction_counts` (K,) says how many vertices each direction moves, `direction_vertices` which, one direction after
    the other, and `direction_offsets` (same, 3) how far in units of the direction's `direction_steps` (K,). Every
    component is off by at most `tolerance`.
    """
    moving = np.abs(basis).max(-1) > tolerance
    direction, vertex = np.nonzero(moving)
    offsets = basis[direction, vertex]
    step = np.abs(basis).max((1, 2)) / _LARGEST
    if (step / 2 > tolerance).any():
        step, stored = np.ones(len(basis)), plain(offsets, "float32")
    else:
        stored = plain(np.rint(offsets / np.where(step > 0, step, 1.0)[direction, None]).astype(int), "int16")
    return {
        "direction_counts": plain(moving.sum(1), "uint32"),
        "direction_vertices": indices(vertex),
        "direction_offsets": stored,
        "direction_steps": plain(step, "float32"),
    }
