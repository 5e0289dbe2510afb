"""The CUDA renderer: its refusal without a GPU, its use of gsplat's interface, and (with a GPU) its pictures."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import types
from typing import Any

import pytest
import torch
from scenes import assert_matches_reference, draw_with_gradients, random_gaussians, ring_cameras
from torch import Tensor

from headstudio.errors import UserError
from headstudio.render import cuda
from headstudio.render.reference import ReferenceRenderer
from headstudio.types import Cameras, Gaussians

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@without_gpu
def test_says_what_it_needs() -> None:
    with pytest.raises(UserError, match="renderer=cuda needs an NVIDIA GPU") as error:
        cuda.CudaRenderer()
    assert "renderer=cpu" in str(error.value)


def _rasterization(
    *, means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, viewmats: Tensor, Ks: Tensor,
    width: int, height: int, near_plane: float, eps2d: float, backgrounds: Tensor, render_mode: str, packed: bool,
) -> tuple[Tensor, Tensor, dict[str, Any]]:  # fmt: skip
    """gsplat.rasterization's shapes (one batch dimension or none), drawn by the reference."""
    lead, views = means.shape[:-2], viewmats.shape[-3]
    size = means.shape[-2]
    shapes = {means: (3,), quats: (4,), scales: (3,), colors: (3,)}
    assert all(value.shape == (*lead, size, *last) for value, last in shapes.items())
    assert opacities.shape == (*lead, size)
    assert viewmats.shape == (*lead, views, 4, 4)
    assert Ks.shape == (*lead, views, 3, 3)
    assert backgrounds.shape == (*lead, views, 3)
    assert (render_mode, packed) == ("RGB+D", False)
    poses = means.reshape(-1, size, 3)
    count = len(poses) * views
    zero = torch.zeros(count)
    render = ReferenceRenderer()(
        Gaussians(poses, quats.reshape(-1, size, 4), scales.reshape(-1, size, 3), opacities.reshape(-1, size)[0],
                  colors.reshape(-1, size, 3)[0]),
        Cameras(viewmats.reshape(-1, 4, 4), Ks.reshape(-1, 3, 3), zero, zero, width, height),
        backgrounds.reshape(-1, 3),
    )  # fmt: skip
    pictures = torch.cat([render.rgb, render.depth], dim=1).permute(0, 2, 3, 1)
    out = (*lead, views)
    radii = render.radii[..., None].expand(-1, -1, 2)
    meta = {"means2d": render.means2d, "radii": radii}
    if lead:  # gsplat's own tensor has the batch dimensions; make ours one whose gradient must be passed on
        meta = {"means2d": render.means2d.reshape(*out, size, 2), "radii": radii.reshape(*out, size, 2)}
    return pictures.reshape(*out, height, width, 4), render.alpha.reshape(*out, height, width, 1), meta


@pytest.mark.parametrize("poses", [1, 3])
def test_passes_batches_and_gradients_through_gsplats_interface(poses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", types.SimpleNamespace(rasterization=_rasterization))
    monkeypatch.setattr(cuda, "missing", lambda: "")
    gaussians, cameras = random_gaussians(50, poses, seed=1), ring_cameras(3, 24, 16)
    weights = torch.randn(3, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    background = torch.tensor([0.2, 0.4, 0.8])
    drawn, gradients = draw_with_gradients(cuda.CudaRenderer(), gaussians, cameras, background, weights)
    truth, expected = draw_with_gradients(ReferenceRenderer(), gaussians, cameras, background, weights)
    del expected["means2d"]  # with batch dimensions the stand-in's tensor is a view, aside of the graph
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient)
    torch.testing.assert_close(drawn.depth, truth.depth)
    torch.testing.assert_close(drawn.alpha, truth.alpha)
    assert drawn.rgb.shape == (3, 3, 16, 24)
    assert torch.equal(drawn.radii, truth.radii)


@pytest.mark.parametrize("shape", [(3, 7, 2), (3, 1, 7, 2)])
def test_the_returned_means2d_receives_gsplats_gradient(shape: tuple[int, ...]) -> None:
    projected = torch.rand(shape, requires_grad=True) * 1.0
    mirror = cuda._mirror(projected, (3, 7, 2))
    (projected**2).sum().backward()
    assert mirror.grad is not None
    torch.testing.assert_close(mirror.grad, 2 * projected.detach().reshape(3, 7, 2))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gsplat") is None, reason="gsplat is not installed")
def test_gsplat_has_the_arguments_we_pass() -> None:
    import gsplat

    assert set(inspect.signature(_rasterization).parameters) <= set(inspect.signature(gsplat.rasterization).parameters)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("poses", [1, 2])
def test_draws_what_the_reference_draws(poses: int) -> None:
    class OnGpu:
        device = "cpu"

        def __call__(self, gaussians: Gaussians, cameras: Cameras, background: Tensor) -> Any:
            return cuda.CudaRenderer()(gaussians.to("cuda"), cameras.to("cuda"), background.to("cuda")).to("cpu")

    assert_matches_reference(OnGpu(), random_gaussians(200, poses, seed=1), ring_cameras(2, 40, 30))
