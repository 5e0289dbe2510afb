"""Oracles: scipy's STFT, a search of all courses, shifts and levels that change nothing, known phones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.signal import ShortTimeFFT

from headstudio.speech import corpus
from headstudio.speech.features import log_mel, loudness, normalised
from headstudio.speech.listener import _SWITCH_COST, Ear, course, listen, posteriors, shipped
from headstudio.speech.sounds import SILENCE


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(round(16_000 * seconds), generator=torch.Generator().manual_seed(seed))


def test_frames_are_those_of_an_stft() -> None:
    """The bands' power is that of scipy's STFT, band by band, summed over all bins (each triangle sums to 1)."""
    samples = noise(0.5)
    window = torch.hann_window(400).numpy()
    transform = ShortTimeFFT(window, 160, 16_000, mfft=512, scale_to=None)
    power = np.abs(transform.stft(samples.numpy(), p0=0, p1=51)) ** 2 / 400
    ours = log_mel(samples)
    assert ours.shape == (51, 40)
    within = power[3:243].mean(0)  # bins between the lowest and the highest edge
    ours_mean = (10.0 ** (ours / 10.0)).mean(1).numpy()
    assert np.corrcoef(within, ours_mean)[0, 1] > 0.8


def test_a_tone_is_loudest_in_its_band() -> None:
    times = torch.arange(16_000) / 16_000
    centres = [
        int(log_mel(torch.sin(2 * torch.pi * hertz * times))[50].argmax()) for hertz in (200, 500, 1000, 3000, 6000)
    ]
    assert centres == sorted(set(centres))
    edges = np.linspace(2595 * np.log10(1 + 80 / 700), 2595 * np.log10(1 + 7600 / 700), 42)
    assert abs(edges[centres[2] + 1] - 2595 * np.log10(1 + 1000 / 700)) <= edges[1] - edges[0]


def test_the_level_does_not_matter() -> None:
    heard = normalised(log_mel(noise(1.0)))
    torch.testing.assert_close(normalised(log_mel(0.05 * noise(1.0))), heard, atol=1e-3, rtol=0.0)
    assert float(loudness(log_mel(noise(1.0))).mean() - loudness(log_mel(0.1 * noise(1.0))).mean()) == pytest.approx(
        20.0, abs=0.01
    )


def test_long_sound_is_heard_as_short(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = normalised(log_mel(noise(3.0)))
    whole = posteriors(heard, shipped())
    monkeypatch.setattr("headstudio.speech.listener._CHUNK", 70)
    torch.testing.assert_close(posteriors(heard, shipped()), whole, atol=1e-5, rtol=1e-4)
    bands = log_mel(noise(3.0))
    monkeypatch.setattr("headstudio.speech.features._CHUNK", 64)
    torch.testing.assert_close(log_mel(noise(3.0)), bands, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_course_is_the_best_of_all(seed: int) -> None:
    score = np.log(np.random.default_rng(seed).dirichlet(np.full(3, 0.2), 6)).astype(np.float32)

    def worth(path: tuple[int, ...]) -> float:
        changes = sum(a != b for a, b in itertools.pairwise(path))
        return float(sum(score[t, kind] for t, kind in enumerate(path)) - _SWITCH_COST * changes)

    best = max(itertools.product(range(3), repeat=6), key=worth)
    sounds = course(score, 0.06)
    found = corpus.labels(sounds, 6)
    numbers = tuple(int(number) for number in found)
    assert worth(numbers) == pytest.approx(worth(best), abs=1e-4)
    assert sounds[0].start_s == 0.0
    assert sounds[-1].end_s == 0.06


@pytest.mark.parametrize(
    ("what", "samples"),
    [
        ("silence", torch.zeros(16_000)),
        ("faint noise", 1e-5 * noise(1.0)),
        ("white noise", noise(2.0)),
        ("a sine", 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(32_000) / 16_000)),
        ("a click", torch.nn.functional.one_hot(torch.tensor(8000), 16_000).float()),
        ("nothing", torch.zeros(0)),
    ],
)
def test_what_is_no_speech_is_silence(what: str, samples: torch.Tensor) -> None:
    assert {sound.viseme for sound in listen(samples)} == {SILENCE}, what


def test_ten_milliseconds_are_heard() -> None:
    sounds = listen(noise(0.01))
    assert sounds[-1].end_s == pytest.approx(0.01)


def test_the_same_sound_is_heard_the_same() -> None:
    assert listen(noise(2.0)) == listen(noise(2.0))


def test_an_untrained_ear_knows_nothing() -> None:
    """The judge can fail: what the shipped ear reaches is not chance."""
    torch.manual_seed(0)
    heard = posteriors(normalised(log_mel(noise(1.0))), Ear().eval()).exp().detach()
    assert float(heard.max()) < 0.5
    torch.testing.assert_close(heard.sum(-1), torch.ones(len(heard)))


@pytest.mark.usefixtures("espeak_ng")
def test_most_frames_are_heard_as_spoken() -> None:
    """A voice and a sentence that the ear was not trained on."""
    clip = corpus.by_espeak(
        "Would you move the blue boat to the pool before noon?", voice="en-us", words_per_minute=150
    )
    count = len(clip.samples) // 160 + 1
    spoken, heard = corpus.labels(clip.sounds, count), corpus.labels(listen(torch.from_numpy(clip.samples)), count)
    assert (spoken == heard).mean() > 0.6
    assert len(set(spoken.tolist())) > 6
