"""Speech whose phones and times are known: words of no language, spoken by synthesisers as other rooms would hear it.

Words are put together from letters, so that no text is needed and every sound occurs; each language's voice reads
them by its own rules. espeak-ng speaks most (formant synthesis, many languages), flite some (voices made from
recordings of people, American English). The clips' sounds are then changed as microphones and rooms do.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.signal import butter, fftconvolve, resample_poly, sosfilt

from headstudio.errors import UserError
from headstudio.speech import espeak
from headstudio.speech.features import HOP, RATE_HZ, log_mel, normalised
from headstudio.speech.sounds import NAMES, SILENCE, Phone, Sound, ipa_of_arpabet, sounds_of

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import NDArray
    from torch import Tensor

LANGUAGES = "en-us en en-us en de es fr-fr it pt nl pl sv tr fi ru hu cs"
VARIANTS = ("+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7", "+f1", "+f2", "+f4", "+f5")
"""Of espeak-ng's voices; those without a variant and +f3 are kept for judging."""
FLITE_VOICES = ("slt", "awb", "kal16", "slt", "awb")
"""rms is kept for judging."""
_ONSETS = "b d f g h j k l m n p r s t v w y z ch sh th br bl cr dr fl fr gl gr kr pl pr sl sp st tr tw m b p f v w"
_VOWELS = "a e i o u a e i o u ai ea ee oo ou oi ar or er ow y"
_CODAS = "n r s t l m d k p b f v z g nd st sh ng mp lm"
_OPEN_SYLLABLES = 20  # for as many that end in one of these consonants


@dataclass(frozen=True, eq=False)
class Clip:
    """Speech at 16 kHz in [-1, 1], and what the mouth shows in it."""

    samples: NDArray[np.float32]
    sounds: list[Sound]
    origin: str


def sentence(rng: np.random.Generator) -> str:
    """Two to eight words of no language."""
    onsets, vowels, codas = _ONSETS.split(), _VOWELS.split(), [*_CODAS.split(), *[""] * _OPEN_SYLLABLES]
    words = []
    for _ in range(int(rng.integers(2, 9))):
        syllables = rng.choice([1, 2, 3, 4], p=[0.35, 0.35, 0.2, 0.1])
        word = "".join(f"{rng.choice(onsets)}{rng.choice(vowels)}{rng.choice(codas)}" for _ in range(syllables))
        words.append(word + ("," if rng.random() < 0.12 else ""))
    return " ".join(words)


def by_espeak(text: str, *, voice: str, words_per_minute: int, pitch: int = 50) -> Clip:
    """espeak-ng's speech."""
    spoken = espeak.say(text, voice=voice, words_per_minute=words_per_minute, pitch=pitch)
    samples = resample_poly(spoken.samples, RATE_HZ, spoken.rate_hz).astype(np.float32)
    return Clip(samples, sounds_of(spoken.phones), f"espeak-ng {voice} {words_per_minute}")


def by_flite(text: str, *, voice: str, stretch: float = 1.0) -> Clip:
    """flite's speech, `stretch` times as slow; its voices at 16 kHz only.

    Raises:
        UserError: where flite is missing.
    """
    if shutil.which("flite") is None:
        raise UserError("flite is missing: apt-get install flite.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        command = [
            "flite",
            "-voice",
            voice,
            "--setf",
            f"duration_stretch={stretch}",
            "-psdur",
            "-t",
            text,
            "-o",
            str(file),
        ]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        with wave.open(str(file)) as stream:
            samples = (np.frombuffer(stream.readframes(stream.getnframes()), np.int16) / 32768.0).astype(np.float32)
    ends = [(name, float(end)) for name, end in (entry.split(":") for entry in told.split())]
    starts = [0.0, *(end for _, end in ends[:-1])]
    phones = [Phone(ipa_of_arpabet(name), start, end) for (name, end), start in zip(ends, starts, strict=True)]
    return Clip(samples, sounds_of(phones), f"flite {voice}")


def random_clip(rng: np.random.Generator, *, recorded_share: float = 0.3) -> Clip:
    """A sentence by a voice that may be trained on."""
    text = sentence(rng)
    if rng.random() < recorded_share:
        return by_flite(text, voice=str(rng.choice(FLITE_VOICES)), stretch=float(rng.uniform(0.8, 1.3)))
    voice = f"{rng.choice(LANGUAGES.split())}{rng.choice(VARIANTS)}"
    rate, pitch = int(rng.integers(110, 240)), int(rng.integers(20, 85))
    return by_espeak(text, voice=voice, words_per_minute=rate, pitch=pitch)


def heard_elsewhere(clip: Clip, rng: np.random.Generator) -> Clip:
    """The clip from another throat, in a room, through a microphone, with silence around it and noise over it."""
    up = int(rng.integers(86, 116))  # per cent: longer or shorter, deeper or higher, as a larger or smaller speaker
    samples = resample_poly(clip.samples, up, 100)
    before, after = rng.uniform(0.0, 0.8, 2)
    samples = np.concatenate((np.zeros(int(before * RATE_HZ)), samples, np.zeros(int(after * RATE_HZ))))
    sounds = [Sound(s.viseme, before + s.start_s * up / 100, before + s.end_s * up / 100) for s in clip.sounds]
    if rng.random() < 0.35:
        samples = _in_a_room(samples, rng)
    samples = _coloured(samples, rng)
    if rng.random() < 0.15:
        samples = sosfilt(butter(6, 3600.0, fs=RATE_HZ, output="sos"), samples)  # a telephone
    power = np.square(samples).mean() + 1e-12
    noise = _noise(len(samples), rng) * np.sqrt(power * 10.0 ** (-rng.uniform(8.0, 60.0) / 10.0))
    return Clip((samples + noise).astype(np.float32), sounds, clip.origin)


def no_speech(rng: np.random.Generator) -> Clip:
    """Two to four seconds of noise, tones or clicks: the mouth stays shut."""
    count = int(rng.uniform(2.0, 4.0) * RATE_HZ)
    samples = 10.0 ** rng.uniform(-4.0, -1.0) * _noise(count, rng)
    times = np.arange(count) / RATE_HZ
    if rng.random() < 0.5:
        for hertz in rng.uniform(80.0, 3000.0, int(rng.integers(1, 5))):
            samples += rng.uniform(0.02, 0.2) * np.sin(2.0 * np.pi * hertz * times)
    if rng.random() < 0.4:
        samples[rng.integers(0, count, 5)] += rng.uniform(-1.0, 1.0, 5)
    return Clip(samples.astype(np.float32), [Sound(SILENCE, 0.0, count / RATE_HZ)], "no speech")


def example(clip: Clip) -> tuple[Float[Tensor, "T 40"], Int[Tensor, " T"]]:
    """What the network hears, and the viseme of each frame."""
    heard = normalised(log_mel(torch.from_numpy(clip.samples)))
    return heard, torch.from_numpy(labels(clip.sounds, len(heard)))


def labels(sounds: list[Sound], count: int) -> NDArray[np.int64]:
    """The viseme's number at each of `count` frames; silence where no sound is."""
    times = np.arange(count) * HOP / RATE_HZ
    shown = np.full(count, NAMES.index(SILENCE))
    for sound in sounds:
        shown[(times >= sound.start_s) & (times < sound.end_s)] = NAMES.index(sound.viseme)
    return shown


def _noise(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise of power 1 whose spectrum falls with a random power of the frequency: white, pink, brown."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum /= np.maximum(np.arange(len(spectrum)), 10.0) ** rng.uniform(0.0, 1.0)
    wave_form = np.fft.irfft(spectrum, count)
    return np.asarray(wave_form / (wave_form.std() + 1e-12))


def _in_a_room(samples: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    decay_s, share = rng.uniform(0.05, 0.35), rng.uniform(0.05, 0.4)
    tail = rng.standard_normal(int(decay_s * RATE_HZ)) * np.exp(-6.9 * np.linspace(0.0, 1.0, int(decay_s * RATE_HZ)))
    tail *= share / (np.linalg.norm(tail) + 1e-12)
    tail[0] = 1.0
    return np.asarray(fftconvolve(samples, tail)[: len(samples)])


def _coloured(samples: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Through a smooth random frequency response, some 6 dB up and down."""
    points_db = rng.normal(0.0, 4.0, 8)
    spectrum = np.fft.rfft(samples)
    response_db = np.interp(np.linspace(0.0, 7.0, len(spectrum)), np.arange(8), points_db)
    return np.asarray(np.fft.irfft(spectrum * 10.0 ** (response_db / 20.0), len(samples)))
