"""What a speaker's face does besides the mouth: blinks, glances, a swaying head that nods with what is stressed.

The mouth is the sound's alone; of these, nods and raised brows follow the sound's loudness, the others only chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from headstudio.motion.curves import bumps, ease, walk
from headstudio.speech.features import FRAMES_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float
    from torch import Tensor

_CHUNK = 600  # times at once
_LONGEST_BUMP_S = 1.0
_SYLLABLE_S = 0.08  # standard deviation of the smoothing that leaves one peak per syllable
_STRESS_APART_S = 0.45
_STRESS_DB = 4.0  # how far a stressed syllable stands out at least


@dataclass(frozen=True)
class Stress:
    """Moments of stressed syllables (seconds, rising) and how strong each is, in (0, 1]."""

    times: Float[Tensor, " K"]
    strengths: Float[Tensor, " K"]


def stress_of(level_db: Float[Tensor, " T"], speaking: Float[Tensor, " T"]) -> Stress:
    """The syllables that stand out of the loudness.

    Args:
        level_db: loudness, a hundred times a second.
        speaking: 1 where someone speaks, 0 in silence.
    """
    spoken = speaking.numpy() > 0.5
    if not spoken.any():
        return Stress(torch.zeros(0), torch.zeros(0))
    level = level_db.numpy().astype(np.float64)
    loud = np.quantile(level[spoken], 0.9)
    audible = np.where(spoken, np.maximum(level, loud - 30.0), loud - 30.0)
    smooth = gaussian_filter1d(audible, _SYLLABLE_S * FRAMES_PER_SECOND)
    peaks, about = find_peaks(smooth, distance=int(_STRESS_APART_S * FRAMES_PER_SECOND), prominence=_STRESS_DB)
    strengths = np.clip(about["prominences"] / 20.0, 0.0, 1.0) * np.clip(1.0 + (smooth[peaks] - loud) / 12.0, 0.1, 1.0)
    return Stress(torch.from_numpy(peaks / FRAMES_PER_SECOND).float(), torch.from_numpy(strengths).float())


class Life:
    """The course of one recording of `seconds`, drawn from `generator` when it is made; methods only evaluate."""

    def __init__(self, seconds: float, stress: Stress, generator: torch.Generator) -> None:
        self._generator, self._seconds = generator, seconds
        self._stress = stress
        self._blinks = self._moments(0.7, 1.8, 4.8)
        self._glances = self._moments(1.0, 0.8, 2.8)
        away = 2.0 * self._draw(len(self._glances), 2, 2).mean(1) - 1.0
        self._targets = away * (self._draw(len(self._glances), 1) >= 0.5)  # every other one returns to the viewer
        self._sway_hz = 0.06 + 0.2 * self._draw(3, 3)
        self._sway_phase = 2.0 * torch.pi * self._draw(3, 3)

    def blinks(self, times: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """How far the lids are closed, in [0, 1]."""
        return _by_stretches(
            times, lambda part: bumps(part, _near(self._blinks, part), rise=0.09, hold=0.04, fall=0.17)
        )

    def gaze(self, times: Float[Tensor, " T"]) -> Float[Tensor, "T 2"]:
        """(yaw, pitch) of the eyes in [-1, 1]; they rest on a target and jump to the next within 70 ms."""
        return _by_stretches(times, lambda part: walk(part, self._glances, self._targets, 0.07))

    def sway(self, times: Float[Tensor, " T"]) -> Float[Tensor, "T 3"]:
        """(yaw, pitch, roll) of the head in [-1, 1], slow, from rest."""
        waves = torch.sin(2.0 * torch.pi * times[:, None, None] * self._sway_hz + self._sway_phase).mean(-1)
        return waves * ease(times / 1.5)[:, None]

    def stress(self, times: Float[Tensor, " T"], *, rise: float, fall: float) -> Float[Tensor, " T"]:
        """How stressed what is said is, in [0, 1]: it peaks with the syllable."""

        def at(part: Float[Tensor, " K"]) -> Float[Tensor, " K"]:
            near = _is_near(self._stress.times, part)
            starts = self._stress.times[near] - rise - 0.03
            return bumps(part, starts, self._stress.strengths[near], rise=rise, hold=0.06, fall=fall)

        return _by_stretches(times, at)

    def _draw(self, *size: int) -> Tensor:
        return torch.rand(*size, generator=self._generator)

    def _moments(self, first: float, shortest: float, longest: float) -> Float[Tensor, " K"]:
        """Instants at random intervals, the first within a second of `first`."""
        count = int(self._seconds / shortest) + 1
        steps = shortest + (longest - shortest) * self._draw(count)
        steps[0] = first + self._draw(1)[0]
        moments = steps.cumsum(0)
        return moments[moments < self._seconds]


def _is_near(moments: Float[Tensor, " K"], times: Float[Tensor, " T"]) -> Tensor:
    return (moments > times[0] - _LONGEST_BUMP_S) & (moments < times[-1] + _LONGEST_BUMP_S)


def _near(moments: Float[Tensor, " K"], times: Float[Tensor, " T"]) -> Float[Tensor, " N"]:
    return moments[_is_near(moments, times)]


def _by_stretches(times: Tensor, course: Callable[[Tensor], Tensor]) -> Tensor:
    """A course evaluated a few seconds at a time, so that an hour fits into memory."""
    return torch.cat([course(part) for part in times.split(_CHUNK)])
