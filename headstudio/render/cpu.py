"""The CPU renderer: numba kernels behind two autograd functions, `_Project` and `_Composite`.

Two, so that the projected means are a tensor of the graph whose gradient densification can read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from headstudio.render import kernels_bin, kernels_composite, kernels_project
from headstudio.render.jit import available_threads, spread
from headstudio.types import Cameras, Gaussians, Render

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


_DEAL = 8  # parts the tiles are dealt into


class CpuRenderer:
    """Draws on the CPU by the rules of `headstudio.render`, in float32, with `threads` threads (None: all).

    The result does not depend on the number of threads and repeats bit for bit. Inputs on other devices or of
    other dtypes are converted, and the pictures converted back; `means2d` stays float32 on the CPU.
    """

    device = "cpu"

    def __init__(self, *, threads: int | None = None) -> None:
        self.threads = threads or available_threads()

    def __call__(
        self, gaussians: Gaussians, cameras: Cameras, background: Float[Tensor, "3"] | Float[Tensor, "B 3"]
    ) -> Render:
        """See `headstudio.render.Renderer`."""
        like = gaussians.means
        inputs = gaussians.to(device="cpu", dtype=torch.float32)
        views = _Views.of(cameras)
        background = background.detach().to(device="cpu", dtype=torch.float32).expand(len(cameras), 3)
        means2d, factors, depths, extents, radii = _Project.apply(
            inputs.means, inputs.quats, inputs.scales, inputs.opacities.detach(), views, self.threads
        )
        if means2d.requires_grad:
            means2d.retain_grad()
        rgb, alpha, depth = _Composite.apply(
            means2d, factors, depths, inputs.opacities, inputs.colors, extents, radii, background, views, self.threads
        )
        return Render(rgb=rgb.to(like), alpha=alpha.to(like), depth=depth.to(like), means2d=means2d, radii=radii)


@dataclass(frozen=True)
class _Views:
    """Cameras as the kernels read them: float64 arrays."""

    camera_from_world: Any  # (B, 4, 4)
    intrinsics: Any  # (B, 3, 3)
    width: int
    height: int

    @staticmethod
    def of(cameras: Cameras) -> _Views:
        return _Views(
            cameras.camera_from_world.detach().cpu().double().contiguous().numpy(),
            cameras.intrinsics.detach().cpu().double().contiguous().numpy(),
            cameras.width,
            cameras.height,
        )


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def _float32(*shape: int) -> Any:
    return np.empty(shape, np.float32)


def _cache_lines(*shape: int) -> Any:
    """An empty array of one cache line (16 float32) per element, each on a line of its own."""
    line = kernels_bin.PACKED
    spare = np.empty(math.prod(shape) * line + line, np.float32)
    start = -(spare.ctypes.data // spare.itemsize) % line
    return spare[start : start + spare.size - line].reshape(*shape, line)


class _Project(torch.autograd.Function):
    """Means, quaternions and scales to projected means, factors and depths; see `kernels_project`."""

    @staticmethod
    def forward(
        ctx: Any, means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, views: _Views, threads: int
    ) -> tuple[Tensor, ...]:
        shape = (len(views.intrinsics), means.shape[1])
        means2d, factors, extents = _float32(*shape, 2), _float32(*shape, 3), _float32(*shape, 2)
        depths, radii = _float32(*shape), np.empty(shape, np.int32)
        spread(
            kernels_project.project_forward, shape[1], threads,
            _array(means), _array(quats), _array(scales), _array(opacities),
            views.camera_from_world, views.intrinsics, views.width, views.height,
            means2d, factors, depths, extents, radii,
        )  # fmt: skip
        outputs = tuple(torch.from_numpy(array) for array in (means2d, factors, depths, extents, radii))
        ctx.mark_non_differentiable(*outputs[3:])
        ctx.save_for_backward(means, quats, scales, outputs[4])
        ctx.views, ctx.threads = views, threads
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_means2d: Tensor, grad_factors: Tensor, grad_depths: Tensor, *_: Any) -> Any:
        means, quats, scales, radii = ctx.saved_tensors
        grads = [torch.empty(tensor.shape, dtype=torch.float32) for tensor in (means, quats, scales)]
        spread(
            kernels_project.project_backward, means.shape[1], ctx.threads, _array(means), _array(quats), _array(scales),
            ctx.views.camera_from_world, ctx.views.intrinsics, ctx.views.width, ctx.views.height, _array(radii),
            _array(grad_means2d), _array(grad_factors), _array(grad_depths), *(_array(grad) for grad in grads),
        )  # fmt: skip
        return *grads, None, None, None


@dataclass(frozen=True)
class _Tiles:
    """Entries in both of their orders; see `kernels_bin`."""

    packed: Any
    counts: Any
    slot_ends: Any
    first: Any
    entry_gaussian: Any
    slot_entry: Any
    order: Any
    columns: int


def _sort_into_tiles(projected: Sequence[Any], views: _Views, threads: int) -> _Tiles:
    means2d, factors, depths, extents, radii, opacities, colors = projected
    cameras, count = radii.shape
    columns, rows = -(-views.width // kernels_bin.TILE), -(-views.height // kernels_bin.TILE)
    packed, counts = _cache_lines(cameras, count), np.empty((cameras, count), np.int32)
    spread(
        kernels_bin.count_tiles, count, threads,
        means2d, factors, depths, extents, radii, opacities, colors, columns, rows, packed, counts,
    )  # fmt: skip
    slot_ends = np.cumsum(counts, dtype=np.int64).reshape(cameras, count)
    entries = int(slot_ends[-1, -1]) if slot_ends.size else 0
    slot_tile, entry_gaussian, slot_entry = (np.empty(entries, np.int32) for _ in range(3))
    first = np.zeros((cameras, columns * rows + 1), np.int64)
    if entries:
        spread(kernels_bin.fill_slots, count, threads, packed, extents, counts, slot_ends, columns, rows, slot_tile)
        scratch = np.empty((cameras, 2, count), np.int32)
        spread(
            kernels_bin.sort_entries, cameras, threads,
            depths.view(np.int32), counts, slot_ends, slot_tile, scratch, first, entry_gaussian, slot_entry,
        )  # fmt: skip
    # Neighbouring tiles cost alike, so deal them out like cards: consecutive parts then cost alike.
    order = np.arange(first.size - cameras)
    order = np.concatenate([order[start::_DEAL] for start in range(_DEAL)])
    return _Tiles(packed, counts, slot_ends, first, entry_gaussian, slot_entry, order, columns)


class _Composite(torch.autograd.Function):
    """Projected Gaussians to pictures; see `kernels_bin` and `kernels_composite`."""

    @staticmethod
    def forward(
        ctx: Any, means2d: Tensor, factors: Tensor, depths: Tensor, opacities: Tensor, colors: Tensor,
        extents: Tensor, radii: Tensor, background: Tensor, views: _Views, threads: int,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        size = (len(views.intrinsics), views.height, views.width)
        rgb, depth, transmittance, last = _float32(size[0], 3, *size[1:]), *(_float32(*size) for _ in range(3))
        projected = [_array(tensor) for tensor in (means2d, factors, depths, extents, radii, opacities, colors)]
        tiles = _sort_into_tiles(projected, views, threads)
        spread(
            kernels_composite.composite_forward, len(tiles.order), threads,
            tiles.packed, tiles.first, tiles.entry_gaussian, tiles.order, _array(background), tiles.columns,
            rgb, depth, transmittance, last,
        )  # fmt: skip
        ctx.save_for_backward(factors, opacities, background)
        ctx.tiles, ctx.transmittance, ctx.last, ctx.threads = tiles, transmittance, last, threads
        alpha = 1.0 - torch.from_numpy(transmittance)
        return torch.from_numpy(rgb), alpha[:, None], torch.from_numpy(depth)[:, None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rgb: Tensor, grad_alpha: Tensor, grad_depth: Tensor) -> Any:
        factors, opacities, background = ctx.saved_tensors
        tiles: _Tiles = ctx.tiles
        cameras, count = tiles.counts.shape
        moments = _cache_lines(len(tiles.slot_entry))
        shapes = ((cameras, count, 2), (cameras, count, 3), (cameras, count), (count,), (count, 3))
        grads = [torch.empty(shape) for shape in shapes]
        spread(
            kernels_composite.composite_backward, len(tiles.order), ctx.threads,
            tiles.packed, tiles.first, tiles.entry_gaussian, tiles.order,
            _array(background), tiles.columns, ctx.transmittance, ctx.last,
            _array(grad_rgb), _array(grad_depth[:, 0]), _array(grad_alpha[:, 0]), moments,
        )  # fmt: skip
        spread(
            kernels_composite.gather_gradients, count, ctx.threads,
            moments, tiles.slot_entry, tiles.counts, tiles.slot_ends, _array(factors), _array(opacities),
            *(_array(grad) for grad in grads),
        )  # fmt: skip
        return *grads, None, None, None, None, None
