"""A head as glTF's skins and morph targets have it.

The head evaluates blend shapes, then joints (which follow the expression), then linear blend skinning. A glTF file has
joints that were bound once, on the resting head. What a pose's expression moves a joint by, a rotation about it
notices, so each pose also has translations of the joints: with them, the skinned and morphed vertices are the head's
own. A program that sets weights and turns joints by hand leaves them out and is off by (1 - R) times that movement.

Pose correctives are linear in the entries of (rotation - identity), so each entry is a morph target too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from headstudio.head.model import HeadModel, axis_angle_to_matrix

if TYPE_CHECKING:
    from headstudio.types import Pose

INFLUENCES = 4  # joints per vertex: what all programs read
Array = NDArray[Any]


@dataclass(frozen=True)
class Bound:
    """A resting head of V vertices with J joints and M morph targets, in world units."""

    vertices: Float[Tensor, "V 3"]
    joints: Float[Tensor, "J 3"]
    targets: Float[Tensor, "M V 3"]
    target_names: tuple[str, ...]
    weights: Float[Tensor, "V J"]
    faces: Int[Tensor, "F 3"]


@dataclass(frozen=True)
class Moves:
    """P poses: weights of the M targets; the J joints' unit quaternions (xyzw) and translations against the parent."""

    weights: Float[np.ndarray, "P M"]
    rotations: Float[np.ndarray, "P J 4"]
    translations: Float[np.ndarray, "P J 3"]


def bind(head: HeadModel, shape: Float[Tensor, " S"], *, correctives: bool) -> Bound:
    """The head with its shape at rest; `correctives` adds a target for each entry of its pose correctives."""
    shaped = head.v_template + head.shapedirs @ shape
    targets, names = head.exprdirs, list(head.expression_names)
    if correctives:
        targets = torch.cat((targets, head.posedirs), -1)
        names += [
            f"corrective_{joint}_{row}{column}"
            for joint in head.joint_names[1:]
            for row in range(3)
            for column in range(3)
        ]
    return Bound(
        vertices=shaped,
        joints=head.J_regressor @ shaped,
        targets=targets.permute(2, 0, 1),
        target_names=tuple(names),
        weights=head.weights,
        faces=head.faces,
    )


def moves_of(head: HeadModel, shape: Float[Tensor, " S"], pose: Pose, *, correctives: bool) -> Moves:
    """What P poses are on a `Bound` head. With correctives where the head has some, it moves exactly as the head."""
    pose = pose.to(head.v_template.device, torch.float64)
    head_joints = (head.J_regressor.double(), head.v_template.double() + head.shapedirs.double() @ shape.double())
    rest = head_joints[0] @ head_joints[1]
    moved = rest + torch.einsum("pe,jec->pjc", pose.expression, _joint_directions(head))
    local = axis_angle_to_matrix(pose.joints)
    turned, placed = [local[:, 0]], [moved[:, 0]]
    for joint, parent in enumerate(head.parents[1:], start=1):
        turned.append(turned[parent] @ local[:, joint])
        placed.append(placed[parent] + (turned[parent] @ (moved[:, joint] - moved[:, parent])[..., None])[..., 0])
    # where the joint must be so that a vertex bound about `rest` turns about `moved`
    bound = [
        place + (turn @ (rest[joint] - moved[:, joint])[..., None])[..., 0]
        for joint, (turn, place) in enumerate(zip(turned, placed, strict=True))
    ]
    translations = [bound[0]]
    for joint, parent in enumerate(head.parents[1:], start=1):
        away = (bound[joint] - bound[parent])[..., None]
        translations.append((turned[parent].mT @ away)[..., 0])
    weights = pose.expression
    if correctives:
        weights = torch.cat((weights, (local[:, 1:] - torch.eye(3).to(local)).flatten(1)), -1)
    return Moves(
        weights=weights.cpu().numpy().astype("<f4"),
        rotations=_quaternions(pose.joints).cpu().numpy().astype("<f4"),
        translations=torch.stack(translations, 1).cpu().numpy().astype("<f4"),
    )


def influences(weights: Float[Tensor, "V J"]) -> tuple[Array, Array, float]:
    """The four strongest joints of each vertex (V, 4) uint8, their weights (V, 4) that sum to 1, and the largest sum
    of weights that this leaves out (0 where no vertex has more)."""
    count = min(INFLUENCES, weights.shape[1])
    kept, joints = weights.topk(count, dim=-1)
    lost = float((weights.sum(-1) - kept.sum(-1)).clamp(min=0.0).max())
    padded = torch.nn.functional.pad(kept / kept.sum(-1, keepdim=True), (0, INFLUENCES - count))
    ids = torch.nn.functional.pad(joints, (0, INFLUENCES - count)) * (padded > 0)
    return ids.cpu().numpy().astype("u1"), padded.cpu().numpy().astype("<f4"), lost


def subdivide(bound: Bound, texel_ids: Int[Tensor, "F L"], subdivisions: int) -> Bound:
    """The same surface with a vertex on every texel of `avatar.texture`, so that colours per vertex hold the texture.

    Vertices, targets and weights are linear along the triangles. At rest and under expressions the surface is the
    same; where joints turn, a new vertex is skinned by itself instead of lying on its triangle.
    """
    from headstudio.avatar.texture import lattice_points

    count = int(texel_ids.max()) + 1
    shares = torch.tensor(lattice_points(subdivisions), dtype=torch.float32) / subdivisions
    corners = torch.zeros(count, 3, dtype=torch.int64)
    weights = torch.zeros(count, 3)
    for point in range(texel_ids.shape[1]):  # neighbours agree about the texels that they share
        corners[texel_ids[:, point].cpu()] = bound.faces.cpu()
        weights[texel_ids[:, point].cpu()] = shares[point].expand(len(bound.faces), 3)
    corners, weights = corners.to(bound.faces.device), weights.to(bound.vertices)

    def spread(values: Tensor) -> Tensor:
        return (values[..., corners, :] * weights[..., None]).sum(-2)

    return Bound(
        vertices=spread(bound.vertices),
        joints=bound.joints,
        targets=torch.stack([spread(target) for target in bound.targets]),
        target_names=bound.target_names,
        weights=spread(bound.weights),
        faces=_small_triangles(texel_ids, subdivisions),
    )


def _small_triangles(texel_ids: Int[Tensor, "F L"], subdivisions: int) -> Int[Tensor, "G 3"]:
    """The subdivisions^2 triangles of each lattice, counter-clockwise as their triangle."""
    from headstudio.avatar.texture import lattice_points

    number = {(i, j): n for n, (_, i, j) in enumerate(lattice_points(subdivisions))}
    small = []
    for i, j in number:
        if (i + 1, j + 1) in number or i + j + 1 <= subdivisions:
            if i + j + 1 <= subdivisions:
                small.append((number[i, j], number[i + 1, j], number[i, j + 1]))
            if i + j + 2 <= subdivisions:
                small.append((number[i + 1, j], number[i + 1, j + 1], number[i, j + 1]))
    return texel_ids[:, torch.tensor(small, device=texel_ids.device)].reshape(-1, 3)


def _joint_directions(head: HeadModel) -> Float[Tensor, "J E 3"]:
    """How far each expression moves each joint."""
    return torch.einsum("jv,vce->jec", head.J_regressor.double(), head.exprdirs.double())


def _quaternions(axis_angle: Float[Tensor, "P J 3"]) -> Float[Tensor, "P J 4"]:
    """Unit quaternions (xyzw); consecutive poses are in one half space, so that programs turn the short way."""
    angle = torch.linalg.vector_norm(axis_angle, dim=-1, keepdim=True)
    vector = axis_angle * 0.5 * torch.sinc(angle / (2.0 * torch.pi))
    quats = torch.cat((vector, (angle / 2).cos()), -1)
    agree = torch.ones_like(angle)
    agree[1:] = torch.where((quats[1:] * quats[:-1]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    return quats * agree.cumprod(0)
