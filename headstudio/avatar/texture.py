"""Textures without an atlas: texels on the triangles themselves, for any mesh.

Each triangle carries a lattice that cuts its edges in R parts (`subdivisions`): a texel on each corner, R - 1 on each
edge, the rest inside. Neighbours share the texels of their common edge, so the texture has no seams, and R = 1 is one
colour per vertex. Between the texels of one of its R^2 small triangles the colour is linear. With R parts a triangle
has about R^2 / 2 texels of its own.

A lattice point (i, j) with i, j >= 0 and i + j <= R has the weights (1 - (i + j) / R, i / R, j / R) of the three
corners; points are numbered row by row, j first: (0, 0), (1, 0), ..., (R, 0), (0, 1), ...
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def lattice(faces: Int[Tensor, "F 3"], num_vertices: int, subdivisions: int) -> tuple[Int[Tensor, "F L"], int]:
    """Which texel each lattice point of each triangle is, and how many there are.

    Texels are numbered: vertices first (by their own numbers), then those on edges, then those inside triangles.
    """
    points = lattice_points(subdivisions)
    edges, edge_of = mesh_edges(faces)
    per_edge, inside = subdivisions - 1, [n for n, (i, j, k) in enumerate(points) if i and j and k]
    on_faces = num_vertices + len(edges) * per_edge
    columns = []
    for number, weights in enumerate(points):
        used = [corner for corner in range(3) if weights[corner]]
        if len(used) == 1:
            columns.append(faces[:, used[0]])
        elif len(used) == 2:
            first, second = used
            opposite = 3 - first - second
            # counted from the end with the lower vertex number, so that both triangles count alike
            forward = faces[:, first] < faces[:, second]
            along = torch.where(forward, weights[second], weights[first])
            columns.append(num_vertices + edge_of[:, opposite] * per_edge + along - 1)
        else:
            own = torch.arange(len(faces), device=faces.device)
            columns.append(on_faces + own * len(inside) + inside.index(number))
    return torch.stack(columns, 1), on_faces + len(faces) * len(inside)


def lattice_points(subdivisions: int) -> list[tuple[int, int, int]]:
    """The corners' weights of all lattice points, in parts of 1 / `subdivisions`, in their order."""
    return [
        (subdivisions - i - j, i, j) for j in range(subdivisions + 1) for i in range(subdivisions + 1 - j)
    ]  # fmt: skip


def interpolation(
    barycentric: Float[Tensor, "K 3"], subdivisions: int
) -> tuple[Int[Tensor, "K 3"], Float[Tensor, "K 3"]]:
    """The three lattice points around each place on a triangle, and their weights, which have a gradient.

    Continuous in the place. A place that rounding has put outside the triangle reads the small triangle next to it.
    """
    x, y = (barycentric[:, 1:] * subdivisions).unbind(-1)
    i = x.detach().floor().clamp(0, subdivisions - 1)
    j = y.detach().floor().clamp(min=0).minimum(subdivisions - 1 - i)
    u, v = x - i, y - j
    upper = (u + v > 1) & (i + j < subdivisions - 1)
    weights = torch.where(
        upper[:, None], torch.stack((u + v - 1, 1 - u, 1 - v), -1), torch.stack((1 - u - v, u, v), -1)
    )
    up, i, j = upper.long(), i.long(), j.long()
    corners = ((i + up, j + up), (i + 1 - up, j + up), (i + up, j + 1 - up))
    return torch.stack([b * (subdivisions + 1) - b * (b - 1) // 2 + a for a, b in corners], -1), weights


def mesh_edges(faces: Int[Tensor, "F 3"]) -> tuple[Int[Tensor, "E 2"], Int[Tensor, "F 3"]]:
    """The undirected edges, and which of them lies opposite to each corner of each triangle."""
    pairs = torch.stack((faces[:, [1, 2]], faces[:, [2, 0]], faces[:, [0, 1]]), 1).sort(-1).values
    edges, edge_of = torch.unique(pairs.flatten(0, 1), dim=0, return_inverse=True)
    return edges, edge_of.reshape(-1, 3)


def face_neighbours(faces: Int[Tensor, "F 3"]) -> Int[Tensor, "F 3"]:
    """The triangle across the edge opposite to each corner; -1 where there is none, or more than one."""
    edges, edge_of = mesh_edges(faces)
    flat = edge_of.flatten()
    order = torch.argsort(flat, stable=True)
    count = torch.bincount(flat, minlength=len(edges))
    start = count.cumsum(0) - count
    mine = torch.arange(len(faces), device=faces.device).repeat_interleave(3)
    first = mine[order][start]
    second = mine[order][(start + 1).clamp(max=len(flat) - 1)]
    other = torch.where(first[flat] == mine, second[flat], first[flat])
    return torch.where(count[flat] == 2, other, -1).reshape(-1, 3)
