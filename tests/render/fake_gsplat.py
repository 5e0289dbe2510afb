"""`gsplat.rasterization` without a GPU: gsplat 1.5.3's shapes, argument checks and bookkeeping, drawn by the reference.

What it copies from gsplat (rendering.py, cuda/_wrapper.py): one leading batch dimension or none; `means2d` is gsplat's
own tensor in the middle of the graph, (..., C, N, 2) or packed (nnz, 2) with the ids of its rows; radii per axis;
`means2d.absgrad` appears during the backward pass; `backgrounds` are refused when packed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from headstudio.render import BLUR_PX2, NEAR_PLANE, reference
from headstudio.render.reference import ReferenceRenderer
from headstudio.types import Cameras, Gaussians, Render


class _Absolute(torch.autograd.Function):
    """Leaves `absgrad` on its input: for want of pixels' own gradients three times the gradient's absolute value."""

    @staticmethod
    def forward(ctx: Any, means2d: Tensor) -> Tensor:
        ctx.save_for_backward(means2d)
        return means2d.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (means2d,) = ctx.saved_tensors
        means2d.absgrad = 3 * gradient.abs()
        return gradient


def rasterization(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, viewmats: Tensor, Ks: Tensor,
    width: int, height: int, near_plane: float, eps2d: float, render_mode: str, packed: bool, absgrad: bool,
) -> tuple[Tensor, Tensor, dict[str, Any]]:  # fmt: skip
    """See the module; `near_plane` and `eps2d` must be the rules' own."""
    lead, views, size = means.shape[:-2], viewmats.shape[-3], means.shape[-2]
    for value, last in ((means, (3,)), (quats, (4,)), (scales, (3,)), (colors, (3,)), (opacities, ())):
        assert value.shape == (*lead, size, *last), value.shape
    assert viewmats.shape == (*lead, views, 4, 4), viewmats.shape
    assert Ks.shape == (*lead, views, 3, 3), Ks.shape
    assert (near_plane, eps2d, render_mode) == (NEAR_PLANE, BLUR_PX2, "RGB+D")
    batch = max(len(means.reshape(-1, size, 3)), 1)
    count = batch * views
    zero = torch.zeros(count, device=means.device)
    gaussians = Gaussians(
        means.reshape(-1, size, 3), quats.reshape(-1, size, 4), scales.reshape(-1, size, 3),
        opacities.reshape(-1, size)[0], colors.reshape(-1, size, 3)[0],
    )  # fmt: skip
    cameras = Cameras(viewmats.reshape(-1, 4, 4), Ks.reshape(-1, 3, 3), zero, zero, width, height)
    own: dict[str, Tensor] = {}

    def between(projected: Tensor, radii: Tensor) -> Tensor:
        """gsplat's tensor, in its shape, and the way back into the reference's."""
        if packed:
            picture, gaussian = torch.nonzero(radii > 0, as_tuple=True)
            own["batch_ids"], own["camera_ids"] = picture // views, picture % views
            own["gaussian_ids"] = gaussian
            own["radii"] = radii[picture, gaussian][:, None].expand(-1, 2)
            mine = projected[picture, gaussian]
        else:
            own["radii"] = radii.reshape(*lead, views, size, 1).expand(*lead, views, size, 2)
            mine = projected.reshape(*lead, views, size, 2)
        own["means2d"] = mine
        drawn = _Absolute.apply(mine) if absgrad else mine
        if packed:
            return projected.detach().index_put((picture, gaussian), drawn)
        return drawn.reshape(count, size, 2)

    render = _draw_through(gaussians, cameras, between)
    pictures = torch.cat([render.rgb, render.depth], dim=1).permute(0, 2, 3, 1)
    out = (*lead, views)
    return pictures.reshape(*out, height, width, 4), render.alpha.reshape(*out, height, width, 1), own


def _draw_through(gaussians: Gaussians, cameras: Cameras, between: Callable[[Tensor, Tensor], Tensor]) -> Render:
    """The reference's picture on black, with its means2d replaced by what `between` makes of them."""
    project = reference.project

    def stepping_in(*inputs: Any) -> Any:
        projected = project(*inputs)
        return dataclasses.replace(projected, means2d=between(projected.means2d, projected.radii))

    with mock.patch.object(reference, "project", stepping_in):
        return ReferenceRenderer()(gaussians, cameras, torch.zeros(3, device=gaussians.means.device))
