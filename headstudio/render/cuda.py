"""The CUDA renderer: gsplat behind the same call as the CPU renderer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from headstudio.errors import UserError
from headstudio.render import BLUR_PX2, NEAR_PLANE
from headstudio.types import Cameras, Gaussians, Render

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class CudaRenderer:
    """Draws with `gsplat.rasterization`; all inputs must be CUDA tensors.

    Raises:
        UserError: when created without a CUDA device, or with a gsplat that could not build its kernels.
    """

    device = "cuda"

    def __init__(self) -> None:
        lacking = missing()
        if lacking:
            raise UserError(f"renderer=cuda needs {lacking}; renderer=cpu draws the same pictures without a GPU.")

    def __call__(
        self, gaussians: Gaussians, cameras: Cameras, background: Float[Tensor, "3"] | Float[Tensor, "B 3"]
    ) -> Render:
        """See `headstudio.render.Renderer`."""
        from gsplat import rasterization

        count, size = len(cameras), gaussians.means.shape[1]
        # gsplat's batches: one scene seen by B cameras, or B scenes seen by one camera each.
        posed = gaussians.means.shape[0] > 1
        scenes, views = ((count,), (count, 1)) if posed else ((), (count,))
        pictures, alpha, meta = rasterization(
            means=gaussians.means.reshape(*scenes, size, 3),
            quats=gaussians.quats.reshape(*scenes, size, 4),
            scales=gaussians.scales.reshape(*scenes, size, 3),
            opacities=gaussians.opacities.expand(*scenes, size),
            colors=gaussians.colors.expand(*scenes, size, 3),
            viewmats=cameras.camera_from_world.reshape(*views, 4, 4),
            Ks=cameras.intrinsics.reshape(*views, 3, 3),
            width=cameras.width,
            height=cameras.height,
            near_plane=NEAR_PLANE,
            eps2d=BLUR_PX2,
            backgrounds=background.expand(count, 3).reshape(*views, 3),
            render_mode="RGB+D",
            packed=False,
        )
        pictures = pictures.reshape(count, cameras.height, cameras.width, 4).permute(0, 3, 1, 2)
        return Render(
            rgb=pictures[:, :3],
            alpha=alpha.reshape(count, 1, cameras.height, cameras.width),
            depth=pictures[:, 3:],
            means2d=_mirror(meta["means2d"], (count, size, 2)),
            radii=meta["radii"].reshape(count, size, 2).amax(dim=-1),
        )


def missing() -> str:
    """What the CUDA renderer lacks on this machine, in words; empty when it can run."""
    if not torch.cuda.is_available():
        return "an NVIDIA GPU that torch can use (torch.cuda.is_available() is false)"
    from gsplat.cuda._backend import _C

    return "" if _C is not None else "gsplat's compiled kernels (install the CUDA toolkit that torch was built for)"


def _mirror(projected: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """A copy of `projected` in another shape that receives its gradient.

    A reshaped view would not do: gsplat's graph runs through its own tensor, so a view's gradient stays None.
    """
    mirror = projected.detach().reshape(shape)
    if projected.requires_grad:
        mirror.requires_grad_()

        def receive(gradient: Tensor) -> None:
            gradient = gradient.reshape(shape)
            mirror.grad = gradient if mirror.grad is None else mirror.grad + gradient

        projected.register_hook(receive)
    return mirror
