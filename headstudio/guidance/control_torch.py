"""The control map of `control.py` drawn where the tensors are: no copy to the host, no shape that depends on data.

`LandmarkControl` uses it when the head lies on an accelerator. Two things differ from the drawing on the CPU, both
below what a ControlNet sees: a line's edge is covered by formula instead of by averaging a larger picture, and its
ends are not rounded to a sixteenth of a pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headstudio.camera import project
from headstudio.device import to_device
from headstudio.render.mesh import NEAR
from headstudio.types import Cameras

FAR = 1e6  # world units, the depth of a pixel that sees no surface

Polylines = tuple[tuple[str, int, int, bool], ...]


def surface_depths(
    vertices: Float[Tensor, "P V 3"],
    faces: Int[Tensor, "F 3"],
    cameras: Cameras,
    pixels: Float[Tensor, "B K 2"],
    *,
    faces_at_once: int = 1024,
) -> Float[Tensor, "B K"]:
    """The depth of the nearest surface at K positions (pixels) of each view; `FAR` where there is none.

    What a z-buffer holds at these positions, without the buffer: barycentric weights and inverse depths are affine in
    the picture, so one product of matrices evaluates all triangles at all positions. It runs in float64 like the
    z-buffer: inside tests of triangles below a pixel need the digits, and no setting makes float64 products coarser.
    """
    corners, depth = project(vertices.double(), cameras.to(dtype=torch.float64))
    corners, depth = corners[:, faces], depth[:, faces]  # (B, F, 3, 2), (B, F, 3)
    x, y = corners.unbind(-1)
    following, preceding = (1, 2, 0), (2, 0, 1)
    x1, y1, x2, y2 = (torch.stack([v[..., k] for k in order], -1) for order in (following, preceding) for v in (x, y))
    across, down, constant = y1 - y2, x2 - x1, x1 * y2 - x2 * y1  # twice the area opposite each corner is affine
    doubled = constant.sum(-1, keepdim=True)
    drawn = (doubled[..., 0] != 0) & (depth > NEAR).all(-1)
    safe = torch.where(drawn[..., None], doubled, 1.0)
    weights = torch.stack((across, down, constant), -1) / safe[..., None]  # (B, F, 3 corners, 3 coefficients)
    inverse = (weights / torch.where(drawn[..., None], depth, 1.0)[..., None]).sum(2, keepdim=True)
    affine = torch.cat((weights, inverse), dim=2)  # (B, F, 4, 3)
    at = torch.cat((pixels.double(), torch.ones_like(pixels[..., :1]).double()), -1)
    nearest = torch.zeros_like(at[..., 0])
    for some, kept in zip(affine.split(faces_at_once, 1), drawn.split(faces_at_once, 1), strict=True):
        value = (at @ some.flatten(1, 2).mT).unflatten(-1, (-1, 4))  # (B, K, some faces, 4)
        inside = (value[..., :3] >= 0).all(-1) & kept[:, None]
        nearest = torch.maximum(nearest, torch.where(inside, value[..., 3], 0.0).amax(-1))
    return torch.where(nearest > 0, 1 / nearest.clamp_min(1 / FAR), FAR).to(vertices.dtype)


def visible_points(
    vertices: Float[Tensor, "P V 3"],
    faces: Int[Tensor, "F 3"],
    cameras: Cameras,
    pixels: Float[Tensor, "B L 2"],
    depth: Float[Tensor, "B L"],
    polylines: Polylines,
    *,
    tolerance: float,
    pupil_tolerance: float,
) -> Bool[Tensor, "B L"]:
    """`LandmarkControl.visible` with rays in the place of a z-buffer, through the same pixel centres."""
    centre = pixels.floor()
    column, row = centre.unbind(-1)
    inside = (column >= 0) & (column < cameras.width) & (row >= 0) & (row < cameras.height) & (depth > 0)
    steps = torch.arange(-1, 2, device=pixels.device, dtype=pixels.dtype)
    around = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(9, 2)
    rays = centre[:, :, None] + around + 0.5  # (B, L, 9, 2)
    surface = surface_depths(vertices, faces, cameras, rays.flatten(1, 2)).unflatten(1, (-1, 9))
    x, y = rays.unbind(-1)
    in_picture = (x > 0) & (x < cameras.width) & (y > 0) & (y < cameras.height)
    deepest = torch.where(in_picture, surface, 0.0).amax(-1)
    is_pupil = _plan(polylines, pixels.device).is_pupil
    seen = torch.where(is_pupil, depth <= surface[..., 4] + pupil_tolerance, depth <= deepest + tolerance)
    return inside & seen


def draw_lines(
    pixels: Float[Tensor, "B L 2"],
    visible: Bool[Tensor, "B L"],
    polylines: Polylines,
    colors: Mapping[str, tuple[int, int, int]],
    cameras: Cameras,
    *,
    thickness_px: float,
    pupil_px: float,
    segments_at_once: int = 8,
) -> Float[Tensor, "B 3 h w"]:
    """Lines and pupils on black, later ones over earlier ones, RGB in [0, 1].

    A pixel's share of a line is the product of two overlaps, across it and along it; the shares of a line's segments
    add up to 1 at most, so that they join without a seam.
    """
    plan = _plan(polylines, pixels.device)
    count, device, dtype = len(pixels), pixels.device, pixels.dtype
    picture = torch.zeros(count, 3, cameras.height, cameras.width, device=device, dtype=dtype)
    x = (torch.arange(cameras.width, device=device, dtype=dtype) + 0.5)[None, None, None, :]
    y = (torch.arange(cameras.height, device=device, dtype=dtype) + 0.5)[None, None, :, None]
    shades = _shades(tuple(colors[name] for name, *_ in polylines), device).to(dtype)
    for line, (first, last) in enumerate(plan.segments_of):
        share = torch.zeros(count, cameras.height, cameras.width, device=device, dtype=dtype)
        for begin in range(first, last, segments_at_once):
            some = slice(begin, min(begin + segments_at_once, last))
            start, end = plan.start[some], plan.end[some]
            both = (visible[:, start] & visible[:, end]).to(dtype)[..., None, None]
            here, there = (pixels[:, index].unbind(-1) for index in (start, end))
            cover = _square(x, y, here, pupil_px) if plan.is_square[line] else _stroke(x, y, here, there, thickness_px)
            share = share + (both * cover).sum(1)
        share = share.clamp_max(1.0)[:, None]
        picture = picture * (1 - share) + shades[line, :, None, None] * share
    return picture


def _stroke(
    x: Tensor, y: Tensor, here: tuple[Tensor, ...], there: tuple[Tensor, ...], thickness: float
) -> Float[Tensor, "B S h w"]:
    """The share of every pixel that a straight stroke with flat ends covers.

    A pixel counts as a row or column of it through its centre, whichever crosses the stroke more squarely: then the
    shares of every row or column add up to the stroke's width there, at any angle.
    """
    (ax, ay), (bx, by) = ((v[..., None, None] for v in point) for point in (here, there))
    length = torch.hypot(bx - ax, by - ay)
    ux, uy = (bx - ax) / length.clamp_min(1e-6), (by - ay) / length.clamp_min(1e-6)
    along = (x - ax) * ux + (y - ay) * uy
    across = (y - ay) * ux - (x - ax) * uy
    step = torch.maximum(ux.abs(), uy.abs()).clamp_min(0.7)
    return _overlap(across, -thickness / 2, thickness / 2, step) * _overlap(along, 0.0, length, step)


def _square(x: Tensor, y: Tensor, centre: tuple[Tensor, ...], side: float) -> Float[Tensor, "B S h w"]:
    """The share of every pixel that a square covers."""
    cx, cy = (v[..., None, None] for v in centre)
    return _overlap(x - cx, -side / 2, side / 2) * _overlap(y - cy, -side / 2, side / 2)


def _overlap(middle: Tensor, low: float, high: float | Tensor, width: float | Tensor = 1.0) -> Tensor:
    """The share of a pixel, `width` wide around `middle`, that lies in the interval from `low` to `high`."""
    lower, upper = middle - width / 2, middle + width / 2
    upper = torch.minimum(upper, high) if isinstance(high, Tensor) else upper.clamp_max(high)
    return (upper - lower.clamp_min(low)).clamp_min(0.0) / width


@dataclass(frozen=True)
class _Plan:
    """What a head's polylines mean for drawing: index tensors of segment ends, and which segments form which line."""

    start: Int[Tensor, " S"]
    end: Int[Tensor, " S"]
    is_pupil: Bool[Tensor, " L"]
    segments_of: tuple[tuple[int, int], ...]
    is_square: tuple[bool, ...]


@lru_cache(maxsize=8)
def _plan(polylines: Polylines, device: torch.device) -> _Plan:
    """Moved once per head and device. A pupil is a segment from its point to itself."""
    pairs: list[tuple[int, int]] = []
    segments_of: list[tuple[int, int]] = []
    for _, first, last, closed in polylines:
        before = len(pairs)
        if last - first == 1:
            pairs.append((first, first))
        else:
            ring = [*range(first, last), first] if closed else [*range(first, last)]
            pairs += pairwise(ring)
        segments_of.append((before, len(pairs)))
    squares = tuple(last - first == 1 for _, first, last, _ in polylines)
    pupil = torch.zeros(max(last for _, _, last, _ in polylines), dtype=torch.bool)
    pupil[[first for (_, first, _, _), square in zip(polylines, squares, strict=True) if square]] = True
    start, end = torch.tensor(pairs).unbind(-1)
    return _Plan(
        to_device(start.contiguous(), device),
        to_device(end.contiguous(), device),
        to_device(pupil, device),
        tuple(segments_of),
        squares,
    )


@lru_cache(maxsize=8)
def _shades(colors: tuple[tuple[int, int, int], ...], device: torch.device) -> Float[Tensor, "lines 3"]:
    return to_device(torch.tensor(colors) / 255.0, device)
