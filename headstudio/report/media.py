"""Films as pictures: evenly spaced frames of an mp4 side by side in one WebP, small enough to travel inside a page."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


from headstudio.files import put

FRAMES, COLUMNS = 24, 6
ROWS = FRAMES // COLUMNS
SIZES = ((12, 256), (60, 192), (200, 128))
"""Up to so many runs, frames of so many pixels."""
BUDGET = 12_000_000
"""Bytes of all pictures of a page, as base64."""


@dataclass(frozen=True)
class Sprite:
    """`FRAMES` pictures of a film in rows of `COLUMNS`, as a data URI; how long the film is, in seconds."""

    uri: str
    seconds: float


def size_for(runs: int) -> int:
    """Pixels of a frame for so many runs; 0: leave films out."""
    return next((size for most, size in SIZES if runs <= most), 0)


def sprites(films: Sequence[Path], size: int, *, workers: int = 3) -> Mapping[Path, Sprite | str]:
    """A sprite of every film, or a few words on why there is none. A sweep keeps those of its runs in its own folder.

    Args:
        films: mp4 files.
        size: width and height of a frame, pixels; made smaller if all together would be too large.
        workers: how many films are read at once.
    """
    quality = 75
    with ThreadPoolExecutor(workers) as pool:

        def made(some: Sequence[Path]) -> list[Sprite | str]:
            return list(pool.map(partial(_sprite, size=size, quality=quality), some))

        while True:
            sample = made(films[:: max(1, len(films) // 6)])  # a few tell how large all will be
            bytes_each = sum(len(s.uri) for s in sample if isinstance(s, Sprite)) / max(1, len(sample))
            if bytes_each * len(films) <= BUDGET or size <= 64:
                return dict(zip(films, made(films), strict=True))
            size, quality = size * 3 // 4 // 2 * 2, 65


def _sprite(film: Path, size: int, quality: int) -> Sprite | str:
    try:
        stat = film.stat()
    except OSError:
        return "no film"
    key = f"{film.absolute()} {stat.st_mtime_ns} {stat.st_size} {size} {quality} {FRAMES} 1"
    sweep = film.parent.parent / ".sweep"
    kept = sweep / "report" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.webp" if sweep.is_dir() else None
    try:
        if kept is not None and kept.exists():
            return _packed(kept.read_bytes())
        content = _encode(film, size, quality)
    except Exception:  # whatever the decoder makes of a broken file
        return "broken or cut short"
    if kept is not None:
        with contextlib.suppress(OSError):  # somebody else's folder, which may be read only
            kept.parent.mkdir(parents=True, exist_ok=True)
            put(kept, content)
    return _packed(content)


def _encode(film: Path, size: int, quality: int) -> bytes:
    """Four bytes of the film's length in milliseconds, then the sprite as a WebP."""
    import imageio_ffmpeg
    from PIL import Image as images

    sheet = images.new("RGB", (size * COLUMNS, size * ROWS))
    with contextlib.closing(imageio_ffmpeg.read_frames(str(film), pix_fmt="rgb24")) as reader:
        about = next(reader)
        count = max(1, round(about["duration"] * about["fps"]))
        wanted = [place * count // FRAMES for place in range(FRAMES)]
        picture, done = None, 0
        for number, frame in enumerate(reader):  # one by one: a long film does not fit into memory
            if done == FRAMES:
                break
            picture = images.frombuffer("RGB", about["size"], frame)
            while done < FRAMES and wanted[done] == number:
                _paste(sheet, picture, done, size)
                done += 1
    if picture is None:
        raise ValueError("it holds no picture")
    for place in range(done, FRAMES):  # it is shorter than it says
        _paste(sheet, picture, place, size)
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=quality, method=2)
    return int(float(about["duration"]) * 1000).to_bytes(4, "big") + buffer.getvalue()


def _paste(sheet: Image, picture: Image, place: int, size: int) -> None:
    from PIL.Image import Resampling

    small = picture if picture.size == (size, size) else picture.resize((size, size), Resampling.HAMMING)
    sheet.paste(small, (place % COLUMNS * size, place // COLUMNS * size))


def _packed(content: bytes) -> Sprite:
    """From what the cache keeps: four bytes of milliseconds, then the picture."""
    uri = "data:image/webp;base64," + base64.b64encode(content[4:]).decode()
    return Sprite(uri, int.from_bytes(content[:4], "big") / 1000)
