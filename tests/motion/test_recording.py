"""Oracles: scipy's matrix logarithm for turns, straight lines for weights, hypothesis for shapes and values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.linalg import expm, logm

from headstudio.errors import UserError
from headstudio.motion.arkit import ARKIT_NAMES, INDEX
from headstudio.motion.recording import Recording, rotations_at, weights_at


def skew(vector: Any) -> Any:
    x, y, z = vector
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=float)


def recording(**fields: Any) -> Recording:
    return Recording(**{"source": "talk.npz", "fps": 30.0, **fields})


def test_half_way_between_two_turns_is_the_square_root_of_the_way() -> None:
    """R0 expm(0.5 logm(R0^T R1)), which shares nothing with Slerp; the axes differ, so a mean of vectors fails."""
    vectors = np.array([[1.0, 0.2, 0.0], [0.0, 1.5, -0.4], [0.3, 0.0, 0.0]], np.float32)
    halves = rotations_at(vectors, 10.0, np.array([0.05, 0.15]))
    for index, half in enumerate(halves):
        first, second = expm(skew(vectors[index])), expm(skew(vectors[index + 1]))
        wanted = first @ np.real(expm(0.5 * logm(first.T @ second)))
        assert np.abs(expm(skew(half)) - wanted).max() < 1e-6
        assert np.abs(half - vectors[index : index + 2].mean(0)).max() > 0.01


def test_turns_beyond_half_a_circle_take_the_short_way() -> None:
    """350 degrees and 10 degrees: half way lies 0, not 180."""
    vectors = np.radians(np.array([[0, 350.0, 0], [0, 10.0, 0]], np.float32))
    assert np.abs(rotations_at(vectors, 1.0, np.array([0.5]))).max() < 1e-5


def test_weights_run_on_straight_lines() -> None:
    values = np.array([[0.0, 4.0], [1.0, 2.0], [5.0, 0.0]], np.float32)
    times = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    assert weights_at(values, 2.0, times) == pytest.approx(
        np.stack([np.interp(times, [0, 0.5, 1.0], column) for column in values.T], axis=1)
    )


@given(
    expression=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.integers(1, 9)),
        elements=st.floats(-3, 3, width=32),
    ),
    fps=st.floats(1.0, 120.0),
    turn=st.floats(-3.0, 3.0, width=32),
)
@settings(max_examples=60, deadline=None)
def test_its_own_instants_give_the_recording_back(expression: Any, fps: float, turn: float) -> None:
    count = len(expression)
    jaw = np.zeros((count, 3), np.float32)
    jaw[:, 0] = np.linspace(0, turn, count)
    first = recording(fps=fps, expression=expression, jaw=jaw)
    again = first.at(np.arange(count) / fps, fps)
    assert np.abs(again.tracks["expression"] - expression).max() < 1e-4
    assert np.abs(again.tracks["jaw"] - jaw).max() < 1e-5
    assert len(first.resampled(fps)) == count
    assert first.resampled(fps * 2).seconds <= first.seconds + 1e-6
    far = first.at(np.array([-5.0, first.seconds + 9.0]), fps)
    assert np.allclose(far.tracks["expression"], expression[[0, -1]], atol=1e-6)


def test_another_frame_rate_shows_the_same_motion() -> None:
    """A jaw that opens by 0.2 rad a second has opened by 0.2 t at every instant t, at 24 frames a second too."""
    jaw = np.zeros((31, 3))
    jaw[:, 0] = 0.2 * np.arange(31) / 30.0
    slow = recording(jaw=jaw).resampled(24.0)
    assert (len(slow), slow.fps, slow.seconds) == (25, 24.0, 1.0)
    assert slow.jaw is not None
    assert np.abs(slow.jaw[:, 0] - 0.2 * np.arange(25) / 24.0).max() < 1e-6


def test_one_frame_stands_still() -> None:
    still = recording(jaw=np.full((1, 3), 0.1), arkit=np.full((1, 52), 0.5)).at(np.array([0.0, 3.0]), 25.0)
    assert len(still) == 2
    assert still.jaw is not None
    assert np.allclose(still.jaw, 0.1)


ZEROS = np.zeros((4, 3))
NAN = np.where(np.arange(12).reshape(4, 3) == 7, np.nan, 0.0)
DEGREES = np.where(np.arange(12).reshape(4, 3) == 9, 17.0, 0.0)
PER_CENT = np.zeros((4, 52))
PER_CENT[1, INDEX["mouthSmileLeft"]] = 63.0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"fps": 0.0, "jaw": ZEROS}, r"talk.npz: fps=0.0 must be a number from 0.1 to 10000"),
        ({"fps": math.nan, "jaw": ZEROS}, r"fps=nan must be"),
        ({}, r"talk.npz moves nothing"),
        ({"jaw": ZEROS, "neck": ZEROS[:3]}, r"differ in their number of frames \(neck 3, jaw 4\)"),
        ({"jaw": np.zeros((0, 3))}, r"jaw has no frames"),
        ({"jaw": np.zeros((4, 2))}, r"jaw has shape \(4, 2\) but must be \(frames, 3\)"),
        ({"jaw": np.zeros(3)}, r"jaw has shape \(3,\)"),
        ({"expression": np.zeros((4, 5, 2))}, r"expression has shape \(4, 5, 2\) but must be \(frames, coefficients\)"),
        ({"expression": np.zeros((4, 0))}, r"expression has shape \(4, 0\)"),
        ({"arkit": np.zeros((4, 51))}, r"arkit has shape \(4, 51\) but must be \(frames, 52\)"),
        ({"jaw": NAN}, r"talk.npz: jaw is nan at frame 2"),
        ({"jaw": np.full((2, 3), np.inf)}, r"jaw is inf at frame 0"),
        ({"expression": np.full((1, 3), 1e300)}, r"expression is 1e\+300 at frame 0"),
        ({"neck": DEGREES}, r"neck turns by 17 at frame 3; rotations are axis-angle in radians"),
        ({"arkit": PER_CENT}, r"arkit holds 63 for mouthSmileLeft at frame 1; weights go from 0 to 1"),
        ({"jaw": np.array([["a", "b", "c"]])}, r"jaw must be an array of numbers"),
        ({"jaw": ZEROS, "shape": np.array([np.nan])}, r"shape holds a value that is not finite"),
    ],
)
def test_every_fault_is_told_with_file_and_field(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        recording(**fields)


def test_a_recording_is_float32_and_cannot_be_changed() -> None:
    kept = recording(jaw=np.zeros((2, 1, 3)), expression=np.ones((2, 3), int), shape=np.zeros((1, 300)))
    assert kept.jaw is not None and kept.jaw.shape == (2, 3)  # noqa: PT018
    assert kept.expression is not None and kept.expression.dtype == np.float32  # noqa: PT018
    assert kept.shape is not None and kept.shape.shape == (300,)  # noqa: PT018
    with pytest.raises(AttributeError):
        kept.fps = 1.0  # type: ignore[misc]
    assert len(ARKIT_NAMES) == 52
