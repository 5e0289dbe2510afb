"""Colours of the mesh's vertices from the Gaussians on it: what one sees of them from outside.

A ray goes from far outside along the normal to each vertex and through it. The Gaussians near it are blended front to
back, as a renderer blends them, and the colour is their weighted mean. Near means: on a triangle within `RINGS` rings
of the vertex on the mesh. So lips never colour the teeth behind them, and hair that stands away from the scalp does
colour the scalp. Gaussians are widened by half the distance to the neighbouring vertices, as a ray between two of them
would miss both. Vertices that hardly see one take the colours of their neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from torch import Tensor

if TYPE_CHECKING:
    from headstudio.avatar.rigged import RiggedGaussians

RINGS = 2
ENOUGH = 0.05  # of opacity; below it a vertex asks its neighbours
ROUNDS = 200  # of asking; an eyeball that nothing was painted on stays grey


@torch.no_grad()
def baked_colors(avatar: RiggedGaussians) -> Float[Tensor, "V 3"]:
    """RGB in [0, 1] of every vertex of the resting head."""
    from headstudio.avatar.frames import quaternion_to_matrix
    from headstudio.render.mesh import vertex_normals

    posed, _, world = avatar.pose(avatar.head.neutral_pose())
    vertices, faces = posed.vertices[0], avatar.head.faces
    near = neighbours(faces, len(vertices))
    vertex, gaussian = (ids.to(vertices.device) for ids in candidates(near, faces, avatar.triangle))
    blur = 0.5 * _edge_lengths(vertices, near)[vertex, None]
    scales = (world.scales[0][gaussian].square() + blur.square()).sqrt()
    axes = quaternion_to_matrix(world.quats[0])[gaussian]
    # the ray in units of the Gaussian: nearest at `reach` along the normal, `miss` standard deviations away
    along = (axes.mT @ vertex_normals(vertices, faces)[vertex][..., None])[..., 0] / scales
    start = (axes.mT @ (vertices[vertex] - world.means[0][gaussian])[..., None])[..., 0] / scales
    reach = -(start * along).sum(-1) / along.square().sum(-1).clamp(min=1e-12)
    miss = (start + reach[:, None] * along).square().sum(-1)
    alpha = (world.opacities[gaussian] * torch.exp(-0.5 * miss)).clamp(max=0.99)
    weight = blending(vertex, reach, alpha)
    total = torch.zeros_like(vertices[:, 0]).index_add(0, vertex, weight)
    colors = torch.zeros_like(vertices).index_add(0, vertex, weight[:, None] * world.colors[gaussian])
    colors = colors / total.clamp(min=1e-12)[:, None]
    return _filled(colors, total >= ENOUGH, near)


def blending(ray: Int[Tensor, " K"], reach: Float[Tensor, " K"], alpha: Float[Tensor, " K"]) -> Float[Tensor, " K"]:
    """alpha times what the Gaussians further out on the same ray let through."""
    order = torch.argsort(reach, descending=True, stable=True)
    order = order[torch.argsort(ray[order], stable=True)]
    through = torch.log1p(-alpha[order].double())
    before = through.cumsum(0) - through
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = ray[order][1:] != ray[order][:-1]
    start = before[first][first.cumsum(0) - 1]
    weight = torch.empty_like(alpha)
    weight[order] = alpha[order] * torch.exp(before - start).to(alpha)
    return weight


def neighbours(faces: Int[Tensor, "F 3"], count: int) -> csr_matrix:
    """(V, V): 1 where two different vertices share an edge."""
    corners = faces.cpu().numpy()
    one, other = corners[:, [0, 1, 2, 1, 2, 0]].T.reshape(-1), corners[:, [1, 2, 0, 0, 1, 2]].T.reshape(-1)
    near = csr_matrix((np.ones(len(one), np.float32), (one, other)), (count, count))
    near.data[:] = 1.0
    return near


def candidates(
    near: csr_matrix, faces: Int[Tensor, "F 3"], triangle: Int[Tensor, " N"]
) -> tuple[Int[Tensor, " K"], Int[Tensor, " K"]]:
    """Vertex and Gaussian of each pair that may have to do with each other."""
    corners, count = faces.cpu().numpy(), near.shape[0]
    touches = csr_matrix(
        (np.ones(corners.size, np.float32), (corners.reshape(-1), np.repeat(np.arange(len(corners)), 3))),
        (count, len(corners)),
    )
    for _ in range(RINGS - 1):
        touches = touches + near @ touches
    bound = triangle.cpu().numpy()
    sits = csr_matrix((np.ones(len(bound), np.float32), (bound, np.arange(len(bound)))), (len(corners), len(bound)))
    pairs = (touches @ sits).tocoo()
    return torch.from_numpy(pairs.row.astype(np.int64)), torch.from_numpy(pairs.col.astype(np.int64))


def _edge_lengths(vertices: Float[Tensor, "V 3"], near: csr_matrix) -> Float[Tensor, " V"]:
    """The mean distance to the neighbours."""
    pairs = near.tocoo()
    one, other = (torch.from_numpy(ids.astype(np.int64)).to(vertices.device) for ids in (pairs.row, pairs.col))
    length = torch.linalg.vector_norm(vertices[one] - vertices[other], dim=-1)
    number = torch.zeros_like(vertices[:, 0]).index_add(0, one, torch.ones_like(length))
    return torch.zeros_like(number).index_add(0, one, length) / number.clamp(min=1.0)


def _filled(colors: Float[Tensor, "V 3"], known: Tensor, near: csr_matrix) -> Float[Tensor, "V 3"]:
    """Vertices that are not known take the mean of their known neighbours, ring by ring; what none reaches is grey."""
    values, there = colors.cpu().numpy().copy(), known.cpu().numpy().copy()
    for _ in range(ROUNDS):
        count = near @ there.astype(np.float32)
        new = ~there & (count > 0)
        if not new.any():
            break
        values[new] = (near @ (values * there[:, None]))[new] / count[new, None]
        there |= new
    values[~there] = 0.5
    return torch.from_numpy(values).to(colors).clamp(0.0, 1.0)
