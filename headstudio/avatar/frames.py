"""Where each triangle is, how it is turned and how big it is: the T, R and S of Eq. 5-7."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize


@dataclass(frozen=True)
class Frames:
    """The frames of F triangles at P poses, in world units.

    `rotation` holds the axes as columns: (unit edge from the first to the second vertex, unit outward normal,
    edge x normal), so its determinant is +1 and it takes local to world coordinates. `area` is never below the
    `min_area` that `triangle_frames` was given, so its square root is safe to divide by.
    `reach` is the paper's tau: the largest distance from the origin to one of the three vertices.
    """

    origin: Float[Tensor, "P F 3"]
    rotation: Float[Tensor, "P F 3 3"]
    area: Float[Tensor, "P F"]
    reach: Float[Tensor, "P F"]


def triangle_frames(vertices: Float[Tensor, "P V 3"], faces: Int[Tensor, "F 3"], *, min_area: float = 1e-12) -> Frames:
    """Origin (mean of the corners), rotation, area and reach of every triangle, differentiable.

    A triangle whose area is at most `min_area` (world units squared) has no direction of its own: it gets the
    identity as its rotation, `min_area` as its area, and passes no gradient to its vertices through either.
    What it carries is then a millionth of a world unit wide, so the jump to the identity cannot be seen.

    Raises:
        ValueError: when `vertices` or `faces` have the wrong shape.
    Source: paper section 4.2 ("one edge vector, the normal vector of the triangle, and their cross-product").
    """
    if vertices.ndim != 3 or vertices.shape[-1] != 3 or faces.ndim != 2 or faces.shape[-1] != 3:
        raise ValueError(f"need vertices (P, V, 3) and faces (F, 3), got {tuple(vertices.shape)}, {tuple(faces.shape)}")
    # index_select: its backward adds in a fixed order, which indexing with a tensor does not promise on a CPU
    corners = vertices.index_select(1, faces.reshape(-1)).unflatten(1, (-1, 3))
    origin = corners.mean(2)
    edge = corners[:, :, 1] - corners[:, :, 0]
    cross = torch.linalg.cross(edge, corners[:, :, 2] - corners[:, :, 0])
    flat = (cross.detach().square().sum(-1) <= (2 * min_area) ** 2)[..., None]
    # both branches of `where` are differentiated, so the flat ones are replaced before any root or quotient
    axes = torch.eye(3, dtype=edge.dtype, device=edge.device)  # made there: numbers from the host would be waited for
    edge = torch.where(flat, axes[0], edge)
    cross = torch.where(flat, 2 * min_area * axes[1], cross)
    size = torch.linalg.vector_norm(cross, dim=-1, keepdim=True)
    along, normal = normalize(edge, dim=-1, eps=0), cross / size
    return Frames(
        origin=origin,
        rotation=torch.stack((along, normal, torch.linalg.cross(along, normal)), dim=-1),
        area=0.5 * size[..., 0],
        reach=torch.linalg.vector_norm(corners - origin[:, :, None], dim=-1).amax(2),
    )


def matrix_to_quaternion(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions (wxyz) of rotation matrices (columns are axes), with finite gradients everywhere.

    Of the four ways to write the quaternion, one per component that one divides by, each matrix uses the one
    with the largest divisor (at least 1/2), so nothing is ever divided by a small number. The sign is arbitrary.
    Source: S. W. Shepperd, Quaternion from rotation matrix, 1978.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    squares = torch.stack((1 + a + e + i, 1 + a - e - i, 1 - a + e - i, 1 - a - e + i), dim=-1)  # 4 q_k^2
    candidates = torch.stack(
        (
            torch.stack((squares[..., 0], h - f, c - g, d - b), dim=-1),
            torch.stack((h - f, squares[..., 1], b + d, c + g), dim=-1),
            torch.stack((c - g, b + d, squares[..., 2], f + h), dim=-1),
            torch.stack((d - b, c + g, f + h, squares[..., 3]), dim=-1),
        ),
        dim=-2,
    )  # row k is 4 q_k (w, x, y, z)
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    return normalize(candidates.gather(-2, best)[..., 0, :], dim=-1)


def quaternion_multiply(
    first: Float[Tensor, "*batch 4"], second: Float[Tensor, "*batch 4"]
) -> Float[Tensor, "*batch 4"]:
    """The rotation that applies `second` and then `first` (Hamilton product, wxyz)."""
    aw, ax, ay, az = first.unbind(-1)
    bw, bx, by, bz = second.unbind(-1)
    return torch.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ),
        dim=-1,
    )


def quaternion_to_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of quaternions (wxyz) of any length but zero."""
    w, x, y, z = normalize(quaternion, dim=-1).unbind(-1)
    rows = (
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)), dim=-1),
        torch.stack((2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)), dim=-1),
        torch.stack((2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)), dim=-1),
    )
    return torch.stack(rows, dim=-2)
