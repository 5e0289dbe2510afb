"""Smooth courses in continuous time (seconds) that films are put together from: steps, bumps, walks, and speech."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def coarticulated(
    times: Float[Tensor, " T"],
    centres: Float[Tensor, " S"],
    spans: Float[Tensor, " S"],
    faces: Float[Tensor, "S C"],
    efforts: Float[Tensor, " S"],
    *,
    holds: Float[Tensor, " S"] | None = None,
    strengths: Float[Tensor, " S"] | None = None,
) -> Float[Tensor, "T C"]:
    """Overlapping sounds: each rules around its moment and gives way smoothly (dominance, Cohen and Massaro 1993).

    The dominances are exponentials of the time away, rounded at the top, and are normalised to sum to 1, a
    softmax; a sound's neighbours therefore colour it, as in speech, and no change is faster than its slope.

    Args:
        times: at which the face is wanted.
        centres: of the sounds.
        spans: how far a sound's rule reaches; its dominance falls by e in half of it.
        faces: what each sound shows.
        efforts: how much of its face it shows.
        holds: how long before and after its centre a sound rules undiminished; not at all if None.
        strengths: added to the logarithm of the dominance; 0 if None. One that is 3 stronger than its neighbours
            shows its face whole even if it is short, and they begin to move towards it earlier.
    """
    away = times[:, None] - centres
    if holds is not None:
        away = (away.abs() - holds).clamp(min=0.0)
    distance = away / spans
    level = -2.0 * torch.sqrt(0.25 + distance.square())
    dominance = torch.softmax(level if strengths is None else level + strengths, dim=-1)
    return (dominance * efforts) @ faces


def ease(x: Tensor) -> Tensor:
    """A smooth step from 0 at x <= 0 to 1 at x >= 1."""
    x = x.clamp(0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def bumps(
    times: Tensor, starts: Tensor, heights: Tensor | None = None, *, rise: float, hold: float, fall: float
) -> Float[Tensor, " T"]:
    """The highest of one smooth bump per start (of height 1 unless given), 0 when there is none."""
    since = times[:, None] - starts
    risen = ease(since / rise) - ease((since - rise - hold) / fall)
    risen = risen if heights is None else risen * heights
    return torch.cat((risen, torch.zeros(len(times), 1)), dim=-1).amax(-1)


def walk(times: Tensor, starts: Tensor, targets: Float[Tensor, "K C"], duration: float) -> Float[Tensor, "T C"]:
    """From 0 to each target in turn, beginning at its start and taking `duration` seconds."""
    from_before = torch.diff(targets, dim=0, prepend=torch.zeros(1, targets.shape[1]))
    return ease((times[:, None] - starts) / duration) @ from_before
