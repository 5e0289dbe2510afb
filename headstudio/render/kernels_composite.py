"""Front-to-back compositing of one tile at a time and its gradient, compiled for the CPU.

A tile is 16 rows of 16 pixels; a row is one value of type `simd.LANES`. Each tile belongs to one thread and each
entry (Gaussian, tile) has its own place for gradients, so nothing depends on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from headstudio.render import MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE
from headstudio.render.jit import inlined, kernel
from headstudio.render.simd import any_lane, lane_sum, load, prefetch, ramp, select, smaller, splat, store

TILE = 16

_ZERO, _ONE, _HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)
_ROWS, _LAST_LANE = np.float32(TILE), np.float32(TILE - 1)
_MAX_ALPHA, _STOP = np.float32(MAX_ALPHA), np.float32(MIN_TRANSMITTANCE)
_MIN_LEVEL = np.float32(math.log2(MIN_ALPHA) / 8.0)
# 2^x on [-1, 0] to 8e-8 relative (least squares at Chebyshev points); the eighth power of it covers [-8, 0].
_P0, _P1, _P2 = np.float32(0.9999999232135754), np.float32(0.6931421710941172), np.float32(0.24017158845675787)
_P3, _P4, _P5 = np.float32(0.05527813501978597), np.float32(0.009186874378666872), np.float32(0.0009381164726045347)

# Planes of a row in the forward scratch space: transmittance (negative: finished), r, g, b, depth, last entry.
_FORWARD_ROW = 6 * TILE
# ... and in the backward one: transmittance, what lies behind, gradients of r, g, b, depth, alpha, last entry.
_BACKWARD_ROW = 8 * TILE
_AHEAD = 8  # entries between asking for a Gaussian and drawing it: without asking, half the time is waiting
_CHECK_EVERY = 16  # entries between two looks at which rows are finished


@inlined
def _power(level: Any) -> Any:
    """2^(8 level) for level in [-1, 0]; outside of it, garbage that the caller masks."""
    x = ((((level * _P5 + _P4) * level + _P3) * level + _P2) * level + _P1) * level + _P0
    x = x * x
    x = x * x
    return x * x


@inlined
def _row_level(packed: Any, gaussian: int, u_left: Any, dy: Any) -> Any:
    """log2(alpha) / 8 at the row's closest approach is at least the threshold? Returns (yes, level at u = 0)."""
    a, v = packed[gaussian, 2], packed[gaussian, 4] * dy
    level = packed[gaussian, 5] - v * v
    u_right = u_left + a * _LAST_LANE
    nearest = max(u_left, _ZERO) + min(u_right, _ZERO)  # zero when the row's lanes straddle u = 0
    return level - nearest * nearest >= _MIN_LEVEL, level


@inlined
def _row_range(packed: Any, gaussian: int, top: int) -> Any:
    """First and one past the last row of the tile within the Gaussian's height."""
    middle, half = packed[gaussian, 1] - np.float32(top) - _HALF, packed[gaussian, 6]
    # Truncating a clamped number instead of floor and ceil, which numba calls from libm: 40 ns an entry.
    first = min(max(middle - half + np.float32(0.99), _ZERO), _ROWS)
    end = min(max(middle + half + np.float32(1.01), _ZERO), _ROWS)
    return int(first), int(end)


@inlined
def _draw_row(row: Any, o: int, packed: Any, gaussian: int, u_left: Any, level: Any, entry: Any) -> None:
    """Rules 4-6 for sixteen pixels."""
    zero = splat(_ZERO)
    u = ramp() * packed[gaussian, 2] + u_left
    levels = level - u * u
    alpha = select(levels >= splat(_MIN_LEVEL), smaller(_power(levels), splat(_MAX_ALPHA)), zero)
    before = load(row, o)
    seen = before * alpha
    after = before - seen
    keep = after > splat(_STOP)
    weight = select(keep, seen, zero)
    store(row, o, select(keep, after, smaller(before, zero - before)))
    store(row, o + TILE, load(row, o + TILE) + weight * packed[gaussian, 7])
    store(row, o + 2 * TILE, load(row, o + 2 * TILE) + weight * packed[gaussian, 8])
    store(row, o + 3 * TILE, load(row, o + 3 * TILE) + weight * packed[gaussian, 9])
    store(row, o + 4 * TILE, load(row, o + 4 * TILE) + weight * packed[gaussian, 10])
    store(row, o + 5 * TILE, select(weight > zero, splat(entry), load(row, o + 5 * TILE)))


@inlined
def _draw_tile(
    packed: Any, entry_gaussian: Any, first: int, end: int, left: int, top: int, rows: int, row: Any
) -> None:  # fmt: skip
    """Fill the forward scratch space of one tile."""
    live = np.ones(TILE, np.bool_)
    for r in range(TILE):
        o = r * _FORWARD_ROW
        store(row, o, splat(_ONE))
        for plane in range(1, 5):
            store(row, o + plane * TILE, splat(_ZERO))
        store(row, o + 5 * TILE, splat(-_ONE))
    corner_x = np.float32(left) + _HALF
    corner_y = np.float32(top) + _HALF
    for entry in range(end - first):
        if entry % _CHECK_EVERY == _CHECK_EVERY - 1:
            some = False
            for r in range(rows):
                live[r] = any_lane(load(row, r * _FORWARD_ROW) > splat(_ZERO))
                some = some or live[r]
            if not some:
                break
        prefetch(packed, entry_gaussian[min(first + entry + _AHEAD, end - 1)])
        gaussian = entry_gaussian[first + entry]
        x, y, a, b = packed[gaussian, 0], packed[gaussian, 1], packed[gaussian, 2], packed[gaussian, 3]
        r_first, r_end = _row_range(packed, gaussian, top)
        for r in range(r_first, min(r_end, rows)):
            if not live[r]:
                continue
            dy = corner_y + np.float32(r) - y
            u_left = a * (corner_x - x) + b * dy
            hit, level = _row_level(packed, gaussian, u_left, dy)
            if hit:
                _draw_row(row, r * _FORWARD_ROW, packed, gaussian, u_left, level, np.float32(entry))


@kernel
def composite_forward(
    start: int, end: int, packed: Any, tile_first: Any, entry_gaussian: Any, order: Any, background: Any,
    tiles_x: int, rgb: Any, depth: Any, transmittance: Any, last: Any,
) -> None:  # fmt: skip
    """Fill rgb (B, 3, H, W), depth, transmittance and last (B, H, W): float32.

    `last` is the index within its tile's list of the last Gaussian drawn on a pixel, -1 for none. `order` (B * tiles)
    says in which order the tiles are visited; it matters for speed only.
    """
    tiles, height, width = tile_first.shape[1] - 1, rgb.shape[2], rgb.shape[3]
    for index in range(start, end):
        camera, tile = order[index] // tiles, order[index] % tiles
        left, top = tile % tiles_x * TILE, tile // tiles_x * TILE
        rows, columns = min(TILE, height - top), min(TILE, width - left)
        row = np.empty(TILE * _FORWARD_ROW, np.float32)
        _draw_tile(packed[camera], entry_gaussian, tile_first[camera, tile], tile_first[camera, tile + 1],
                   left, top, rows, row)  # fmt: skip
        for r in range(rows):
            o = r * _FORWARD_ROW
            for i in range(columns):
                rest = abs(row[o + i])
                for k in range(3):
                    rgb[camera, k, top + r, left + i] = row[o + (1 + k) * TILE + i] + rest * background[camera, k]
                transmittance[camera, top + r, left + i] = rest
                depth[camera, top + r, left + i] = row[o + 4 * TILE + i]
                last[camera, top + r, left + i] = row[o + 5 * TILE + i]


@inlined
def _load_tile(
    grad_rgb: Any, grad_depth: Any, grad_alpha: Any, transmittance: Any, last: Any, background: Any,
    left: int, top: int, row: Any, row_last: Any,
) -> int:  # fmt: skip
    """Fill the backward scratch space and the last entry of each row; returns the tile's last entry."""
    height, width = transmittance.shape
    tile_last = -1
    for r in range(TILE):
        o = r * _BACKWARD_ROW
        row_last[r] = -1
        for i in range(TILE):
            if top + r < height and left + i < width:
                y, x = top + r, left + i
                row[o + i] = transmittance[y, x]
                behind = _ZERO
                for k in range(3):
                    behind += grad_rgb[k, y, x] * background[k]
                    row[o + (2 + k) * TILE + i] = grad_rgb[k, y, x]
                row[o + TILE + i] = behind * transmittance[y, x]
                row[o + 5 * TILE + i] = grad_depth[y, x]
                row[o + 6 * TILE + i] = grad_alpha[y, x]
                row[o + 7 * TILE + i] = last[y, x]
                row_last[r] = max(row_last[r], int(last[y, x]))
            else:
                for plane in range(7):
                    row[o + plane * TILE + i] = _ZERO
                row[o + 7 * TILE + i] = -_ONE
        tile_last = max(tile_last, row_last[r])
    return tile_last


@inlined
def _undraw_row(row: Any, o: int, packed: Any, gaussian: int, u_left: Any, level: Any, entry: Any) -> Any:
    """The gradients of sixteen pixels for one Gaussian: (alpha * dL/dalpha, weight * dL/drgb (3), weight * dL/dz)."""
    zero, one = splat(_ZERO), splat(_ONE)
    u = ramp() * packed[gaussian, 2] + u_left
    levels = level - u * u
    drawn = (levels >= splat(_MIN_LEVEL)) & (load(row, o + 7 * TILE) >= splat(entry))
    raw = select(drawn, _power(levels), zero)
    alpha = smaller(raw, splat(_MAX_ALPHA))
    through = one / (one - alpha)
    before = load(row, o) * through
    weight = before * alpha
    g_red, g_green, g_blue = load(row, o + 2 * TILE), load(row, o + 3 * TILE), load(row, o + 4 * TILE)
    g_depth = load(row, o + 5 * TILE)
    value = (
        g_red * packed[gaussian, 7] + g_green * packed[gaussian, 8] + g_blue * packed[gaussian, 9]
        + g_depth * packed[gaussian, 10] + load(row, o + 6 * TILE)
    )  # fmt: skip
    behind = load(row, o + TILE)
    grad = select(raw > splat(_MAX_ALPHA), zero, alpha * (before * value - behind * through))
    store(row, o, before)
    store(row, o + TILE, behind + weight * value)
    return grad, weight * g_red, weight * g_green, weight * g_blue, weight * g_depth


@inlined
def _undraw_gaussian(
    packed: Any, gaussian: int, left: int, top: int, entry: int, row: Any, row_last: Any, out: Any
) -> None:  # fmt: skip
    """Write one entry's sums over the tile: the six moments of grad in (dx, dy), then r, g, b, z."""
    zero = splat(_ZERO)
    m0, m_y, m_yy = zero, zero, zero
    red, green, blue, deep = zero, zero, zero, zero
    x, y, a, b = packed[gaussian, 0], packed[gaussian, 1], packed[gaussian, 2], packed[gaussian, 3]
    corner_x = np.float32(left) + _HALF
    corner_y = np.float32(top) + _HALF
    r_first, r_end = _row_range(packed, gaussian, top)
    for r in range(r_first, r_end):
        if row_last[r] < entry:
            continue
        dy = corner_y + np.float32(r) - y
        u_left = a * (corner_x - x) + b * dy
        hit, level = _row_level(packed, gaussian, u_left, dy)
        if hit:
            grad, g_red, g_green, g_blue, g_depth = _undraw_row(
                row, r * _BACKWARD_ROW, packed, gaussian, u_left, level, np.float32(entry)
            )
            grad_y = grad * dy
            m0, m_y, m_yy = m0 + grad, m_y + grad_y, m_yy + grad_y * dy
            red, green, blue, deep = red + g_red, green + g_green, blue + g_blue, deep + g_depth
    dx = ramp() + (corner_x - x)
    m_x = m0 * dx
    out[0], out[1], out[2] = lane_sum(m0), lane_sum(m_x), lane_sum(m_y)
    out[3], out[4], out[5] = lane_sum(m_x * dx), lane_sum(m_y * dx), lane_sum(m_yy)
    out[6], out[7], out[8], out[9] = lane_sum(red), lane_sum(green), lane_sum(blue), lane_sum(deep)


@kernel
def composite_backward(
    start: int, end: int, packed: Any, tile_first: Any, entry_gaussian: Any, order: Any,
    background: Any, tiles_x: int, transmittance: Any, last: Any,
    grad_rgb: Any, grad_depth: Any, grad_alpha: Any, moments: Any,
) -> None:  # fmt: skip
    """Fill moments (E, 16) from the gradients of the pictures.

    Of an entry's cache line the first ten are used: the sums of alpha * dL/dalpha times 1, dx, dy, dx dx, dx dy and
    dy dy, and the gradients of r, g, b and z.
    """
    tiles = tile_first.shape[1] - 1
    for index in range(start, end):
        camera, tile = order[index] // tiles, order[index] % tiles
        left, top = tile % tiles_x * TILE, tile // tiles_x * TILE
        first, last_one = tile_first[camera, tile], tile_first[camera, tile + 1]
        row, row_last = np.empty(TILE * _BACKWARD_ROW, np.float32), np.empty(TILE, np.int64)
        tile_last = _load_tile(grad_rgb[camera], grad_depth[camera], grad_alpha[camera], transmittance[camera],
                               last[camera], background[camera], left, top, row, row_last)  # fmt: skip
        for place in range(first + tile_last + 1, last_one):
            for k in range(10):
                moments[place, k] = _ZERO
        for entry in range(tile_last, -1, -1):
            prefetch(packed[camera], entry_gaussian[first + max(entry - _AHEAD, 0)])
            _undraw_gaussian(packed[camera], entry_gaussian[first + entry], left, top, entry, row, row_last,
                             moments[first + entry])  # fmt: skip


@kernel
def gather_gradients(
    start: int, end: int, moments: Any, slot_entry: Any, counts: Any, slot_ends: Any, factors: Any, opacities: Any,
    grad_means2d: Any, grad_factors: Any, grad_depths: Any, grad_opacities: Any, grad_colors: Any,
) -> None:  # fmt: skip
    """Add up each Gaussian's slots (in their order) and turn moments into gradients of what was projected."""
    cameras = counts.shape[0]
    for n in range(start, end):
        opacity_sum = red = green = blue = 0.0
        for b in range(cameras):
            coming = min(n + _AHEAD, end - 1)
            for slot in range(slot_ends[b, coming] - counts[b, coming], slot_ends[b, coming]):
                prefetch(moments, slot_entry[slot])
            m0 = mx = my = mxx = mxy = myy = deep = 0.0
            for slot in range(slot_ends[b, n] - counts[b, n], slot_ends[b, n]):
                entry = slot_entry[slot]
                m0 += moments[entry, 0]
                mx += moments[entry, 1]
                my += moments[entry, 2]
                mxx += moments[entry, 3]
                mxy += moments[entry, 4]
                myy += moments[entry, 5]
                red += moments[entry, 6]
                green += moments[entry, 7]
                blue += moments[entry, 8]
                deep += moments[entry, 9]
            opacity_sum += m0
            a, bb, c = float(factors[b, n, 0]), float(factors[b, n, 1]), float(factors[b, n, 2])
            along = a * mx + bb * my
            grad_means2d[b, n, 0], grad_means2d[b, n, 1] = a * along, bb * along + c * c * my
            grad_factors[b, n, 0], grad_factors[b, n, 1] = -(a * mxx + bb * mxy), -(a * mxy + bb * myy)
            grad_factors[b, n, 2], grad_depths[b, n] = -c * myy, deep
        grad_opacities[n] = opacity_sum / max(float(opacities[n]), 1e-12)
        grad_colors[n, 0], grad_colors[n, 1], grad_colors[n, 2] = red, green, blue
