"""Sound files of any kind as one channel at the rate that the listener hears, through ffmpeg."""

from __future__ import annotations

import logging
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.progress import duration
from headstudio.speech.features import RATE_HZ

log = logging.getLogger(__name__)

_KINDS = "wav, mp3, m4a, ogg, flac or a film with sound"
_CLIPPED, _CLIPPED_SHARE = 0.985, 0.001  # level of a clipped sample, and how many of them are too many
_SILENT, _QUIET = (
    10.0 ** (-60.0 / 20.0),
    10.0 ** (-40.0 / 20.0),
)  # of the loudest twentieth of a second, root mean square
_TELEPHONE_HZ = 8000
_LONG_S = 600.0
_WORK_PER_SECOND = 0.07  # seconds of work for a second of sound, on one core; docs/speech.md has the measurement
_RATE = re.compile(r"Audio:.*?(\d+) Hz")
_DURATION = re.compile(r"Duration: (\d+):(\d+):([\d.]+)")


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound: (N,) samples, float32 in [-1, 1], one channel, `rate_hz` a second, from the file `source`."""

    samples: NDArray[np.float32]
    rate_hz: int
    source: str

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate_hz


def read_audio(path: Path | str, *, seconds: float | None = None) -> Audio:
    """The first track of sound in a file that ffmpeg reads, at 16 kHz, all channels mixed into one.

    What may make the mouth worse (silence, clipping, very quiet sound, a telephone's 8 kHz, a file that ends before
    the length that it states) and sound that takes long is told in a warning.

    Args:
        path: the file.
        seconds: how much of it is read, from its start; None is all of it.

    Raises:
        UserError: when there is no such file, it is no sound, it has no track of sound, or no sample in it.
    """
    samples, told = _read(Path(path), seconds)
    audio = Audio(np.clip(np.nan_to_num(samples), -1.0, 1.0), RATE_HZ, str(path))
    _warn(audio, told, seconds)
    return audio


def require_sound(path: Path) -> None:
    """Raises as `read_audio`, of which it reads a second, where a sound is only heard."""
    _read(path, 1.0)


def is_silent(path: Path, *, seconds: float | None = None) -> bool:
    """Whether nobody would hear a sound, or the first `seconds` of it; raises as `read_audio`."""
    return _loudest(_read(path, seconds)[0]) < _SILENT


def _read(path: Path, seconds: float | None) -> tuple[NDArray[np.float32], str]:
    """Samples, at least one, and what ffmpeg tells."""
    if not path.exists():
        raise UserError(f"audio={path}: there is no such file; give a file with sound ({_KINDS}).")
    if path.is_dir():
        raise UserError(f"audio={path} is a folder; give one file with sound ({_KINDS}).")
    if path.stat().st_size == 0:
        raise UserError(f"audio={path} is empty (0 bytes); give a file with sound ({_KINDS}).")
    content, told = _decoded(path, seconds)
    samples = np.frombuffer(content[: len(content) // 4 * 4], "<f4").astype(np.float32)
    if len(samples) == 0:
        raise UserError(f"audio={path} has zero length: there is no sound in it.")
    return samples, told


def _decoded(path: Path, seconds: float | None) -> tuple[bytes, str]:
    """Little-endian float32 at `RATE_HZ`, and what ffmpeg tells."""
    import imageio_ffmpeg

    source = f"file:{path}"  # a name with a colon or a leading dash is a name
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-protocol_whitelist", "file,pipe"]
    # One channel is the mean of all; by default ffmpeg lets the mix of float channels exceed 1
    mixed = f"aresample={RATE_HZ}:out_chlayout=mono:rematrix_maxval=1.0"
    length = [] if seconds is None else ["-t", f"{seconds:.3f}"]
    command += ["-i", source, "-map", "0:a:0", "-vn", "-af", mixed, *length, "-f", "f32le", "pipe:1"]
    done = subprocess.run(command, capture_output=True, check=False)
    told = done.stderr.decode("utf-8", "replace")
    if done.returncode == 0:
        return done.stdout, told
    if "matches no streams" in told:
        raise UserError(f"audio={path} has no sound: it is a film or a picture without a track of sound.")
    if "Permission denied" in told:
        raise UserError(f"audio={path} may not be read: permission denied.")
    reason = next(
        (line for line in reversed(told.splitlines()) if "nvalid" in line or "rror" in line), "unknown format"
    )
    reason = reason.replace(source, path.name).strip().rstrip(".")
    raise UserError(f"audio={path} is not a sound that ffmpeg reads ({reason}); give {_KINDS}.")


def _warn(audio: Audio, told: str, seconds: float | None) -> None:
    samples, source = audio.samples, audio.source
    loudest = _loudest(samples)
    if loudest < _SILENT:
        log.warning("%s is silent: the mouth will not move.", source)
    elif loudest < _QUIET:
        log.warning("%s is very quiet (%.0f dB at its loudest).", source, 20.0 * np.log10(loudest))
    clipped = float((np.abs(samples) >= _CLIPPED).mean())
    if clipped > _CLIPPED_SHARE:
        log.warning("%s is clipped (%.1f %% of its samples): it was recorded too loud.", source, 100.0 * clipped)
    if (rate := _RATE.search(told)) and int(rate[1]) <= _TELEPHONE_HZ:
        log.warning("%s has %s Hz, as a telephone: s and f are hard to hear in it.", source, rate[1])
    if (stated := _DURATION.search(told)) is not None:
        hours, minutes, rest = (float(part) for part in stated.groups())
        whole = 3600.0 * hours + 60.0 * minutes + rest
        whole = whole if seconds is None else min(whole, seconds)
        if audio.seconds < 0.95 * whole - 0.1:
            log.warning(
                "%s says that it lasts %.1f s but ends after %.1f s: it is cut off.", source, whole, audio.seconds
            )
    if audio.seconds > _LONG_S:
        work = duration(_WORK_PER_SECOND * audio.seconds)
        log.warning("%s lasts %s: listening to it takes about %s.", source, duration(audio.seconds), work)


def _loudest(samples: NDArray[np.float32]) -> float:
    """Root mean square of the loudest twentieth of a second."""
    size = RATE_HZ // 20
    whole = samples[: len(samples) // size * size].reshape(-1, size) if len(samples) >= size else samples[None]
    return float(np.sqrt(np.square(whole).mean(-1).max()))
