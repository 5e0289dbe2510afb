"""The slow renderer that the fast ones are tested against: every Gaussian at every pixel, float64, plain autograd.

It follows the rules of `headstudio.render` word for word and needs O(B * N * H * W) memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from headstudio.render import (
    BLUR_PX2,
    JACOBIAN_MARGIN,
    MAX_ALPHA,
    MIN_ALPHA,
    MIN_TRANSMITTANCE,
    NEAR_PLANE,
)
from headstudio.types import Cameras, Gaussians, Render

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


class ReferenceRenderer:
    """Draws densely in float64 on the inputs' device."""

    device = "cpu"

    def __call__(
        self, gaussians: Gaussians, cameras: Cameras, background: Float[Tensor, "3"] | Float[Tensor, "B 3"]
    ) -> Render:
        """See `headstudio.render.Renderer`; everything returned is float64."""
        return self.render_with_margin(gaussians, cameras, background)[0]

    def render_with_margin(
        self, gaussians: Gaussians, cameras: Cameras, background: Float[Tensor, "3"] | Float[Tensor, "B 3"]
    ) -> tuple[Render, Float[Tensor, "B H W"]]:
        """The render, and the relative change of its alphas that would take a pixel over a threshold of rules 4 and 5.

        At a threshold the picture jumps, so a float32 renderer may rightly differ where this margin is tiny.
        """
        gaussians, cameras = gaussians.to(dtype=torch.float64), cameras.to(dtype=torch.float64)
        projected = project(gaussians, cameras)
        means2d = projected.means2d
        if means2d.requires_grad:
            means2d.retain_grad()
        order = torch.argsort(projected.depths.float(), dim=1, stable=True)  # rule 3
        ordered = order[..., None]
        power = -0.5 * _mahalanobis(
            means2d.gather(1, ordered.expand(-1, -1, 2)), projected.conics.gather(1, ordered.expand(-1, -1, 3)), cameras
        )
        opacities = gaussians.opacities[order][..., None, None]
        raw = torch.where(projected.visible.gather(1, order)[..., None, None], opacities * torch.exp(power), 0.0)
        drawn = raw >= MIN_ALPHA  # rule 4
        alpha = torch.where(drawn, raw, 0.0).clamp(max=MAX_ALPHA)
        after = torch.cumprod(1.0 - alpha, dim=1)
        kept = after > MIN_TRANSMITTANCE  # rule 5
        alpha = torch.where(kept, alpha, 0.0)
        through = torch.cumprod(torch.cat([alpha.new_ones(len(alpha), 1, *alpha.shape[2:]), 1.0 - alpha], dim=1), dim=1)
        weight = alpha * through[:, :-1]
        colors = torch.einsum("bnhw,bnc->bchw", weight, gaussians.colors[order])
        rgb = colors + through[:, -1:] * background.to(colors).expand(len(cameras), 3)[..., None, None]
        depth = torch.einsum("bnhw,bn->bhw", weight, projected.depths.gather(1, order))[:, None]
        render = Render(rgb=rgb, alpha=1.0 - through[:, -1:], depth=depth, means2d=means2d, radii=projected.radii)
        return render, _margin(raw.detach(), after.detach(), kept)


@dataclass(frozen=True)
class Projected:
    """What B cameras make of N Gaussians: pixels, inverse covariances (xx, xy, yy), depths."""

    means2d: Float[Tensor, "B N 2"]
    conics: Float[Tensor, "B N 3"]
    depths: Float[Tensor, "B N"]
    radii: Float[Tensor, "B N"]
    visible: Bool[Tensor, "B N"]


def project(gaussians: Gaussians, cameras: Cameras) -> Projected:
    """Rules 1 and 2; gradients reach means, quats and scales. Unseen Gaussians get harmless values.

    Source: gsplat `cuda/_torch_impl.py` (`_fully_fused_projection`) and, for the radius, its CUDA kernel.
    """
    view, intrinsics = cameras.camera_from_world, cameras.intrinsics
    rotation, count = view[:, :3, :3], gaussians.means.shape[1]
    x, y, z = (
        (rotation[:, None, i, 0] * gaussians.means[..., 0] + rotation[:, None, i, 1] * gaussians.means[..., 1]
         + rotation[:, None, i, 2] * gaussians.means[..., 2] + view[:, None, i, 3])
        for i in range(3)
    )  # fmt: skip
    in_front = (z >= NEAR_PLANE) & (gaussians.opacities >= MIN_ALPHA)
    x, y, z = torch.where(in_front, x, 0.0), torch.where(in_front, y, 0.0), torch.where(in_front, z, 1.0)
    fx, fy, cx, cy = (intrinsics[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)
    margin_x, margin_y = JACOBIAN_MARGIN * 0.5 * cameras.width / fx, JACOBIAN_MARGIN * 0.5 * cameras.height / fy
    ratio_x = torch.clamp(x / z, min=-cx / fx - margin_x, max=(cameras.width - cx) / fx + margin_x)
    ratio_y = torch.clamp(y / z, min=-cy / fy - margin_y, max=(cameras.height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * ratio_x / z, zero, fy / z, -fy * ratio_y / z], dim=-1)
    axes = _quaternion_matrix(gaussians.quats) * gaussians.scales[..., None, :]
    axes2d = jacobian.unflatten(-1, (2, 3)) @ (rotation[:, None] @ axes.expand(len(cameras), count, 3, 3))
    covariance = axes2d @ axes2d.transpose(-1, -2) + BLUR_PX2 * torch.eye(2).to(axes2d)
    xx, xy, yy = covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]
    det = xx * yy - xy * xy
    conics = torch.stack([yy, -xy, xx], dim=-1) / det[..., None]
    reach = torch.sqrt(2.0 * torch.log(gaussians.opacities.detach().clamp(min=MIN_ALPHA) / MIN_ALPHA))
    radius = torch.ceil(reach[..., None] * torch.sqrt(torch.stack([xx, yy], dim=-1).detach()))
    size = torch.tensor([cameras.width, cameras.height]).to(radius)
    on_screen = ((means2d.detach() + radius > 0) & (means2d.detach() - radius < size)).all(dim=-1)
    visible = in_front & on_screen
    radii = torch.where(visible, radius.amax(dim=-1), 0.0).to(torch.int32)
    return Projected(means2d, conics, torch.where(in_front, z, 0.0), radii, visible)


def _quaternion_matrix(quats: Tensor) -> Tensor:
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def _mahalanobis(means2d: Tensor, conics: Tensor, cameras: Cameras) -> Tensor:
    """d' C^-1 d of every Gaussian at every pixel's centre, (B, N, H, W)."""
    across = torch.arange(cameras.width).to(means2d) + 0.5
    down = torch.arange(cameras.height).to(means2d) + 0.5
    dx = (across - means2d[..., 0, None])[..., None, :]
    dy = (down - means2d[..., 1, None])[..., :, None]
    xx, xy, yy = (conics[..., k, None, None] for k in range(3))
    return xx * dx * dx + 2.0 * xy * dx * dy + yy * dy * dy


def _margin(raw: Tensor, after: Tensor, kept: Tensor) -> Tensor:
    """The smallest relative change of alphas that crosses a threshold, (B, H, W); see `render_with_margin`."""
    if raw.shape[1] == 0:
        return torch.full_like(after.sum(dim=1), math.inf)
    reached = torch.cat([torch.ones_like(kept[:, :1]), kept[:, :-1]], dim=1)
    to_alpha = torch.minimum((raw / MIN_ALPHA - 1.0).abs(), (raw / MAX_ALPHA - 1.0).abs())
    alpha = torch.where(raw >= MIN_ALPHA, raw, 0.0).clamp(max=MAX_ALPHA)
    sensitivity = 1.0 + torch.cumsum(alpha / (1.0 - alpha), dim=1)  # of log(after) to log(alphas)
    to_stop = (after / MIN_TRANSMITTANCE - 1.0).abs() / sensitivity
    return torch.where(reached, torch.minimum(to_alpha, to_stop), math.inf).amin(dim=1)
