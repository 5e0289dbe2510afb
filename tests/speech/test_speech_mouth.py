"""Oracles: the lips of the open head, by their vertices; the dominance model over all sounds at once."""

from __future__ import annotations

import time

import pytest
import torch

from headstudio.head.model import HeadModel
from headstudio.motion.arkit import INDEX
from headstudio.motion.recording import Recording
from headstudio.speech.judge import SHUT, parting
from headstudio.speech.mouth import _Course, mouth_weights
from headstudio.speech.sounds import NAMES, SILENCE, Sound, complete


def steady(moments: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(moments))


def said(*parts: tuple[str, float]) -> list[Sound]:
    sounds, now = [Sound(SILENCE, 0.0, 0.3)], 0.3
    for viseme, length in parts:
        sounds.append(Sound(viseme, now, now + length))
        now += length
    return [*sounds, Sound(SILENCE, now, now + 0.3)]


def film(sounds: list[Sound], fps: float) -> tuple[torch.Tensor, Recording]:
    times = torch.arange(round(sounds[-1].end_s * fps), dtype=torch.float64) / fps
    return times, Recording(source="test", fps=fps, arkit=mouth_weights(sounds, times, steady).numpy())


@pytest.mark.parametrize("length", [0.05, 0.08, 0.12])
@pytest.mark.parametrize("vowel", ["aa", "O", "E", "I"])
def test_closures_are_reached_between_vowels(open_head: HeadModel, vowel: str, length: float) -> None:
    """At 25 frames a second, wherever between two frames the closure falls."""
    for shift in (0.0, 0.013, 0.027):
        sounds = said((vowel, 0.12 + shift), ("PP", length), (vowel, 0.12))
        times, recording = film(sounds, 25.0)
        closure = sounds[2]
        near = (times >= closure.start_s - 0.04) & (times <= closure.end_s + 0.04)
        lips = parting(open_head, recording)
        assert lips[near].min() <= SHUT
        if vowel in ("aa", "O"):
            assert lips.max() > 4 * SHUT, "and the vowels open"


def test_teeth_are_nearly_closed_and_rounding_is_round(open_head: HeadModel) -> None:
    times, recording = film(said(("aa", 0.15), ("FF", 0.1), ("aa", 0.15), ("U", 0.15), ("I", 0.15)), 100.0)
    jaw, lips = torch.from_numpy(recording.arkit[:, INDEX["jawOpen"]]), parting(open_head, recording)  # type: ignore[index]
    pucker = torch.from_numpy(recording.arkit[:, INDEX["mouthPucker"]])  # type: ignore[index]

    def at(course: torch.Tensor, moment: float) -> float:
        return float(course[(times - moment).abs().argmin()])

    assert at(jaw, 0.37) > 0.45
    assert at(jaw, 0.5) < 0.16 < at(jaw, 0.62)
    assert at(lips, 0.5) < 0.4 * at(lips, 0.37)
    assert at(pucker, 0.77) > 0.5
    assert at(pucker, 0.93) < 0.15


def test_silence_moves_nothing_and_speech_dies_away() -> None:
    times = torch.linspace(0.0, 5.0, 500, dtype=torch.float64)
    assert not mouth_weights([Sound(SILENCE, 0.0, 5.0)], times, steady).any()
    assert not mouth_weights([], times, steady).any()
    weights = mouth_weights(complete([Sound("aa", 1.0, 1.2)], 5.0), times, steady)
    assert weights[(times < 0.5) | (times > 1.7)].abs().max() < 1e-3
    assert weights.max() > 0.5


def test_movement_is_bounded_and_between_sounds_it_goes_one_way() -> None:
    """No jitter: a thousand frames a second show no step, and an opening has one maximum."""
    sounds = said(("PP", 0.06), ("aa", 0.15), ("PP", 0.06), ("O", 0.15), ("SS", 0.1), ("I", 0.1))
    _, recording = film(sounds, 1000.0)
    speed = torch.from_numpy(recording.arkit).diff(dim=0).abs() * 1000.0  # type: ignore[arg-type]
    assert speed.max() < 20.0
    jaw = torch.from_numpy(recording.arkit[:, INDEX["jawOpen"]])[350:520]  # type: ignore[index]
    turns = (jaw.diff().sign().diff() != 0).sum()
    assert turns <= 2


def test_frames_by_stretches_are_those_of_all_sounds_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(len(NAMES), (150,), generator=generator).tolist()
    sounds = [Sound(NAMES[kind], 0.1 * i, 0.1 * (i + 1)) for i, kind in enumerate(kinds)]
    times = torch.arange(0, 450, dtype=torch.float64) / 30.0
    whole = _Course.of(sounds, steady)
    from headstudio.motion.curves import coarticulated

    expected = coarticulated(
        times, whole.centres, whole.spans, whole.faces, whole.efforts, holds=whole.holds, strengths=whole.strengths
    )
    torch.testing.assert_close(mouth_weights(sounds, times, steady).double(), expected, atol=1e-5, rtol=0.0)


def test_an_hour_costs_seconds() -> None:
    sounds = [Sound(NAMES[1 + i % 14], 0.1 * i, 0.1 * (i + 1)) for i in range(6_000)]
    start = time.process_time()
    weights = mouth_weights(sounds, torch.arange(15_000, dtype=torch.float64) / 25.0, steady)
    assert weights.shape == (15_000, 52)
    assert time.process_time() - start < 10.0
