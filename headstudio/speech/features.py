"""What the listener hears: log mel bands, a hundred times a second, whoever speaks at whatever level."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

RATE_HZ = 16_000
HOP = 160  # samples between frames: 10 ms
FRAMES_PER_SECOND = RATE_HZ // HOP
BANDS = 40
_WINDOW = 400  # samples: 25 ms
_FFT = 512
_LOWEST_HZ, _HIGHEST_HZ = 80.0, 7600.0
_QUIETEST = 1e-10  # of power, so that digital silence has a level
_CHUNK = 6000  # frames at a time: bounds the memory that a long recording takes
_RANGE_DB = 60.0  # what is further below the loud parts is all the same
_SPEECH_DB = 40.0  # frames no further below the loud parts tell what voice and microphone sound like


def log_mel(samples: Float[Tensor, " N"]) -> Float[Tensor, "T 40"]:
    """Level of each band in dB (0: it holds power 1); T = N // 160 + 1 frames, frame t about second t / 100."""
    count = len(samples) // HOP + 1
    padded = pad(samples, (_WINDOW // 2, _WINDOW))
    window = torch.hann_window(_WINDOW, dtype=samples.dtype, device=samples.device)
    mel = _mel_matrix().to(samples)
    rows = []
    for first in range(0, count, _CHUNK):
        last = min(first + _CHUNK, count)
        frames = padded[first * HOP : (last - 1) * HOP + _WINDOW].unfold(0, _WINDOW, HOP)
        power = torch.fft.rfft(frames * window, n=_FFT).abs().square() / _WINDOW
        rows.append(10.0 * torch.log10(power @ mel + _QUIETEST))
    return torch.cat(rows)


def loudness(bands_db: Float[Tensor, "T 40"]) -> Float[Tensor, " T"]:
    """All bands' power together, in dB."""
    return 10.0 * torch.log10((10.0 ** (bands_db / 10.0)).sum(-1))


def loud_level(level_db: Float[Tensor, " T"]) -> float:
    """The level that one frame in twenty exceeds."""
    return float(torch.quantile(level_db[:: max(len(level_db) // 100_000, 1)], 0.95))


def normalised(bands_db: Float[Tensor, "T 40"]) -> Float[Tensor, "T 40"]:
    """Bands about 0 and of order 1, without the recording's level and colour: each band less its mean in speech."""
    level = loudness(bands_db)
    loud = loud_level(level)
    floor = bands_db.clamp(min=loud - _RANGE_DB - 10.0)
    colour = floor[level >= loud - _SPEECH_DB].mean(0)
    return (floor - colour) / 20.0


@cache
def _mel_matrix() -> Float[Tensor, "F 40"]:
    """Triangles of equal width on the mel scale (O'Shaughnessy 1987), from FFT bins to bands, each summing to 1."""

    def mel(hertz: float) -> float:
        return 2595.0 * math.log10(1.0 + hertz / 700.0)

    edges_mel = torch.linspace(mel(_LOWEST_HZ), mel(_HIGHEST_HZ), BANDS + 2, dtype=torch.float64)
    edges = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    bins = torch.linspace(0.0, RATE_HZ / 2, _FFT // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rising, falling).clamp(min=0.0)
    return (triangles / triangles.sum(0)).float()
