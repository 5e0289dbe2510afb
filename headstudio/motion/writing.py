"""Recorded motions written to disk, as `headstudio.motion.files` reads them; docs/motion.md describes every format."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from headstudio.errors import UserError

if TYPE_CHECKING:
    from headstudio.motion.recording import Recording
    from headstudio.types import ArkitMapping

log = logging.getLogger("headstudio")


def format_of(path: Path, named: str | None) -> str:
    """The format in which a file is written: the named one, or the first in `WRITERS` whose files end like it.

    Raises:
        UserError: no format's file, or none of the named one, ends like that.
    """
    formats = [name for name in WRITERS if named in (None, name)]
    if found := [name for name in formats if path.suffix in WRITERS[name]]:
        return found[0]
    suffixes = " or ".join(dict.fromkeys(suffix for name in formats for suffix in WRITERS[name]))
    of = f" for --motion-format {named}" if named else ""
    raise UserError(f"--write-motion {path} must end in {suffixes}{of}.")


def write_motion(path: Path, recording: Recording, format_name: str, mapping: ArkitMapping | None) -> None:
    """Write a motion; the file is there when all of it is.

    Args:
        path: ends like a file of the format.
        recording: the motion.
        format_name: one of `WRITERS`.
        mapping: what ARKit's weights do to FLAME, where that is known; `vhap` and `talkshow` are of FLAME.

    Raises:
        UserError: `livelink` for a motion without ARKit's weights.
    """
    from headstudio.motion.transfer import in_flame

    if format_name in OF_FLAME:
        if recording.expression is None and mapping is None:
            log.warning("%s holds jaw, neck and eyes: what ARKit's other weights do to FLAME is not known.", path)
        recording = in_flame(recording, mapping)
    partial = path.with_name(f".partial.{path.name}")
    try:
        WRITERS[format_name][path.suffix](partial, recording)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _own(path: Path, recording: Recording) -> None:
    from headstudio.motion.own import write

    write(path, recording)


def _livelink(path: Path, recording: Recording) -> None:
    from headstudio.motion.livelink import write

    write(path, recording)


def _vhap(path: Path, recording: Recording) -> None:
    import numpy as np

    from headstudio.motion.vhap import arrays_of

    np.savez_compressed(path, **arrays_of(recording))  # type: ignore[arg-type]


def _clip(path: Path, recording: Recording) -> None:
    from headstudio.motion.talkshow import FPS, clip_of

    path.write_bytes(pickle.dumps(clip_of(recording.resampled(FPS))))


def _rows(path: Path, recording: Recording) -> None:
    import numpy as np

    from headstudio.motion.talkshow import FPS, rows_of

    np.save(path, rows_of(recording.resampled(FPS)))


WRITERS: dict[str, dict[str, Callable[[Path, Recording], None]]] = {
    "own": {".npz": _own},
    "livelink": {".csv": _livelink},
    "vhap": {".npz": _vhap},
    "talkshow": {".pkl": _clip, ".npy": _rows},
}
"""By format and suffix."""
OF_FLAME = ("vhap", "talkshow")
