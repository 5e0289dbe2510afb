"""Trembling out of a recording, without taking the blinks with it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def one_euro(
    values: Float[np.ndarray, "T C"], fps: float, *, min_cutoff_hz: float, beta: float, slope_cutoff_hz: float = 1.0
) -> Float[np.ndarray, "T C"]:
    """The 1€ filter: a low-pass whose cutoff grows with the signal's speed, so that rest is still and haste is kept.

    Args:
        values: T frames of C signals.
        fps: frames a second.
        min_cutoff_hz: at rest.
        beta: how much the cutoff (Hz) grows per unit of the signal and second.
        slope_cutoff_hz: of the low-pass on the speed.

    Source: Casiez, Roussel, Vogel, "1€ Filter" (CHI 2012), Algorithm 1.
    """
    found = np.array(values, np.float64)
    slope = np.zeros_like(found[0])
    share = _share(np.full_like(slope, slope_cutoff_hz), fps)
    for frame in range(1, len(found)):
        speed = (values[frame] - found[frame - 1]) * fps
        slope = share * speed + (1 - share) * slope
        kept = _share(min_cutoff_hz + beta * np.abs(slope), fps)
        found[frame] = kept * values[frame] + (1 - kept) * found[frame - 1]
    return found


def _share(cutoff_hz: Float[np.ndarray, " C"], fps: float) -> Float[np.ndarray, " C"]:
    """The weight of the newest value in an exponential low-pass."""
    step = 2 * np.pi * cutoff_hz / fps
    return step / (step + 1)


def without_delay(
    values: Float[np.ndarray, "T C"], fps: float, *, min_cutoff_hz: float, beta: float
) -> Float[np.ndarray, "T C"]:
    """`one_euro` forwards and backwards in time, averaged: what one delays, the other hurries, and a film reversed
    gives the result reversed. Only a recording allows that."""
    forth = one_euro(values, fps, min_cutoff_hz=min_cutoff_hz, beta=beta)
    back = one_euro(values[::-1], fps, min_cutoff_hz=min_cutoff_hz, beta=beta)[::-1]
    return (forth + back) / 2
