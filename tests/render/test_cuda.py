"""The CUDA renderer: its refusal without a GPU, its use of gsplat's interface, and (with a GPU) its pictures."""

from __future__ import annotations

import gc
import importlib.util
import inspect
import sys
import types
import weakref

import fake_gsplat
import pytest
import torch
from scenes import INPUTS, assert_matches_reference, draw_with_gradients, random_gaussians, ring_cameras
from torch import Tensor

from headstudio.errors import UserError
from headstudio.render import cuda
from headstudio.render.reference import ReferenceRenderer, project
from headstudio.types import Gaussians

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@without_gpu
def test_says_what_it_needs() -> None:
    with pytest.raises(UserError, match="renderer=cuda needs an NVIDIA GPU") as error:
        cuda.CudaRenderer(packed=False, absgrad=False)
    assert "renderer=cpu" in str(error.value)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """gsplat's interface without a GPU."""
    module = types.SimpleNamespace(rasterization=fake_gsplat.rasterization)
    monkeypatch.setitem(sys.modules, "gsplat", module)
    monkeypatch.setattr(cuda, "missing", lambda: "")


def off_screen(gaussians: Gaussians, every: int) -> Gaussians:
    """Every n-th Gaussian where no camera of `ring_cameras` sees it."""
    means = gaussians.means.clone()
    means[:, ::every] += 100.0
    return Gaussians(means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("poses", [1, 3])
def test_passes_batches_and_gradients_through_gsplats_interface(poses: int, packed: bool) -> None:
    gaussians, cameras = off_screen(random_gaussians(50, poses, seed=1), every=3), ring_cameras(3, 24, 16)
    weights = torch.randn(3, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    background = torch.rand(3, 3, generator=torch.Generator().manual_seed(2))
    renderer = cuda.CudaRenderer(packed=packed, absgrad=False)
    drawn, gradients = draw_with_gradients(renderer, gaussians, cameras, background, weights)
    truth, expected = draw_with_gradients(ReferenceRenderer(), gaussians, cameras, background, weights)
    assert float(expected["means2d"].abs().max()) > 0
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient)
    for name in ("rgb", "alpha", "depth"):
        torch.testing.assert_close(getattr(drawn, name), getattr(truth, name))
    assert torch.equal(drawn.radii, truth.radii)
    seen = truth.radii > 0
    assert 0 < int(seen.sum()) < seen.numel(), "packing must have something to leave out"
    torch.testing.assert_close(drawn.means2d[seen], truth.means2d[seen])
    if packed:
        assert not bool(drawn.means2d[~seen].any())


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("poses", [1, 2])
def test_absgrad_reaches_densification_and_nothing_else(poses: int, packed: bool) -> None:
    gaussians, cameras = off_screen(random_gaussians(40, poses, seed=4), every=4), ring_cameras(2, 24, 16)
    weights = torch.randn(2, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    black = torch.zeros(3)
    renderer = cuda.CudaRenderer(packed=packed, absgrad=True)
    _, gradients = draw_with_gradients(renderer, gaussians, cameras, black, weights)
    _, expected = draw_with_gradients(ReferenceRenderer(), gaussians, cameras, black, weights)
    torch.testing.assert_close(gradients["means2d"], 3 * expected["means2d"].abs())  # what the stand-in leaves there
    for name in INPUTS:
        torch.testing.assert_close(gradients[name], expected[name])


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("packed", [False, True])
def test_a_view_that_sees_nothing_is_its_background(packed: bool) -> None:
    gaussians, cameras = off_screen(random_gaussians(5, 1, seed=1), every=1), ring_cameras(2, 8, 6)
    drawn = cuda.CudaRenderer(packed=packed, absgrad=False)(gaussians, cameras, torch.tensor([0.25, 0.5, 0.75]))
    assert not bool(drawn.radii.any())
    torch.testing.assert_close(drawn.rgb[1, :, 3, 4].float(), torch.tensor([0.25, 0.5, 0.75]))
    assert drawn.means2d.shape == (2, 5, 2)


@pytest.mark.parametrize("shape", [(3, 7, 2), (3, 1, 7, 2)])
def test_the_returned_means2d_receives_gsplats_gradient(shape: tuple[int, ...]) -> None:
    projected = torch.rand(shape, requires_grad=True) * 1.0
    mirror = cuda._mirror(projected, cuda._Dense(3, 7), absolute=False)
    (projected**2).sum().backward(retain_graph=True)
    assert mirror.grad is not None
    torch.testing.assert_close(mirror.grad, 2 * projected.detach().reshape(3, 7, 2))
    projected.sum().backward()
    torch.testing.assert_close(mirror.grad, 2 * projected.detach().reshape(3, 7, 2) + 1)


def test_a_render_that_is_let_go_leaves_no_circle() -> None:
    """A circle of tensor and hook would keep a step's pictures until the garbage collector comes by."""
    gc.disable()
    try:
        projected = torch.rand(3, 7, 2, requires_grad=True) * 1.0
        mirror = cuda._mirror(projected, cuda._Dense(3, 7), absolute=False)
        kept = weakref.ref(projected), weakref.ref(mirror)
        loss = projected.sum()
        del mirror
        loss.backward()  # nobody wants the gradient any more
        del projected, loss
        assert [reference() for reference in kept] == [None, None]
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gsplat") is None, reason="gsplat is not installed")
def test_gsplat_has_the_arguments_we_pass() -> None:
    import gsplat

    ours, theirs = inspect.signature(fake_gsplat.rasterization), inspect.signature(gsplat.rasterization)
    assert set(ours.parameters) <= set(theirs.parameters)
    names = inspect.getsource(gsplat.rasterization)
    for key in ("batch_ids", "camera_ids", "gaussian_ids", "radii", "means2d"):
        assert f'"{key}":' in names, "what _Packed reads"


with_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@with_gpu
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("poses", [1, 2])
def test_draws_what_the_reference_draws(poses: int, packed: bool) -> None:
    renderer = cuda.CudaRenderer(packed=packed, absgrad=False)
    scene = random_gaussians(200, poses, seed=1).to("cuda"), ring_cameras(2, 40, 30).to("cuda")
    assert_matches_reference(renderer, *scene)


@pytest.mark.gpu
@with_gpu
@pytest.mark.parametrize("packed", [False, True])
def test_absolute_gradients_are_no_smaller_than_signed_ones(packed: bool) -> None:
    """|sum| <= sum of absolute values, per Gaussian and axis, and strictly for one that is pulled to both sides."""
    scene = random_gaussians(200, 1, seed=1).to("cuda"), ring_cameras(2, 40, 30).to("cuda")
    weights = torch.randn(2, 5, 30, 40, device="cuda")
    found: list[Tensor] = []
    for absgrad in (False, True):
        renderer = cuda.CudaRenderer(packed=packed, absgrad=absgrad)
        found.append(draw_with_gradients(renderer, *scene, torch.zeros(3, device="cuda"), weights)[1]["means2d"])
    signed, absolute = found
    assert bool((signed.abs() <= absolute * 1.001 + 1e-6).all())
    seen = project(*scene).visible
    assert float(absolute[seen].sum()) > 1.1 * float(signed[seen].abs().sum())
