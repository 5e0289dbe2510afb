"""A scene as viser takes it: 32 bytes a Gaussian."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstudio.avatar.frames import quaternion_to_matrix
from headstudio.types import Gaussians, PosedMesh

if TYPE_CHECKING:
    from jaxtyping import UInt32
    from torch import Tensor

Array = NDArray[Any]
UNIT = 0.1
"""World units of one unit of viser's scene: covariances are stored as float16, which has few digits below 1e-4."""


@singledispatch
def splats(scene: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is drawn of one posed scene: means (N, 3), covariances (N, 3, 3), colours (N, 3) and opacities (N,).

    A mesh has a flat, opaque splat per triangle, as wide as the triangle, in the mean of its texels' colours.
    """
    raise TypeError(f"{type(scene).__name__} cannot be shown")


@splats.register(Gaussians)
def _(scene: Gaussians) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    axes = quaternion_to_matrix(scene.quats[0]) * scene.scales[0, :, None, :]
    return scene.means[0], axes @ axes.mT, scene.colors, scene.opacities


@splats.register(PosedMesh)
def _(scene: PosedMesh) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    corners = scene.vertices[0][scene.faces]
    middle = corners.mean(1)
    spread = corners - middle[:, None]  # a triangle's own second moment is a twelfth of its corners' sum; here more
    colors = scene.texels[scene.texel_ids].mean(1)
    return middle, spread.mT @ spread / 4.0, colors, torch.ones(len(middle))


def packed(scene: Any, size: float = 1.0) -> UInt32[Array, "N 8"]:
    """The buffer of viser's splats, in `UNIT`.

    Args:
        scene: Gaussians or a mesh at one pose.
        size: factor on every standard deviation.
    """
    means, covariances, colors, opacities = (part.detach().float().cpu().numpy() for part in splats(scene))
    buffer = np.zeros((len(means), 8), np.uint32)
    buffer[:, :3] = np.ascontiguousarray(means / UNIT, np.float32).view(np.uint32)
    upper = covariances[:, (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)] * (size / UNIT) ** 2
    buffer[:, 4:7] = np.ascontiguousarray(upper, np.float16).view(np.uint32)
    rgba = np.concatenate((colors, opacities[:, None]), axis=1)
    buffer[:, 7:] = np.ascontiguousarray(np.rint(255.0 * rgba.clip(0.0, 1.0)), np.uint8).view(np.uint32)
    return buffer
