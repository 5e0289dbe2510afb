"""Which Gaussians touch which tile of 16 x 16 pixels, front to back, compiled for the CPU.

A pair (Gaussian, tile) is an *entry*. Entries have two orders: by Gaussian (a Gaussian's entries are neighbours,
its *slots*; their gradients are added up in this order) and by tile (the order of drawing). `count_tiles` and
`fill_slots` make the first, `sort_entries` the second.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from headstudio.render import MIN_ALPHA
from headstudio.render.jit import inlined, kernel

TILE = 16
# What the compositor reads per Gaussian and camera: x, y, a, b, c (factors, scaled so that alpha is a power of
# two to the eighth), log2(opacity) / 8, half height in pixels, r, g, b, z, and padding to a cache line.
PACKED = 16
FACTOR_SCALE = math.sqrt(0.5 * math.log2(math.e) / 8.0)
_SLACK_PX = 1e-2  # tiles are chosen a little generously; the compositor's threshold has the last word
_RADIX_BITS = 11


@inlined
def _tile_rows(packed: Any, tiles_y: int) -> Any:
    """First and one past the last row of tiles whose pixel centres the ellipse's box reaches."""
    low, high = packed[1] - packed[6] - _SLACK_PX, packed[1] + packed[6] + _SLACK_PX
    first = math.ceil((low - (TILE - 0.5)) / TILE)
    last = math.floor((high - 0.5) / TILE)
    return int(min(max(first, 0.0), tiles_y)), int(min(max(last + 1.0, 0.0), tiles_y))


@inlined
def _tile_columns(packed: Any, extent_x: float, row: int, tiles_x: int) -> Any:
    """First and one past the last tile of `row` that the ellipse itself reaches.

    Within a band of y the ellipse spans an interval of x whose ends lie where y is nearest to that of the
    ellipse's own leftmost and rightmost point.
    """
    a, b, c = float(packed[2]), float(packed[3]), float(packed[4])
    room = float(packed[5]) - math.log2(MIN_ALPHA) / 8.0
    half_height = float(packed[6])
    low = max(row * TILE + 0.5 - packed[1] - _SLACK_PX, -half_height)
    high = min(row * TILE + TILE - 0.5 - packed[1] + _SLACK_PX, half_height)
    slope = -b / a
    # y of the rightmost point: covariance / variance of x * extent_x, written with the factors
    turn = slope * room / (c * c * max(extent_x, 1e-6))
    at_right, at_left = min(max(turn, low), high), min(max(-turn, low), high)
    right = slope * at_right + math.sqrt(max(room - c * c * at_right * at_right, 0.0)) / a
    left = slope * at_left - math.sqrt(max(room - c * c * at_left * at_left, 0.0)) / a
    first = math.ceil((packed[0] + left - _SLACK_PX - (TILE - 0.5)) / TILE)
    last = math.floor((packed[0] + right + _SLACK_PX - 0.5) / TILE)
    return int(min(max(first, 0.0), tiles_x)), int(min(max(last + 1.0, 0.0), tiles_x))


@kernel
def count_tiles(
    start: int, end: int, means2d: Any, factors: Any, depths: Any, extents: Any, radii: Any, opacities: Any,
    colors: Any, tiles_x: int, tiles_y: int, packed: Any, counts: Any,
) -> None:  # fmt: skip
    """Fill packed (B, N, PACKED) and counts (B, N): in how many tiles each Gaussian may be seen."""
    cameras = radii.shape[0]
    for n in range(start, end):
        level = math.log2(opacities[n]) / 8.0 if opacities[n] >= MIN_ALPHA else 0.0
        for b in range(cameras):
            counts[b, n] = 0
            if radii[b, n] <= 0:
                continue
            row = packed[b, n]
            row[0], row[1] = means2d[b, n, 0], means2d[b, n, 1]
            for k in range(3):
                row[2 + k] = factors[b, n, k] * FACTOR_SCALE
                row[7 + k] = colors[n, k]
            row[5], row[6], row[10] = level, extents[b, n, 1], depths[b, n]
            first_row, end_row = _tile_rows(row, tiles_y)
            total = 0
            for tile_row in range(first_row, end_row):
                first, last = _tile_columns(row, extents[b, n, 0], tile_row, tiles_x)
                total += max(last - first, 0)
            counts[b, n] = total


@kernel
def fill_slots(
    start: int, end: int, packed: Any, extents: Any, counts: Any, slot_ends: Any, tiles_x: int, tiles_y: int,
    slot_tile: Any,
) -> None:  # fmt: skip
    """Fill slot_tile (E,): the tile (within its camera) of every entry, in the order of the Gaussians."""
    cameras = counts.shape[0]
    for n in range(start, end):
        for b in range(cameras):
            if counts[b, n] == 0:
                continue
            slot = slot_ends[b, n] - counts[b, n]
            first_row, end_row = _tile_rows(packed[b, n], tiles_y)
            for tile_row in range(first_row, end_row):
                first, last = _tile_columns(packed[b, n], extents[b, n, 0], tile_row, tiles_x)
                for column in range(first, last):
                    slot_tile[slot] = tile_row * tiles_x + column
                    slot += 1


@inlined
def _sort_by_depth(depth_bits: Any, counts: Any, here: Any, there: Any) -> int:
    """Write the Gaussians that have entries into `there`, by depth, ties by index; returns how many.

    A stable radix sort in three passes; positive floats sort like their bits.
    """
    buckets, size = 1 << _RADIX_BITS, 0
    for n in range(counts.shape[0]):
        if counts[n] > 0:
            here[size] = n
            size += 1
    histogram = np.empty(buckets + 1, np.int64)
    for turn in range(3):
        shift = turn * _RADIX_BITS
        for k in range(buckets + 1):
            histogram[k] = 0
        for i in range(size):
            histogram[((depth_bits[here[i]] >> shift) & (buckets - 1)) + 1] += 1
        for k in range(buckets):
            histogram[k + 1] += histogram[k]
        for i in range(size):
            bucket = (depth_bits[here[i]] >> shift) & (buckets - 1)
            there[histogram[bucket]] = here[i]
            histogram[bucket] += 1
        here, there = there, here
    return size


@kernel
def sort_entries(
    start: int, end: int, depth_bits: Any, counts: Any, slot_ends: Any, slot_tile: Any, scratch: Any,
    tile_first: Any, entry_gaussian: Any, slot_entry: Any,
) -> None:  # fmt: skip
    """For the cameras start to end fill tile_first (B, tiles + 1), in the order of tiles and depth entry_gaussian
    (E,), and in the order of slots slot_entry (E,): where in that other order each slot went.

    `depth_bits` (B, N) are the depths read as int32; `scratch` is (B, 2, N) int32.
    """
    count, tiles = counts.shape[1], tile_first.shape[1] - 1
    for b in range(start, end):
        free = tile_first[b]  # while filling: where each tile's next entry goes, shifted by one tile
        first_slot = slot_ends[b, 0] - counts[b, 0]
        for tile in range(tiles + 1):
            free[tile] = 0
        for slot in range(first_slot, slot_ends[b, count - 1]):
            free[slot_tile[slot] + 1] += 1
        free[0] = first_slot
        for tile in range(tiles):
            free[tile + 1] += free[tile]
        for tile in range(tiles, 0, -1):
            free[tile] = free[tile - 1]
        size = _sort_by_depth(depth_bits[b], counts[b], scratch[b, 0], scratch[b, 1])
        for i in range(size):
            n = scratch[b, 1, i]
            for slot in range(slot_ends[b, n] - counts[b, n], slot_ends[b, n]):
                tile = slot_tile[slot] + 1
                place = free[tile]
                free[tile] = place + 1
                entry_gaussian[place], slot_entry[slot] = n, place
