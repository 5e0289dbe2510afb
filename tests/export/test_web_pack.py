"""Numbers that travel in a page come back as they were, within the tolerance that was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from web_pages import read_bytes

from headstudio.export.web_pack import Stored, indices, pack, plain, steps, within
from headstudio.export.web_scene import sparse_directions

TABLES = array_shapes(min_dims=2, max_dims=2, max_side=6)
NUMBERS = st.floats(-1e4, 1e4, width=32)
ROUNDING = 1e-9  # of the float64 arithmetic of a reader


def read(stored: Stored) -> np.ndarray:
    return read_bytes(pack({}, {"first": plain(np.arange(3), "uint8"), "it": stored}))[1]["it"]


@given(values=arrays(np.float32, TABLES, elements=NUMBERS), tolerance=st.sampled_from([1e-6, 1e-3, 1.0]))
def test_values_are_within_the_tolerance_however_far_they_spread(values: np.ndarray, tolerance: float) -> None:
    stored = within(values, tolerance)
    assert np.abs(read(stored) - values).max() <= tolerance + ROUNDING
    wide = (np.ptp(values.astype(np.float64), axis=0) / 65535 / 2 > tolerance).any()
    assert stored.array.dtype == (np.float32 if wide else np.uint16)


@given(values=arrays(np.float32, TABLES, elements=st.floats(0, 1, width=32)), kind=st.sampled_from(["uint8", "uint16"]))
def test_shares_are_off_by_half_a_step_at_most(values: np.ndarray, kind: str) -> None:
    assert np.abs(read(steps(values, kind, 0.0, 1.0)) - values).max() <= 0.5 / np.iinfo(kind).max + ROUNDING


@given(values=arrays(np.int64, array_shapes(max_dims=2), elements=st.integers(0, 2**32 - 1)))
def test_indices_are_exact(values: np.ndarray) -> None:
    assert np.array_equal(read(indices(values)), values)


def test_what_does_not_fit_a_type_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit uint8"):
        plain(np.array([256]), "uint8")


@given(
    basis=arrays(np.float32, (3, 4, 3), elements=st.floats(-0.25, 0.25, width=32)),
    tolerance=st.sampled_from([1e-7, 1e-5, 1e-2]),
)
def test_sparse_directions_are_the_dense_ones(basis: np.ndarray, tolerance: float) -> None:
    stored = sparse_directions(basis, tolerance)
    _, found = read_bytes(pack({}, stored))
    dense, entry = np.zeros(basis.shape), 0
    for direction, count in enumerate(found["direction_counts"]):
        part = slice(entry, entry + count)
        dense[direction, found["direction_vertices"][part]] = (
            found["direction_steps"][direction] * found["direction_offsets"][part]
        )
        entry += count
    assert entry == len(found["direction_vertices"])
    assert np.abs(dense - basis).max() <= tolerance + 1e-7 * np.abs(basis).max()  # float32 steps


def test_the_header_travels_too() -> None:
    header, _ = read_bytes(pack({"said": "Müller </script>"}, {}))
    assert header == {"format": 1, "said": "Müller </script>"}
