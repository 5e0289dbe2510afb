"""The reference itself: its projection against gsplat's pure torch one, its compositing against a loop in words."""

from __future__ import annotations

import math

import pytest
import torch
from scenes import facing_camera, random_gaussians, ring_cameras, with_grad

from headstudio.render import BLUR_PX2, MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE, NEAR_PLANE
from headstudio.render.reference import ReferenceRenderer, project


@pytest.mark.slow
def test_projection_agrees_with_gsplat() -> None:
    from gsplat.cuda import _torch_impl as gsplat

    gaussians = random_gaussians(300, 1, seed=3, size=0.2).to(dtype=torch.float64)
    cameras = ring_cameras(3, 50, 30).to(dtype=torch.float64)
    ours_in, theirs_in = with_grad(gaussians), with_grad(gaussians)
    ours = project(ours_in, cameras)
    covariances = gsplat._quat_scale_to_covar_preci(theirs_in.quats[0], theirs_in.scales[0], compute_preci=False)[0]
    radii, means2d, depths, conics, _ = gsplat._fully_fused_projection(
        theirs_in.means[0], covariances, cameras.camera_from_world, cameras.intrinsics, 50, 30,
        eps2d=BLUR_PX2, near_plane=NEAR_PLANE,
    )  # fmt: skip
    seen = ours.visible
    assert seen.float().mean() > 0.3
    # gsplat's torch code bounds by 3.33 standard deviations whatever the opacity, so it sees at least as many
    assert (radii.min(dim=-1).values > 0)[seen].all()
    assert (ours.radii <= radii.amax(dim=-1))[seen].all()
    for mine, theirs in ((ours.means2d, means2d), (ours.conics, conics), (ours.depths, depths)):
        torch.testing.assert_close(mine[seen], theirs[seen], rtol=1e-9, atol=1e-9)
    (ours.means2d[seen].sin().sum() + ours.conics[seen].sin().sum() + ours.depths[seen].sin().sum()).backward()
    (means2d[seen].sin().sum() + conics[seen].sin().sum() + depths[seen].sin().sum()).backward()
    for name in ("means", "quats", "scales"):
        torch.testing.assert_close(getattr(ours_in, name).grad, getattr(theirs_in, name).grad, rtol=1e-8, atol=1e-9)


def test_compositing_is_the_rules_word_for_word() -> None:
    """One pixel at a time, one Gaussian at a time, in plain Python."""
    gaussians, camera, background = random_gaussians(40, 1, seed=11, size=0.4), facing_camera(8, 6), (0.1, 0.5, 0.9)
    gaussians.means[..., 2] += 2.0
    render = ReferenceRenderer()(gaussians, camera, torch.tensor(background))
    projected = project(gaussians.to(dtype=torch.float64), camera.to(dtype=torch.float64))
    order = sorted(range(40), key=lambda n: (float(projected.depths[0, n].float()), n))
    for row in range(6):
        for column in range(8):
            through, color, depth = 1.0, [0.0] * 3, 0.0
            for n in order:
                dx, dy = column + 0.5 - float(projected.means2d[0, n, 0]), row + 0.5 - float(projected.means2d[0, n, 1])
                xx, xy, yy = projected.conics[0, n].tolist()
                opacity = float(gaussians.opacities[n])
                alpha = min(MAX_ALPHA, opacity * math.exp(-0.5 * (xx * dx * dx + 2 * xy * dx * dy + yy * dy * dy)))
                if not projected.visible[0, n] or alpha < MIN_ALPHA:
                    continue
                if through * (1 - alpha) <= MIN_TRANSMITTANCE:
                    break
                color = [c + through * alpha * float(g) for c, g in zip(color, gaussians.colors[n], strict=True)]
                depth += through * alpha * float(projected.depths[0, n])
                through *= 1 - alpha
            expected = [c + through * b for c, b in zip(color, torch.tensor(background).tolist(), strict=True)]
            expected += [1 - through, depth]
            drawn = torch.cat([render.rgb, render.alpha, render.depth], dim=1)[0, :, row, column]
            torch.testing.assert_close(drawn, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)
