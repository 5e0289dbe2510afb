"""A film's pictures one by one, whatever the file: ffmpeg turns, converts, thins out and scales them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt8

from headstudio.errors import UserError

LONGEST_SIDE_PX = 1280  # larger pictures are scaled down: the face model looks at crops of 256 pixels
MOST_FPS = 60.0  # of what is tracked when nothing else is wanted


@dataclass(frozen=True)
class Film:
    """What a file says of itself; one that does not say how long it is has been counted."""

    path: Path
    fps: float  # on average, where the rate varies
    seconds: float
    has_sound: bool


def open_film(path: Path) -> Film:
    """Looks at the file's header only.

    Raises:
        UserError: there is no such file, or ffmpeg finds no film in it.
    """
    import imageio_ffmpeg

    if not path.is_file():
        raise UserError(f"--video {path} is no file.")
    if path.stat().st_size == 0:
        raise UserError(f"--video {path} is empty.")
    reader = imageio_ffmpeg.read_frames(_named(path), input_params=["-nostdin"])
    try:
        meta = next(reader)
    except (OSError, RuntimeError, StopIteration, ValueError, IndexError) as error:
        raise UserError(f"--video {path} is no film that ffmpeg can read.") from error
    finally:
        reader.close()
    fps, seconds = float(meta["fps"]), float(meta["duration"])
    if not seconds > 0:
        seconds = imageio_ffmpeg.count_frames_and_secs(_named(path))[1]
    return Film(path, fps if 0 < fps < 1000 else 30.0, seconds, bool(meta.get("audio_codec")))


def pictures(film: Film, fps: float, seconds: float | None = None) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """RGB pictures at a constant rate from instant 0 on, upright as a player shows them, no side beyond the limit.

    Args:
        fps: of the pictures: frames of a film with another or a varying rate are repeated or left out by their times.
        seconds: the film's part from its start; None is all of it.

    Raises:
        UserError: ffmpeg cannot read a single picture.
    """
    import imageio_ffmpeg

    smaller = f"min(1,{LONGEST_SIDE_PX}/max(iw*sar,ih))"
    size = f"w='max(2,trunc(iw*sar*{smaller}))':h='max(2,trunc(ih*{smaller}))'"
    filters = f"fps={fps:.6f}:start_time=0,scale={size}"
    limit = [] if seconds is None else ["-t", f"{seconds:.6f}"]
    words = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-i", _named(film.path), "-map", "0:V:0"]
    words += [*limit, "-vf", filters, "-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=told)
        assert process.stdout is not None
        count = 0
        try:
            while (picture := _read_ppm(process.stdout)) is not None:
                yield picture
                count += 1
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if count == 0:
            raise UserError(f"--video {film.path} holds no picture that ffmpeg can read.")


def _named(path: Path) -> str:
    """A file's name that ffmpeg takes for nothing else, whatever characters it begins with."""
    return f"file:{path}"


def _read_ppm(stream: IO[bytes]) -> UInt8[np.ndarray, "H W 3"] | None:
    """The next picture; None where the stream ends, within a picture too."""
    head = [stream.readline() for _ in range(3)]
    if head[0] != b"P6\n" or not head[2]:
        return None
    width, height = (int(word) for word in head[1].split())
    content = stream.read(3 * width * height)
    if len(content) < 3 * width * height:
        return None
    return np.frombuffer(content, np.uint8).reshape(height, width, 3)
