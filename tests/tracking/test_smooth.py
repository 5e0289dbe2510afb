"""Smoothing: trembling goes, blinks stay where and as high as they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstudio.tracking.recording import SMOOTHING, _everywhere
from headstudio.tracking.smooth import one_euro, without_delay

CUTOFF_HZ, BETA = SMOOTHING["weights"]


@given(value=st.floats(-1, 1), frames=st.integers(1, 50), fps=st.floats(5, 120))
def test_what_stands_still_stays(value: float, frames: int, fps: float) -> None:
    values = np.full((frames, 2), value)
    assert np.allclose(without_delay(values, fps, min_cutoff_hz=CUTOFF_HZ, beta=BETA), values, atol=1e-12)


def test_without_haste_it_is_an_exponential_low_pass() -> None:
    """With beta = 0 the filter is known in closed form: a step answers 1 - (1 - a)^n."""
    step = np.concatenate([[0.0], np.ones(20)])[:, None]
    share = (2 * np.pi * 2.0 / 30) / (2 * np.pi * 2.0 / 30 + 1)
    found = one_euro(step, 30.0, min_cutoff_hz=2.0, beta=0.0)[:, 0]
    assert found == pytest.approx(1 - (1 - share) ** np.arange(21))


def test_trembling_goes() -> None:
    noise = 0.02 * np.random.default_rng(0).normal(size=(600, 5))
    calm = without_delay(noise, 30.0, min_cutoff_hz=CUTOFF_HZ, beta=BETA)
    assert calm.std() < 0.6 * noise.std()


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0])
def test_blinks_survive(fps: float) -> None:
    times = np.arange(round(2 * fps)) / fps
    blink = np.clip(1 - np.abs(times - 1.0) / 0.12, 0, 1)[:, None]  # shut and open again in a quarter of a second
    kept = without_delay(blink, fps, min_cutoff_hz=CUTOFF_HZ, beta=BETA)[:, 0]
    assert kept.max() > 0.8
    assert times[kept.argmax()] == pytest.approx(1.0, abs=1e-9)  # neither early nor late
    assert kept[times < 0.8].max() < 0.05


@given(seed=st.integers(0, 2**32 - 1))
def test_a_film_reversed_gives_the_result_reversed(seed: int) -> None:
    values = np.random.default_rng(seed).random((40, 3))
    forth = without_delay(values, 25.0, min_cutoff_hz=CUTOFF_HZ, beta=BETA)
    back = without_delay(values[::-1], 25.0, min_cutoff_hz=CUTOFF_HZ, beta=BETA)
    assert np.allclose(forth, back[::-1])


def test_a_face_that_leaves_comes_to_rest_and_back() -> None:
    seen = np.ones(150, bool)
    seen[30:120] = False  # three seconds of 30 frames
    filled = _everywhere(np.full((60, 1), 0.8), seen, 30.0)[:, 0]
    assert filled[30:38] == pytest.approx(0.8)  # held
    assert (np.diff(filled[38:55]) <= 0).all()  # eased
    assert filled[60:90] == pytest.approx(0.0)  # at rest
    assert filled[112:] == pytest.approx(0.8)  # and back
    assert np.abs(np.diff(filled)).max() < 0.1


def test_a_short_gap_is_bridged_and_the_ends_ease() -> None:
    seen = np.ones(60, bool)
    seen[10:15] = False
    values = np.concatenate([np.full(10, 0.2), np.full(45, 0.8)])[:, None]
    filled = _everywhere(values, seen, 30.0)[:, 0]
    assert filled[9:16] == pytest.approx(np.linspace(0.2, 0.8, 7))
    late = np.ones(60, bool)
    late[:40] = False
    filled = _everywhere(np.full((20, 1), 1.0), late, 30.0)[:, 0]
    assert filled[:10] == pytest.approx(0.0)
    assert filled[39:] == pytest.approx(1.0)
    assert (np.diff(filled) >= 0).all()
