"""Scenes for the renderer's tests, and the comparison of a renderer with the dense float64 reference."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from headstudio.render import Renderer
from headstudio.render.reference import ReferenceRenderer
from headstudio.types import Cameras, Gaussians, Render

INPUTS = ("means", "quats", "scales", "opacities", "colors")


def random_gaussians(count: int, poses: int, seed: int, size: float = 0.08) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=0.5 * torch.randn(poses, count, 3, generator=generator),
        quats=torch.randn(poses, count, 4, generator=generator),
        scales=size * torch.exp(0.5 * torch.randn(poses, count, 3, generator=generator)),
        opacities=torch.rand(count, generator=generator),
        colors=torch.rand(count, 3, generator=generator),
    )


def ring_cameras(count: int, width: int, height: int, seed: int = 0) -> Cameras:
    """Cameras around the origin, off-centre principal points, different focal lengths in x and y."""
    generator = torch.Generator().manual_seed(seed)
    turn = 2.0 * torch.rand(count, generator=generator)
    view = torch.eye(4).repeat(count, 1, 1)
    view[:, 0, 0], view[:, 0, 2], view[:, 2, 0], view[:, 2, 2] = turn.cos(), turn.sin(), -turn.sin(), turn.cos()
    view[:, :3, 3] = torch.tensor([0.05, -0.1, 1.8]) + 0.1 * torch.randn(count, 3, generator=generator)
    focal = 0.9 * max(width, height)
    intrinsics = torch.tensor([[focal, 0, 0.45 * width], [0, 1.1 * focal, 0.55 * height], [0, 0, 1]])
    return Cameras(view, intrinsics.repeat(count, 1, 1), turn.rad2deg(), torch.zeros(count), width, height)


def facing_camera(width: int = 40, height: int = 24) -> Cameras:
    """One camera at the origin of its own frame: world and camera coordinates agree."""
    intrinsics = torch.tensor([[[30.0, 0, width / 2], [0, 30.0, height / 2], [0, 0, 1]]])
    return Cameras(torch.eye(4)[None], intrinsics, torch.zeros(1), torch.zeros(1), width, height)


def with_grad(gaussians: Gaussians) -> Gaussians:
    return replace(gaussians, **{name: getattr(gaussians, name).detach().clone().requires_grad_() for name in INPUTS})


def draw_with_gradients(
    renderer: Renderer, gaussians: Gaussians, cameras: Cameras, background: Tensor, weights: Tensor
) -> tuple[Render, dict[str, Tensor]]:
    """Draw, and differentiate sum(weights * (rgb, alpha, depth)) with weights (B, 5, H, W)."""
    inputs = with_grad(gaussians)
    render = renderer(inputs, cameras, background)
    (torch.cat([render.rgb, render.alpha, render.depth], dim=1) * weights.to(render.rgb)).sum().backward()
    gradients = {name: getattr(inputs, name).grad for name in INPUTS}
    return render, {**gradients, "means2d": render.means2d.grad}


def assert_matches_reference(
    renderer: Renderer, gaussians: Gaussians, cameras: Cameras, *, undecided: float = 0.05, seed: int = 0
) -> Render:
    """Values within 1e-4 and gradients within 1e-3 of the reference.

    Pixels where a relative change of 1e-5 of an alpha crosses a threshold are left out (there the picture jumps,
    see `ReferenceRenderer.render_with_margin`); they may be a share of `undecided` at most.
    """
    generator = torch.Generator().manual_seed(seed)
    background = torch.rand(len(cameras), 3, generator=generator).to(gaussians.means)
    with torch.no_grad():
        _, margin = ReferenceRenderer().render_with_margin(gaussians, cameras, background)
    decided = (margin > 1e-5)[:, None]
    assert (~decided).float().mean() <= undecided
    weights = torch.randn(len(cameras), 5, cameras.height, cameras.width, generator=generator)
    weights = weights.to(gaussians.means) * decided
    ours, our_gradients = draw_with_gradients(renderer, gaussians, cameras, background, weights)
    truth, true_gradients = draw_with_gradients(ReferenceRenderer(), gaussians, cameras, background, weights)
    for name in ("rgb", "alpha", "depth"):
        error = (getattr(ours, name) - getattr(truth, name)).abs()
        allowed = 1e-4 * getattr(truth, name).abs().clamp(min=1.0)
        worst = (error / allowed)[decided.expand_as(error)].max()
        assert worst <= 1.0, f"{name} is {worst:.2f} times the tolerance off"
    assert torch.equal(ours.radii.long(), truth.radii.long())
    for name, gradient in our_gradients.items():
        true = true_gradients[name]
        assert torch.isfinite(gradient).all(), name
        if true.numel():
            size = true.abs() if true.dim() == 1 else true.norm(dim=-1, keepdim=True).expand_as(true)
            allowed = 1e-3 * size + 1e-5 * true.abs().max()
            worst = ((gradient - true).abs() / allowed.clamp(min=1e-12)).max()
            assert worst <= 1.0, f"gradient of {name} is {worst:.2f} times the tolerance off"
    return ours
