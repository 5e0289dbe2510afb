"""A motion and a sound to make a film of, the command, and what the film shows and lets hear."""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio import animate
from headstudio.motion.arkit import ARKIT_NAMES, INDEX
from headstudio.motion.files import write_npz
from headstudio.motion.recording import Recording

SIZE = 64


def opening(path: Path, frames: int = 31, fps: float = 30.0) -> Path:
    """A jaw that opens once, in the middle."""
    arkit = np.zeros((frames, len(ARKIT_NAMES)), np.float32)
    arkit[:, INDEX["jawOpen"]] = np.sin(np.linspace(0, np.pi, frames)) ** 4
    write_npz(path, Recording(source="made", fps=fps, arkit=arkit))
    return path


def click(path: Path, at_s: float, seconds: float, rate: int = 16000) -> Path:
    """Silence but for a tone that begins at an instant."""
    times = np.arange(round(seconds * rate)) / rate
    sound = 0.5 * np.sin(2 * np.pi * 440 * times) * (times >= at_s)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((32767 * sound).astype("<i2").tobytes())
    return path


def ffmpeg(*words: str) -> bytes:
    import imageio_ffmpeg

    return subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *words], check=True, capture_output=True
    ).stdout


def frames_of(film: Path) -> NDArray[Any]:
    raw = ffmpeg("-i", str(film), "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, SIZE, SIZE, 3).astype(int)


def sound_of(film: Path, rate: int = 16000) -> NDArray[Any]:
    return np.frombuffer(ffmpeg("-i", str(film), "-ac", "1", "-ar", str(rate), "-f", "s16le", "-"), "<i2") / 32768


def call(*words: str | Path) -> int:
    return animate.main([*map(str, words), "--size", str(SIZE)])
