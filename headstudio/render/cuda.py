"""The CUDA renderer: gsplat behind the same call as the CPU renderer."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from headstudio.errors import UserError
from headstudio.render import BLUR_PX2, NEAR_PLANE
from headstudio.types import Cameras, Gaussians, Render

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class CudaRenderer:
    """Draws with `gsplat.rasterization`; all inputs must be float32 CUDA tensors.

    The host waits once in each call, where gsplat asks how many pairs of tile and Gaussian it has to sort
    (`Intersect.cpp`), and with `packed` once more, for the number of visible Gaussians (`Projection.cpp`).

    Args:
        packed: gsplat keeps only the pairs of view and visible Gaussian. Less memory when views see a small part of
            the Gaussians; the same pictures, and here the same shapes: what a view does not see gets zeros.
        absgrad: the gradient of `Render.means2d`, which densification reads, adds up the pixels' gradients by their
            absolute values, so that pulls to opposite sides don't cancel. Parameters get the usual gradient.
            Source: Ye et al. 2024 (AbsGS), section 3; gsplat `meta["means2d"].absgrad`.

    Raises:
        UserError: when created without a CUDA device, or with a gsplat that could not build its kernels.
    """

    device = "cuda"

    def __init__(self, *, packed: bool, absgrad: bool) -> None:
        lacking = missing()
        if lacking:
            raise UserError(f"renderer=cuda needs {lacking}; renderer=cpu draws the same pictures without a GPU.")
        self.packed, self.absgrad = packed, absgrad

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
            render_mode="RGB+D",
            packed=self.packed,
            absgrad=self.absgrad,
        )
        pictures = pictures.reshape(count, cameras.height, cameras.width, 4).permute(0, 3, 1, 2)
        alpha = alpha.reshape(count, 1, cameras.height, cameras.width)
        # Rule 6's last term is ours: gsplat 1.5.3 refuses `backgrounds` when packed (its issue 764).
        behind = (1 - alpha) * background.expand(count, 3)[..., None, None]
        place = _Packed(meta, views[-1], count, size) if self.packed else _Dense(count, size)
        return Render(
            rgb=pictures[:, :3] + behind,
            alpha=alpha,
            depth=pictures[:, 3:],
            means2d=_mirror(meta["means2d"], place, self.absgrad),
            radii=place(meta["radii"]).amax(dim=-1),
        )


def missing() -> str:
    """What the CUDA renderer lacks on this machine, in words; empty when it can run."""
    if not torch.cuda.is_available():
        return "an NVIDIA GPU that torch can use (torch.cuda.is_available() is false)"
    from gsplat.cuda._backend import _C

    return "" if _C is not None else "gsplat's compiled kernels (install the CUDA toolkit that torch was built for)"


class _Dense:
    """(..., N, 2) with gsplat's batch dimensions to (B, N, 2)."""

    def __init__(self, count: int, size: int) -> None:
        self._shape = (count, size, 2)

    def __call__(self, values: Tensor) -> Float[Tensor, "B N 2"]:
        return values.reshape(self._shape)


class _Packed:
    """(nnz, 2), one row per pair of view and visible Gaussian, to (B, N, 2) with zeros elsewhere.

    Args:
        meta: gsplat's; with `batch_ids`, `camera_ids` and `gaussian_ids` of every row.
        views: cameras per scene.
        count, size: B and N.
    """

    def __init__(self, meta: Mapping[str, Any], views: int, count: int, size: int) -> None:
        picture = meta["batch_ids"].long() * views + meta["camera_ids"].long()
        self._row = picture * size + meta["gaussian_ids"].long()
        self._shape = (count, size, 2)

    def __call__(self, values: Tensor) -> Float[Tensor, "B N 2"]:
        count, size, _ = self._shape
        return values.new_zeros(count * size, 2).index_copy(0, self._row, values).reshape(self._shape)


def _mirror(projected: Tensor, place: _Dense | _Packed, absolute: bool) -> Float[Tensor, "B N 2"]:
    """A copy of `projected` in the shape of `Render.means2d` that receives its gradient.

    A reshaped view would not do: gsplat's graph runs through its own tensor, so a view's gradient stays None.
    With `absolute` it receives what gsplat has left in `projected.absgrad` by the time of the hook.
    """
    mirror = place(projected.detach())
    if projected.requires_grad:
        mirror.requires_grad_()
        # The mirror holds gsplat's tensor and the tensor's hook holds the mirror weakly: no circle keeps either alive.
        vars(mirror)["projected"] = projected
        reference = weakref.ref(mirror)

        def receive(gradient: Tensor) -> None:
            target = reference()
            if target is not None:
                source: Any = vars(target)["projected"]
                gradient = place(source.absgrad if absolute else gradient)
                target.grad = gradient if target.grad is None else target.grad + gradient

        projected.register_hook(receive)
    return mirror
