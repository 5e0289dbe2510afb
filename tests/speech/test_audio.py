"""Oracles: tones whose every sample is known, written by scipy, encoded by ffmpeg; a sentence for what is no sound."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from scipy.io import wavfile

from headstudio.errors import UserError
from headstudio.speech.audio import Audio, read_audio


def tone(seconds: float = 1.0, hertz: float = 440.0, rate: int = 16_000, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2.0 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def written(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    wavfile.write(path, rate, (np.clip(samples, -1.0, 1.0) * 32767.0).round().astype(np.int16))
    return path


def ffmpeg(*arguments: str) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *arguments], check=True)


def test_samples_come_back(tmp_path: Path) -> None:
    audio = read_audio(written(tmp_path / "a.wav", tone()))
    assert audio.rate_hz == 16_000
    assert audio.seconds == 1.0
    assert audio.samples.dtype == np.float32
    np.testing.assert_allclose(audio.samples, tone(), atol=1.0 / 32767.0)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    audio = read_audio(written(tmp_path / "a.wav", tone(rate=rate), rate))
    assert len(audio.samples) == pytest.approx(16_000, abs=2)
    np.testing.assert_allclose(audio.samples[800:15_000], tone()[800:15_000], atol=5e-3)


def test_channels_are_mixed(tmp_path: Path) -> None:
    left, right = tone(hertz=300.0), tone(hertz=700.0)
    audio = read_audio(written(tmp_path / "a.wav", np.stack((left, right), -1)))
    np.testing.assert_allclose(audio.samples, 0.5 * (left + right), atol=2e-4)


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "ogg", "flac"])
def test_compressed_sound_is_the_same_sound(tmp_path: Path, suffix: str) -> None:
    whole = np.concatenate((np.zeros(4800, np.float32), tone(0.4), np.zeros(4800, np.float32)))
    ffmpeg("-i", str(written(tmp_path / "a.wav", whole)), str(tmp_path / f"a.{suffix}"))
    audio = read_audio(tmp_path / f"a.{suffix}")
    assert audio.seconds == pytest.approx(1.0, abs=0.1)
    middle = audio.samples[6000:10_000]
    assert np.sqrt(np.square(middle).mean()) == pytest.approx(0.5 / np.sqrt(2.0), rel=0.1)
    onset = int(np.argmax(np.abs(audio.samples) > 0.1)) / audio.rate_hz
    assert onset == pytest.approx(0.3, abs=0.03)


def film(path: Path, *sound: str) -> Path:
    ffmpeg("-f", "lavfi", "-i", "color=red:s=32x32:d=1", *sound, "-pix_fmt", "yuv420p", "-shortest", str(path))
    return path


def test_a_film_has_its_sound_read(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", "-i", str(written(tmp_path / "a.wav", tone())))
    assert np.abs(read_audio(path).samples).max() == pytest.approx(0.5, abs=0.1)


def test_names_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-i.wav", "http:a b'c.wav", "größe%03d.wav"):
        written(tmp_path / name, tone())
        assert read_audio(Path(name)).seconds == 1.0


def test_what_is_no_sound_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("This is no sound. " * 50)
    (tmp_path / "empty.wav").write_bytes(b"")
    written(tmp_path / "none.wav", np.zeros(0, np.float32))
    cases = {
        "missing.wav": "no such file",
        "text.wav": "is not a sound that ffmpeg reads",
        "empty.wav": "0 bytes",
        "none.wav": "zero length",
        ".": "is a folder",
        film(tmp_path / "mute.mp4").name: "has no sound",
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            read_audio(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("audio=")


def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "a.mp3.wav", tone(4.0))
    content = path.read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: 44 + 16_000 * 2])
    audio = read_audio(tmp_path / "cut.wav")
    assert audio.seconds == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(audio.samples[:15_000], tone(4.0)[:15_000], atol=1e-4)
    ffmpeg("-i", str(path), "-c:a", "pcm_s16le", str(tmp_path / "a.mkv"))
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING):
        assert 1.0 < read_audio(tmp_path / "cut.mkv").seconds < 3.0
    assert "cut off" in caplog.text


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(16_000, np.float32), 16_000, "is silent"),
        (tone(level=0.005), 16_000, "very quiet"),
        (np.clip(tone(level=4.0), -1.0, 1.0), 16_000, "clipped"),
        (tone(rate=8_000), 8_000, "telephone"),
    ],
)
def test_bad_sound_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, samples: np.ndarray, rate: int, message: str
) -> None:
    with caplog.at_level(logging.WARNING):
        read_audio(written(tmp_path / "a.wav", samples, rate))
    assert message in caplog.text
    assert len(caplog.records) == 1


def test_good_sound_is_not_commented(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read_audio(written(tmp_path / "a.wav", tone()))
    assert not caplog.records


def test_a_long_file_says_how_long_it_takes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstudio.speech.audio._LONG_S", 30.0)
    with caplog.at_level(logging.WARNING):
        audio = read_audio(written(tmp_path / "a.wav", tone(70.0)))
    assert isinstance(audio, Audio)
    assert audio.seconds == 70.0
    assert "lasts 01:10: listening to it takes about 00:05" in caplog.text
