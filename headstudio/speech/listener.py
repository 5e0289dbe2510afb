"""Which viseme a face shows at each moment of a recording: a small network that listens, and the likeliest course.

The network (`Ear`) was trained by `python -m headstudio.speech.train` on speech that synthesisers spoke, whose phones
and times are known; it ships with the package. It knows no words and no language. Where it hesitates, as with people's
voices, PocketSphinx's phones (`recogniser`) decide: each frame's phone is `_SECOND_OPINION` more evidence for its
viseme, so that the surer of the two wins.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from headstudio.speech.features import BANDS, FRAMES_PER_SECOND, log_mel, loud_level, loudness, normalised
from headstudio.speech.recogniser import recognised
from headstudio.speech.sounds import NAMES, SILENCE, Sound, complete

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray
    from torch import Tensor

WEIGHTS = Path(str(resources.files("headstudio.speech") / "ear.safetensors"))
SILENT_DB = -65.0  # a recording whose loud parts are below this holds no speech (0: a band of power 1)
_WIDTH = 64
_DILATIONS = (1, 2, 4, 8, 1)
_REACH = 2 + sum(_DILATIONS)  # frames that an answer depends on, either way
_CHUNK = 6000  # frames at a time
_SECOND_OPINION = 4.0  # nats
_SURELY_SILENT = 0.9
_SHORTEST_SPEECH_S = 0.06  # less between silences is a click, or the edge of a sound that was cut
_SWITCH_COST = 2.0  # nats that a change of viseme must be worth: keeps visemes from lasting a frame or two


class Ear(nn.Module):
    """Log posteriors of the visemes, frame by frame: dilated convolutions that hear 180 ms before and after."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv1d(BANDS, _WIDTH, 5, padding=2)
        self.blocks = nn.ModuleList(_Block(dilation) for dilation in _DILATIONS)
        self.leave = nn.Conv1d(_WIDTH, len(NAMES), 1)

    def forward(self, heard: Float[Tensor, "B T 40"]) -> Float[Tensor, "B T 15"]:
        x = self.enter(heard.mT)
        for block in self.blocks:
            x = block(x)
        return self.leave(torch.relu(x)).mT.log_softmax(-1)


class _Block(nn.Module):
    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.along = nn.Conv1d(_WIDTH, _WIDTH, 3, padding=dilation, dilation=dilation)
        self.across = nn.Conv1d(_WIDTH, _WIDTH, 1)

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B C T"]:
        return x + self.across(torch.relu(self.along(torch.relu(x))))


@cache
def shipped() -> Ear:
    """The ear that comes with the package."""
    from safetensors.torch import load_file

    ear = Ear()
    ear.load_state_dict({name: value.float() for name, value in load_file(str(WEIGHTS)).items()})
    return ear.eval().requires_grad_(False)


@torch.inference_mode()
def listen(samples: Float[Tensor, " N"], ear: Ear | None = None, *, second_opinion: bool = True) -> list[Sound]:
    """What the mouth shows from the first sample to the last, without gaps; silence alone where there is no speech.

    Args:
        samples: at 16 kHz, any level.
        ear: the shipped one if None.
        second_opinion: whether PocketSphinx is asked, too; most of the work.
    """
    bands = log_mel(samples)
    seconds = len(samples) / (FRAMES_PER_SECOND * 160)
    if loud_level(loudness(bands)) < SILENT_DB:
        return [Sound(SILENCE, 0.0, seconds)]
    evidence = posteriors(normalised(bands), ear or shipped()).numpy()
    silent = np.exp(evidence[:, NAMES.index(SILENCE)])
    if second_opinion and silent.min() < _SURELY_SILENT:
        for sound in recognised(samples.numpy()):
            first, last = (round(second * FRAMES_PER_SECOND) for second in (sound.start_s, sound.end_s))
            evidence[first:last, NAMES.index(sound.viseme)] += _SECOND_OPINION * (1.0 - silent[first:last])
    return complete(without_clicks(course(evidence, seconds)), seconds, shortest_pause_s=1e-6)


def without_clicks(sounds: list[Sound]) -> list[Sound]:
    """The sounds of all stretches between silences (or an end) that are long enough to be speech."""
    stretches = [list(group) for silent, group in groupby(sounds, lambda s: s.viseme == SILENCE) if not silent]
    return [sound for said in stretches if said[-1].end_s - said[0].start_s >= _SHORTEST_SPEECH_S for sound in said]


def posteriors(heard: Float[Tensor, "T 40"], ear: Ear) -> Float[Tensor, "T 15"]:
    """Log posteriors of all frames, a minute at a time, the same as all at once."""
    rows = []
    for first in range(0, len(heard), _CHUNK):
        before = min(first, _REACH)
        window = heard[first - before : first + _CHUNK + _REACH]
        rows.append(ear(window[None])[0, before : before + _CHUNK])
    return torch.cat(rows)


def course(log_posterior: NDArray[np.float32], seconds: float) -> list[Sound]:
    """The likeliest sequence of visemes if each change costs `_SWITCH_COST` (Viterbi), as stretches up to `seconds`."""
    count, kinds = log_posterior.shape
    score = log_posterior[0].astype(np.float64)
    came = np.empty((count, kinds), np.int8)
    stay = np.arange(kinds, dtype=np.int8)
    for frame in range(1, count):
        best = int(score.argmax())
        switch = score[best] - _SWITCH_COST
        changed = switch > score
        came[frame] = np.where(changed, best, stay)
        score = np.where(changed, switch, score) + log_posterior[frame]
    path = np.empty(count, np.int8)
    path[-1] = score.argmax()
    for frame in range(count - 1, 0, -1):
        path[frame - 1] = came[frame, path[frame]]
    starts = np.flatnonzero(np.diff(path, prepend=-1))
    edges = [0.0, *((starts[1:] - 0.5) / FRAMES_PER_SECOND).clip(max=seconds).tolist(), seconds]
    return [
        Sound(NAMES[path[start]], begin, end) for start, begin, end in zip(starts, edges[:-1], edges[1:], strict=True)
    ]
