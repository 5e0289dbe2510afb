"""Films: frames to an mp4 that every browser plays."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headstudio.errors import UserError
from headstudio.export.pictures import enlarge, to_uint8

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor


def write_mp4(
    frames: Iterable[Float[Tensor, "3 H W"]],
    path: Path,
    fps: float,
    *,
    factor: int = 1,
    quality: float = 7.5,
    sound: Path | None = None,
) -> int:
    """H.264 (yuv420p) at `path`, written beside it and renamed at the end; returns the number of frames.

    Args:
        frames: pictures in [0, 1] of one size, consumed one by one. An odd width or height, which yuv420p cannot
            hold, is made even by repeating the last column or row.
        path: ends in .mp4; its folder exists.
        fps: frames a second.
        factor: how much every frame is enlarged (Lanczos).
        quality: from 0 to 10, as imageio-ffmpeg reads it.
        sound: a file with sound that begins with the first frame; cut, or followed by silence, where it is not as long
            as the pictures.

    Raises:
        ValueError: if there are no frames or their sizes differ.
        UserError: if ffmpeg cannot write the file, for instance on a full disk; what was at `path` stays.
    """
    import imageio_ffmpeg

    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    writer, size, count = None, None, 0
    try:
        for frame in frames:
            picture = _even(enlarge(to_uint8(frame), factor))
            if writer is None:
                size = (picture.shape[1], picture.shape[0])
                writer = imageio_ffmpeg.write_frames(
                    str(partial),
                    size,
                    fps=fps,
                    codec="libx264",
                    pix_fmt_in="rgb24",
                    pix_fmt_out="yuv420p",
                    quality=quality,
                    macro_block_size=2,
                    ffmpeg_log_level="error",
                    output_params=["-movflags", "+faststart", "-fflags", "+bitexact"],
                )
                writer.send(None)
            if (picture.shape[1], picture.shape[0]) != size:
                raise ValueError(f"frame {count} has the size {picture.shape[1]}x{picture.shape[0]}, others {size}")
            writer.send(np.ascontiguousarray(picture))
            count += 1
        if writer is None:
            raise ValueError(f"there are no frames to write to {path}")
        writer.close()
        _check_complete(partial)
        if sound is not None:
            _add_sound(partial, sound, count / fps)
        partial.replace(path)
    except (OSError, StopIteration) as error:
        raise UserError(f"The film {path} could not be written ({error}): is the disk full?") from error
    finally:
        if writer is not None:
            writer.close()
        partial.unlink(missing_ok=True)
    return count


def _add_sound(film: Path, sound: Path, seconds: float) -> None:
    """Put the sound beside the finished pictures, whose length is known only now; a pipe of them would be cut by it."""
    import imageio_ffmpeg

    silent = film.with_name(f"{film.stem}.silent{film.suffix}")
    film.replace(silent)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y"]
    command += ["-i", f"file:{silent}", "-i", f"file:{sound}", "-map", "0:v:0", "-map", "1:a:0", "-c:v", "copy"]
    command += ["-c:a", "aac", "-af", "apad", "-t", f"{seconds:.6f}", "-movflags", "+faststart", "-fflags", "+bitexact"]
    try:
        done = subprocess.run([*command, f"file:{film}"], capture_output=True, text=True, check=False)
    finally:
        silent.unlink(missing_ok=True)
    if done.returncode:
        raise OSError(" ".join(done.stderr.split())[-200:])
    _check_complete(film)


def _check_complete(path: Path) -> None:
    """ffmpeg's exit code is not told to us, but without its closing index an mp4 does not play."""
    content = path.read_bytes()
    if b"moov" not in content or b"mdat" not in content:
        raise OSError(f"{path.name} is incomplete")


def _even(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H2 W2 3"]:
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def write_webp(
    frames: Iterable[Float[Tensor, "3 H W"]], path: Path, fps: float, *, factor: int = 1, quality: int = 75
) -> int:
    """A WebP that plays again and again, without sound, where a film cannot stand: in a README, in a chat.

    Args:
        frames, fps, factor: as `write_mp4`.
        path: ends in .webp; its folder exists.
        quality: from 0 to 100.

    Raises:
        ValueError: if there are no frames.
        UserError: if the file cannot be written; what was at `path` stays.
    """
    from PIL import Image

    pictures = [Image.fromarray(enlarge(to_uint8(frame), factor)) for frame in frames]
    if not pictures:
        raise ValueError(f"there are no frames to write to {path}")
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        pictures[0].save(
            partial,
            save_all=True,
            append_images=pictures[1:],
            duration=round(1000 / fps),
            loop=0,
            quality=quality,
            method=4,
        )
        partial.replace(path)
    except OSError as error:
        raise UserError(f"The film {path} could not be written ({error}): is the disk full?") from error
    finally:
        partial.unlink(missing_ok=True)
    return len(pictures)
