"""From the sounds of speech to the mouth's weights: coarticulation, with closures that are reached.

Sounds overlap as in `headstudio.motion.curves.coarticulated`. How a sound rules depends on its manner: lips that must
meet, or meet the teeth, are strong and held; the tongue's sounds leave the lips to their neighbours; rounding begins
early and lasts. Cohen and Massaro 1993, "Modeling coarticulation in synthetic visual speech".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from headstudio.motion.arkit import ARKIT_NAMES, weights_of
from headstudio.motion.curves import coarticulated
from headstudio.motion.faces import VISEMES
from headstudio.speech.sounds import CLOSED, SILENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float
    from torch import Tensor

    from headstudio.speech.sounds import Sound


@dataclass(frozen=True)
class Manner:
    """How a kind of sound shares the lips with its neighbours.

    Args:
        strength: as `coarticulated` takes it.
        span: reach as a share of the sound's length, held between the limits below.
        hold: part of the sound's length, either side of its centre, in which it rules undiminished.
        centre: where in the sound the face is reached, 0 to 1; below a half the lips lead.
        varies: whether loud speech shows more of it.
    """

    strength: float = 0.0
    span: float = 0.5
    hold: float = 0.15
    centre: float = 0.45
    varies: bool = True


_LIPS_MEET = Manner(strength=2.8, span=0.3, hold=0.25, centre=0.4, varies=False)
_ON_TEETH = Manner(strength=1.5, span=0.35, hold=0.2, varies=False)
_NEARLY_SHUT = Manner(strength=1.0, hold=0.2, varies=False)
_BY_TONGUE = Manner(strength=-0.8, varies=False)
_ROUND = Manner(strength=0.6, span=0.65, hold=0.2, centre=0.4)
_OPEN = Manner(strength=0.4, hold=0.2)
_REST = Manner(strength=1.0, span=0.4, hold=0.4, centre=0.5, varies=False)
MANNERS: dict[str, Manner] = {
    SILENCE: _REST,
    CLOSED: _LIPS_MEET,
    "FF": _ON_TEETH,
    "TH": _NEARLY_SHUT,
    "SS": _NEARLY_SHUT,
    "CH": _ROUND,
    "DD": _BY_TONGUE,
    "kk": _BY_TONGUE,
    "nn": _BY_TONGUE,
    "RR": Manner(),
    "aa": _OPEN,
    "E": Manner(),
    "I": Manner(),
    "O": _ROUND,
    "U": _ROUND,
}
_SHORTEST_SPAN_S, _LONGEST_SPAN_S = 0.035, 0.12
_LONGEST_REST_SPAN_S = 0.06
_SHORTEST_HOLD_S = 0.015
_CHUNK_S = 10.0  # frames are taken by stretches of this length, for the sake of memory ...
_REACH_S = 3.0  # ... each with the sounds so near that others count for nothing


def mouth_weights(
    sounds: Sequence[Sound], times: Float[Tensor, " T"], effort: Callable[[Float[Tensor, " S"]], Float[Tensor, " S"]]
) -> Float[Tensor, "T 52"]:
    """ARKit weights of the mouth at `times` (seconds, rising), zero where nothing but silence is near.

    Args:
        sounds: in order, of any length.
        times: at which the mouth is wanted.
        effort: how much of their faces sounds at these moments show, about 1; closures show theirs whole.
    """
    if not any(sound.viseme != SILENCE for sound in sounds):
        return torch.zeros(len(times), len(ARKIT_NAMES))
    heard = _Course.of(sounds, effort)
    rows = [heard.at(part) for part in _stretches(times)]
    return torch.cat(rows) if rows else torch.zeros(0, len(ARKIT_NAMES))


@dataclass(frozen=True)
class _Course:
    """The sounds as `coarticulated` takes them."""

    centres: Float[Tensor, " S"]
    spans: Float[Tensor, " S"]
    holds: Float[Tensor, " S"]
    strengths: Float[Tensor, " S"]
    efforts: Float[Tensor, " S"]
    faces: Float[Tensor, "S 52"]

    @classmethod
    def of(cls, sounds: Sequence[Sound], effort: Callable[[Float[Tensor, " S"]], Float[Tensor, " S"]]) -> _Course:
        manners = [MANNERS[sound.viseme] for sound in sounds]
        rows = {name: weights_of(face) for name, face in VISEMES.items()}
        starts = torch.tensor([sound.start_s for sound in sounds], dtype=torch.float64)
        lengths = torch.tensor([sound.end_s for sound in sounds], dtype=torch.float64) - starts
        longest = torch.tensor([_LONGEST_REST_SPAN_S if m is _REST else _LONGEST_SPAN_S for m in manners])
        spans = lengths * torch.tensor([manner.span for manner in manners], dtype=torch.float64)
        centres = starts + lengths * torch.tensor([manner.centre for manner in manners], dtype=torch.float64)
        middles = starts + 0.5 * lengths
        varies = torch.tensor([manner.varies for manner in manners])
        return cls(
            centres=centres,
            spans=torch.minimum(spans.clamp(min=_SHORTEST_SPAN_S), longest.double()),
            holds=(lengths * torch.tensor([manner.hold for manner in manners])).clamp(min=_SHORTEST_HOLD_S),
            strengths=torch.tensor([manner.strength for manner in manners], dtype=torch.float64),
            efforts=torch.where(varies, effort(middles).double(), 1.0),
            faces=torch.stack([rows[sound.viseme] for sound in sounds]).double(),
        )

    def at(self, times: Float[Tensor, " T"]) -> Float[Tensor, "T 52"]:
        low, high = times[0] - _REACH_S, times[-1] + _REACH_S
        near = (self.centres + self.holds >= low) & (self.centres - self.holds <= high)
        near[(self.centres - times[0]).abs().argmin()] = True  # one long sound may be all there is
        weights = coarticulated(
            times.double(),
            self.centres[near],
            self.spans[near],
            self.faces[near],
            self.efforts[near],
            holds=self.holds[near],
            strengths=self.strengths[near],
        )
        return weights.float()


def _stretches(times: Float[Tensor, " T"]) -> list[Float[Tensor, " K"]]:
    """Times cut where a multiple of `_CHUNK_S` is passed."""
    if len(times) == 0:
        return []
    _, sizes = torch.unique_consecutive(torch.floor(times / _CHUNK_S), return_counts=True)
    return list(times.split(sizes.tolist()))
