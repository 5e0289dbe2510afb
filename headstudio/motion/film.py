"""The random course of one film of a talking head, as functions of continuous time (seconds).

Everything random is drawn when a `Timeline` is made; its methods only evaluate, so that the frame rate cannot
change what happens. All begin at zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from headstudio.motion.curves import bumps, coarticulated, ease, walk
from headstudio.motion.faces import EXPRESSIONS, VISEMES

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_SILENCE = tuple(VISEMES).index("sil")
_CALM = tuple(tuple(EXPRESSIONS).index(name) for name in ("smile", "half smile", "raised brows", "lowered brows"))
_LEAD_IN = 0.4  # seconds before anything happens


class Timeline:
    """What happens when in a film of `seconds`, drawn from `generator`."""

    def __init__(self, seconds: float, generator: torch.Generator) -> None:
        self._seconds = seconds
        self._generator = generator
        self._speak()
        self._blink_times = self._moments(0.7, 1.6, 4.5)
        self._emphasis_times = self._moments(0.9, 1.2, 3.5)
        self._nod_times = self._moments(1.2, 1.5, 4.0)
        self._nod_depth = 0.3 + 0.4 * self._draw(len(self._nod_times))
        self._gaze_times, self._gaze_targets = self._steps(0.8, 0.5, 2.0, columns=2, home=0.3)
        self._mood_times, self._mood_strength = self._steps(0.6, 1.5, 4.0, columns=1, home=0.35)
        self._mood_faces = torch.tensor(_CALM)[torch.randint(len(_CALM), (len(self._mood_times),), generator=generator)]
        self._sway_hz = 0.08 + 0.22 * self._draw(3, 3)
        self._sway_phase = 2.0 * torch.pi * self._draw(3, 3)

    def talking(self, times: Float[Tensor, " T"], visemes: Float[Tensor, "V C"]) -> Float[Tensor, "T C"]:
        """Words, sound by sound (`curves.coarticulated`)."""
        return coarticulated(times, self._sound_times, self._sound_spans, visemes[self._sounds], self._sound_efforts)

    def moods(self, times: Float[Tensor, " T"], expressions: Float[Tensor, "X C"]) -> Float[Tensor, "T C"]:
        """Faint expressions that come and go over half a second."""
        level = torch.zeros(len(times), expressions.shape[1])
        before = torch.zeros(expressions.shape[1])
        for start, strength, face in zip(self._mood_times, self._mood_strength, self._mood_faces, strict=True):
            after = 0.45 * strength.abs() * expressions[face]
            level = level + ease((times - start) / 0.5)[:, None] * (after - before)
            before = after
        return level

    def emphasis(self, times: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Raised brows on stressed words, in [0, 1]."""
        return bumps(times, self._emphasis_times, rise=0.16, hold=0.08, fall=0.3)

    def blinks(self, times: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """How far the lids are closed, in [0, 1]: fast down, slower up."""
        return bumps(times, self._blink_times, rise=0.09, hold=0.04, fall=0.17)

    def gaze(self, times: Float[Tensor, " T"]) -> Float[Tensor, "T 2"]:
        """(yaw, pitch) of the eyes in [-1, 1]: they rest on a target and jump to the next within 70 ms."""
        return walk(times, self._gaze_times, self._gaze_targets, 0.07)

    def neck(self, times: Float[Tensor, " T"]) -> Float[Tensor, "T 3"]:
        """(yaw, pitch, roll) of the neck in [-1, 1]: slow sway, and nods downwards."""
        waves = torch.sin(2.0 * torch.pi * times[:, None, None] * self._sway_hz + self._sway_phase).mean(-1)
        sway = waves * ease(times / 1.5)[:, None]
        nods = bumps(times, self._nod_times, self._nod_depth, rise=0.22, hold=0.02, fall=0.35)
        return torch.stack((sway[:, 0], 0.5 * sway[:, 1] - 0.5 * nods, sway[:, 2]), dim=-1)

    def coefficients(self, times: Float[Tensor, " T"], count: int) -> Float[Tensor, "T K"]:
        """`count` independent waves of variance 1 that grow from 0: the coefficients of an expression space.

        They are drawn here, after everything else, so that a head without such a space has the same film.
        """
        hertz, phase = 0.1 + 0.4 * self._draw(count, 3), 2.0 * torch.pi * self._draw(count, 3)
        waves = torch.sin(2.0 * torch.pi * times[:, None, None] * hertz + phase).sum(-1) * (2.0 / 3.0) ** 0.5
        return waves * ease(times / 1.5)[:, None]

    def _draw(self, *size: int) -> Tensor:
        return torch.rand(*size, generator=self._generator)

    def _speak(self) -> None:
        """Words of two to seven sounds at about ten sounds a second, with pauses; silence at both ends."""
        sounds, times, spans = [_SILENCE], [0.0], [0.12]
        now = _LEAD_IN
        while now < self._seconds - _LEAD_IN:
            for _ in range(2 + int(self._draw(1).item() * 6)):
                duration = 0.08 + 0.09 * self._draw(1).item()
                sounds.append(int(torch.randint(1, len(VISEMES), (1,), generator=self._generator).item()))
                times.append(now)
                spans.append(0.6 * duration)
                now += duration
            if self._draw(1).item() < 0.3:
                sounds.append(_SILENCE)
                times.append(now + 0.15)
                spans.append(0.12)
                now += 0.35
        kept = [i for i, time in enumerate(times) if time <= max(self._seconds - _LEAD_IN, 0.0)]
        self._sounds = torch.tensor([sounds[i] for i in kept] + [_SILENCE])
        self._sound_times = torch.tensor([times[i] for i in kept] + [self._seconds])
        self._sound_spans = torch.tensor([spans[i] for i in kept] + [0.12])
        self._sound_efforts = 0.7 + 0.5 * self._draw(len(self._sounds))

    def _moments(self, first: float, shortest: float, longest: float) -> Float[Tensor, " K"]:
        """Instants at random intervals; the first within a second of `first`, so that a short film has one too."""
        moments, now = [], first + self._draw(1).item()
        while now < self._seconds:
            moments.append(now)
            now += shortest + (longest - shortest) * self._draw(1).item()
        return torch.tensor(moments)

    def _steps(
        self, first: float, shortest: float, longest: float, *, columns: int, home: float
    ) -> tuple[Float[Tensor, " K"], Float[Tensor, "K C"]]:
        """Instants with a value in [-1, 1] each; with probability `home` the value is 0."""
        moments = self._moments(first, shortest, longest)
        values = 2.0 * self._draw(len(moments), 2, columns).mean(1) - 1.0
        away = self._draw(len(moments), 1) >= home
        return moments, values * away
