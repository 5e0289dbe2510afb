"""How numbers travel in a page: a JSON header, then plain arrays, deflated.

Layout, little-endian: the header's length in bytes (uint32), the header (UTF-8), then the arrays, each at a multiple of
four bytes counted from the end of the header. `header["arrays"]` says of each its `type` (a numpy name), `shape`, `at`
(its first byte after the header) and, where it holds steps instead of values, `low` and `step` per column of the last
axis: value = low + step * stored. The whole is compressed by zlib, which browsers undo by `DecompressionStream`.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FORMAT = 1
_ALIGN = 4  # bytes; float32 arrays of a browser must begin at a multiple of it


@dataclass(frozen=True, eq=False)
class Stored:
    """An array as it lies in the file; `low` and `step` (C,) where it counts steps."""

    array: Array
    low: Array | None = None
    step: Array | None = None

    @property
    def values(self) -> Array:
        """What a reader gets, float32 where it was stored in steps."""
        if self.low is None or self.step is None:
            return self.array
        decoded: Array = (self.low + self.step * self.array.astype(np.float64)).astype(np.float32)
        return decoded


def plain(values: Any, kind: str) -> Stored:
    """As it is, as the numpy type `kind`.

    Raises:
        ValueError: when whole numbers do not fit that type.
    """
    array = np.asarray(values)
    stored = np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<"))
    if array.dtype.kind in "iu" and not np.array_equal(stored, array):
        raise ValueError(f"values up to {array.max()} do not fit {kind}")
    return Stored(stored)


def indices(values: Any) -> Stored:
    """Whole numbers from 0 as uint16 where they fit, else as uint32."""
    array = np.asarray(values)
    return plain(array, "uint16" if not array.size or array.max() < 1 << 16 else "uint32")


def steps(values: Any, kind: str, low: float, high: float) -> Stored:
    """Values of [low, high] in equal steps of an unsigned integer type; off by at most half a step.

    Values beyond the range become its ends.
    """
    array = np.asarray(values, np.float64)
    count = np.iinfo(kind).max
    step = (high - low) / count
    counted = np.rint((array.clip(low, high) - low) / step)
    columns = array.shape[-1]
    return Stored(counted.astype(np.dtype(kind).newbyteorder("<")), np.full(columns, low), np.full(columns, step))


def within(values: Any, tolerance: float) -> Stored:
    """(N, C) values, off by at most `tolerance`: 65,535 steps between each column's ends, else float32.

    A column that is spread too wide for that, as by one far outlier, makes the whole array float32.
    """
    array = np.asarray(values, np.float64)
    if not len(array):
        return plain(array, "float32")
    low, high = array.min(0), array.max(0)
    step = (high - low) / 65535
    if not (step / 2 <= tolerance).all():
        return plain(array, "float32")
    counted = np.rint((array - low) / np.where(step > 0, step, 1.0))
    return Stored(counted.astype("<u2"), low, step)


def pack(header: Mapping[str, Any], arrays: Mapping[str, Stored]) -> bytes:
    """Header and arrays as one compressed string of bytes."""
    table, body = {}, bytearray()
    for name, stored in arrays.items():
        body += b"\0" * (-len(body) % _ALIGN)
        entry: dict[str, Any] = {"type": stored.array.dtype.name, "shape": stored.array.shape, "at": len(body)}
        if stored.low is not None and stored.step is not None:
            entry |= {"low": stored.low.tolist(), "step": stored.step.tolist()}
        table[name] = entry
        body += stored.array.tobytes()
    text = json.dumps({"format": FORMAT, **header, "arrays": table}, allow_nan=False).encode()
    text += b" " * (-(len(text) + 4) % _ALIGN)
    return zlib.compress(struct.pack("<I", len(text)) + text + bytes(body), 9)
