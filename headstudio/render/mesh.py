"""Z-buffered triangle meshes on the CPU: which triangle each pixel sees.

Landmarks are culled against it, the synthetic world is painted on it, and metrics read regions from it. It has
no gradient; Gaussian avatars are drawn by the Gaussian renderers, a textured mesh by `mesh_renderer` on top of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from headstudio.camera import project
from headstudio.types import Cameras, MeshRaster

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import NDArray
    from torch import Tensor

NEAR = 1e-2  # world units; triangles that reach closer to the camera are dropped


def rasterise_mesh(vertices: Float[Tensor, "P V 3"], faces: Int[Tensor, "F 3"], cameras: Cameras) -> MeshRaster:
    """Rasterise a triangle mesh into every camera.

    Args:
        vertices: world units; P is 1 (one pose for all cameras) or the number of cameras.
        faces: vertex ids; both sides of a triangle are visible.
        cameras: B pinhole cameras.

    Returns:
        Face ids, perspective-correct barycentric weights and depths on the CPU, `(B, H, W)`.
    """
    import torch

    pixels, depth = project(vertices, cameras)
    face_index, weights, zbuffer = rasterise_pixels(
        pixels.detach().cpu().double().numpy(),
        depth.detach().cpu().double().numpy(),
        faces.cpu().numpy().astype(np.int64),
        cameras.width,
        cameras.height,
    )
    return MeshRaster(torch.from_numpy(face_index), torch.from_numpy(weights), torch.from_numpy(zbuffer))


def rasterise_pixels(
    pixels: NDArray[Any], depth: NDArray[Any], faces: NDArray[Any], width: int, height: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The numpy core of `rasterise_mesh`: pixels (B, V, 2) and depth (B, V) per camera."""
    batch = len(pixels)
    face_index = np.full((batch, height, width), -1, np.int32)
    weights = np.zeros((batch, height, width, 3), np.float32)
    zbuffer = np.full((batch, height, width), np.inf, np.float32)
    for b in range(batch):
        _rasterise_one(pixels[b], depth[b], faces, face_index[b], weights[b], zbuffer[b])
    return face_index, weights, zbuffer


def vertex_normals(vertices: Float[Tensor, "*P V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "*P V 3"]:
    """Unit normals: those of the triangles around a vertex, weighted by area; zero where there are none."""
    import torch

    corners = vertices[..., faces, :]
    edge, other = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    cross = torch.linalg.cross(edge, other)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total = total.index_add(-2, faces[:, corner], cross)
    return torch.nn.functional.normalize(total, dim=-1)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _rasterise_one(pixels: Any, depth: Any, faces: Any, face_index: Any, weights: Any, zbuffer: Any) -> None:
    height, width = zbuffer.shape
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        zi, zj, zk = depth[i], depth[j], depth[k]
        if zi <= NEAR or zj <= NEAR or zk <= NEAR:
            continue
        xi, yi, xj, yj, xk, yk = pixels[i, 0], pixels[i, 1], pixels[j, 0], pixels[j, 1], pixels[k, 0], pixels[k, 1]
        doubled_area = (xj - xi) * (yk - yi) - (xk - xi) * (yj - yi)
        if doubled_area == 0.0:
            continue
        first_x = max(0, int(np.ceil(min(xi, xj, xk) - 0.5)))
        last_x = min(width - 1, int(np.floor(max(xi, xj, xk) - 0.5)))
        first_y = max(0, int(np.ceil(min(yi, yj, yk) - 0.5)))
        last_y = min(height - 1, int(np.floor(max(yi, yj, yk) - 0.5)))
        for row in range(first_y, last_y + 1):
            y = row + 0.5
            for column in range(first_x, last_x + 1):
                x = column + 0.5
                a = ((xj - x) * (yk - y) - (xk - x) * (yj - y)) / doubled_area
                b = ((xk - x) * (yi - y) - (xi - x) * (yk - y)) / doubled_area
                c = 1.0 - a - b
                if a < 0.0 or b < 0.0 or c < 0.0:
                    continue
                # Weights are linear in the picture; divide by depth to make them linear on the triangle.
                a, b, c = a / zi, b / zj, c / zk
                z = 1.0 / (a + b + c)
                if z < zbuffer[row, column]:
                    zbuffer[row, column] = z
                    face_index[row, column] = f
                    weights[row, column, 0] = a * z
                    weights[row, column, 1] = b * z
                    weights[row, column, 2] = c * z
