"""Oracles: espeak-ng's own phone times on the lips of the open head; silence, noise and numbers that must hold."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from headstudio.errors import UserError
from headstudio.head.model import HeadModel
from headstudio.motion.arkit import ARKIT_NAMES, INDEX, constrain
from headstudio.motion.recording import Recording
from headstudio.motion.transfer import pose_of_recording
from headstudio.speech import corpus, judge
from headstudio.speech.audio import Audio
from headstudio.speech.motion import GAZE_DEG, NOD_DEG, SWAY_DEG, recording_of
from headstudio.speech.sounds import Sound

MOUTH = [i for name, i in INDEX.items() if name.startswith(("mouth", "jaw", "tongue"))]


def audio(samples: np.ndarray, rate_hz: int = 16_000) -> Audio:
    return Audio(samples.astype(np.float32), rate_hz, "test")


def recorded(sound: Audio, seed: int = 0, fps: float = 25.0, sounds: list[Sound] | None = None) -> Recording:
    return recording_of(sound, fps=fps, generator=torch.Generator().manual_seed(seed), sounds=sounds)


def mouth(recording: Recording) -> np.ndarray:
    assert recording.arkit is not None
    return recording.arkit[:, MOUTH]


def babble(seconds: float, seed: int = 0) -> tuple[Audio, list[Sound]]:
    """Loud and soft noise as syllables, and sounds that go with them."""
    rng = np.random.default_rng(seed)
    count = int(seconds / 0.2)
    loud = np.repeat(rng.uniform(0.02, 0.3, count), 3200) * np.tile(np.hanning(3200), count)
    sounds = [Sound(("PP", "aa", "SS", "O")[i % 4], 0.2 * i, 0.2 * (i + 1)) for i in range(count)]
    return audio(loud * rng.standard_normal(len(loud))), sounds


@pytest.mark.parametrize("samples", [np.zeros(48_000), 1e-5 * np.random.default_rng(0).standard_normal(48_000)])
def test_in_silence_the_mouth_stands_still_and_the_rest_lives(samples: np.ndarray) -> None:
    recording = recorded(audio(samples))
    assert not mouth(recording).any()
    assert recording.arkit is not None
    others = [i for i in range(52) if i not in MOUTH and not ARKIT_NAMES[i].startswith("eyeBlink")]
    assert not recording.arkit[:, others].any()
    assert recording.arkit[:, INDEX["eyeBlinkLeft"]].max() > 0.9, "it blinks"
    assert recording.neck is not None
    turned = np.degrees(np.linalg.norm(recording.neck, axis=1))
    assert 0.0 < turned.max() < np.linalg.norm(SWAY_DEG), "it sways"


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 0.5])
def test_as_many_frames_as_the_sound_has(seconds: float) -> None:
    for fps in (10.0, 24.0, 59.94):
        recording = recorded(audio(0.1 * np.ones(round(16_000 * seconds))), fps=fps)
        assert len(recording) == max(round(round(16_000 * seconds) / 16_000 * fps), 1)


def test_the_same_sound_and_seed_give_the_same_numbers() -> None:
    sound, sounds = babble(4.0)
    first, again, other = (recorded(sound, seed, sounds=sounds) for seed in (1, 1, 2))
    for name, value in first.tracks.items():
        np.testing.assert_array_equal(value, again.tracks[name])
    np.testing.assert_array_equal(mouth(first), mouth(other))
    assert not np.array_equal(first.tracks["neck"], other.tracks["neck"])
    heard, once_more = recorded(sound), recorded(sound)
    np.testing.assert_array_equal(mouth(heard), mouth(once_more))


def test_the_frame_rate_only_samples() -> None:
    sound, sounds = babble(3.0)
    slow, fast = (recorded(sound, fps=fps, sounds=sounds) for fps in (20.0, 60.0))
    for name, value in slow.tracks.items():
        np.testing.assert_allclose(fast.tracks[name][::3], value, atol=1e-5)


def test_numbers_are_plausible_and_turns_are_small() -> None:
    sound, sounds = babble(20.0)
    recording = recorded(sound, sounds=sounds)
    assert recording.arkit is not None
    assert recording.neck is not None
    assert recording.eye_left is not None
    weights = torch.from_numpy(recording.arkit)
    assert float(weights.min()) >= 0.0
    assert float(weights.max()) <= 1.0
    jaw = INDEX["jawOpen"]
    torch.testing.assert_close(constrain(weights)[:, jaw], weights[:, jaw])
    assert np.degrees(np.linalg.norm(recording.eye_left, axis=1)).max() <= np.hypot(*GAZE_DEG)
    turned = np.degrees(np.linalg.norm(recording.neck, axis=1))
    assert turned.max() < np.linalg.norm(SWAY_DEG) + NOD_DEG
    pitch = np.degrees(recording.neck[:, 0])  # positive lowers the chin
    assert pitch.max() > SWAY_DEG[1], "stress nods"
    for track in ("neck", "eye_left"):
        assert np.abs(np.diff(recording.tracks[track], axis=0)).max() < np.radians(5.0)
    still = recording_of(sound, fps=25.0, generator=torch.Generator().manual_seed(0), sounds=sounds, neck=False)
    assert still.neck is None


def test_loud_speech_opens_further() -> None:
    samples = np.concatenate((np.full(8000, 0.02), np.full(8000, 0.3))) * np.random.default_rng(0).standard_normal(
        16_000
    )
    sounds = [Sound("aa", 0.1, 0.4), Sound("aa", 0.6, 0.9)]
    weights = mouth(recorded(audio(samples), fps=100.0, sounds=sounds))[:, MOUTH.index(INDEX["jawOpen"])]
    assert weights[55:95].max() > 1.15 * weights[5:45].max()


def test_a_film_of_it_can_be_made(open_head: HeadModel) -> None:
    sound, sounds = babble(2.0)
    pose = pose_of_recording(open_head, recorded(sound, sounds=sounds), ("neck", "eyes"))
    assert len(pose) == 50
    assert torch.isfinite(open_head(torch.zeros(0), pose).vertices).all()


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), 1000.0])
def test_impossible_rates_are_told(fps: float) -> None:
    with pytest.raises(UserError, match=r"fps=.* must lie above 0"):
        recorded(audio(np.zeros(160)), fps=fps)
    with pytest.raises(UserError, match="44100 samples a second"):
        recorded(audio(np.zeros(160), 44_100))


def test_it_is_faster_than_the_sound_and_long_sound_is_not_worse() -> None:
    """In processor time; a minute, so in two pieces of the recogniser and of the mouth's frames in many."""
    sound, _ = babble(20.0)
    long = replace(sound, samples=np.tile(sound.samples, 3))
    start = time.process_time()
    recording = recorded(long)
    assert len(recording) == 1500
    assert time.process_time() - start < 30.0


@pytest.fixture(scope="module")
def scores(espeak_ng: None, open_head: HeadModel) -> dict[str, float]:
    """All sentences, a voice and a speed each in turn: voices and sentences that the ear was not trained on."""
    ways = list(product(("en-us", "en+f3"), (130, 190)))
    rows = []
    for i, text in enumerate(judge.SENTENCES):
        voice, rate = ways[i % len(ways)]
        clip = corpus.by_espeak(text, voice=voice, words_per_minute=rate)
        rows.append(judge.judged(clip, open_head))
    assert sum(len(row.closed) for row in rows) > 40
    return judge.together(rows)


def test_lips_close_for_p_b_m_within_40_ms(scores: dict[str, float]) -> None:
    assert scores["closed"] >= 0.9


def test_open_vowels_open_and_are_not_shut(scores: dict[str, float]) -> None:
    assert scores["jaw_open"] > 3.0 * scores["jaw_closed"]
    assert scores["open_shut"] < 0.1


def test_teeth_sounds_are_nearly_closed(scores: dict[str, float]) -> None:
    assert scores["jaw_teeth"] < 0.5 * scores["jaw_open"]


def test_round_vowels_are_round(scores: dict[str, float]) -> None:
    assert scores["round_round"] > 3.0 * scores["round_spread"]


def test_movement_is_smooth_and_fast_enough(scores: dict[str, float]) -> None:
    assert scores["fastest"] < 15.0
    assert scores["work"] < 0.5


@pytest.mark.parametrize("voice", judge.ELSEWHERE)
def test_other_languages_close_their_lips(espeak_ng: None, open_head: HeadModel, voice: str) -> None:
    clip = corpus.by_espeak(judge.ELSEWHERE[voice], voice=voice, words_per_minute=150)
    row = judge.together([judge.judged(clip, open_head)])
    assert row["closed"] >= 0.75
    assert row["jaw_open"] > 2.0 * row["jaw_closed"]


@pytest.mark.usefixtures("espeak_ng")
def test_bad_recordings_close_the_lips_too(open_head: HeadModel) -> None:
    """Clipped, telephone, noisy, quiet: fewer closures, but most."""
    clip = corpus.by_espeak(judge.SENTENCES[3], voice="en-us", words_per_minute=140)
    rng = np.random.default_rng(0)
    spoiled = {
        "clipped": np.clip(8.0 * clip.samples, -1.0, 1.0),
        "telephone": resample_poly(resample_poly(clip.samples, 1, 2), 2, 1),
        "noisy": clip.samples + 0.1 * clip.samples.std() * rng.standard_normal(len(clip.samples)),
        "quiet": 0.01 * clip.samples,
    }
    for name, samples in spoiled.items():
        changed = replace(clip, samples=samples[: len(clip.samples)].astype(np.float32))
        assert judge.together([judge.judged(changed, open_head)])["closed"] >= 0.7, name
