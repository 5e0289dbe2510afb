"""Recorded motions on disk: which file is what, and our own format.

A file is known by its suffix and its keys, and nothing in it is ever executed: pickles go through
`headstudio.head.safe_pickle`, numpy loads plain arrays only. docs/motion.md describes every format.
"""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.motion import livelink, own, talkshow, vhap
from headstudio.motion.recording import NotFinite, Recording

Array = NDArray[Any]
log = logging.getLogger(__name__)
SUFFIXES = (".npz", ".npy", ".pkl")  # looked for in folders, where a .csv may be anything: those are named
NO_MOTION = ("canonical_flame_param.npz",)  # beside VHAP's frames: the pose that its mesh is built in
READABLE = (
    "a TalkSHOW clip (.pkl) or result (.npy), HeadStudio's chemistry_exp.npy, FLAME parameters of VHAP or "
    "GaussianAvatars (.npz), ARKit weights of Live Link Face (.csv), or our own .npz (docs/motion.md)"
)
TO_GET = (
    "TalkSHOW's SHOW_dataset_v1.0 (unpack the .tar.gz files in it, too) is at talkshow.is.tue.mpg.de (registration), "
    "HeadStudio's chemistry_exp.npy behind its README; put either there, or name another file or folder with "
    "motion.paths=[...] or HEADSTUDIO_MOTION"
)


def read_recordings(paths: Sequence[str | Path], *, fps: float | None) -> list[Recording]:
    """Every recording of the files, and of the files in the folders (also below; in the order of their names).

    Args:
        paths: files and folders. Files of one frame each in one folder, as GaussianAvatars exports them, are one
            recording. A file in a folder that holds values that are not finite is left out, with a warning: some clips
            of the SHOW dataset do, and TalkSHOW's own reader leaves them out.
        fps: of files that do not say theirs; in place of what is usual for the format.

    Raises:
        UserError: for what is missing, damaged, no motion, or says another frame rate.
    """
    if not paths:
        raise UserError(f"motion.paths is empty; name files or folders, motion.paths=[talk.npz]: {READABLE}.")
    found: list[Recording] = []
    for path in (Path(p).expanduser() for p in paths):
        files = motion_files(path)
        if not files:
            why = f"holds no {', '.join(SUFFIXES)} file" if path.is_dir() else "does not exist"
            raise UserError(f"motion.paths: {path} {why}; {TO_GET}.")
        refused: list[NotFinite] = []
        for _, group in groupby(files, key=lambda file: file.parent):
            found += _joined([r for file in group for r in _read_or_leave(file, fps, refused)])
        if len(refused) == len(files):
            raise refused[0]
        if refused:
            log.warning("Left out %d of %d files, such as %s", len(refused), len(files), refused[0])
    return found


def _read_or_leave(file: Path, fps: float | None, refused: list[NotFinite]) -> list[Recording]:
    try:
        return read_file(file, fps=fps)
    except NotFinite as problem:
        refused.append(problem)
        return []


def motion_files(path: Path) -> list[Path]:
    """The file, or every file in and below the folder that can be a motion; nothing where neither is there."""
    if path.is_dir():
        files = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.name not in NO_MOTION)
        return sorted(p for p in files if p.is_file())
    return [path] if path.is_file() else []


def read_file(path: Path, *, fps: float | None) -> list[Recording]:
    """The recordings of one file (one, but for HeadStudio's training array).

    Raises:
        UserError: as `read_recordings`.
    """
    if fps is not None and not fps > 0:
        raise UserError(f"motion.fps={fps} must be above 0, or null for what the files say.")
    readers: dict[str, Callable[[Path, float | None], list[Recording]]] = {
        ".npz": _read_npz,
        ".npy": _read_npy,
        ".pkl": _read_pickle,
        ".csv": lambda file, rate: [livelink.read(file, rate)],
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path} cannot be a motion: its suffix is {path.suffix or 'missing'}; take {READABLE}.")
    return reader(path, fps)


def write_npz(path: Path, recording: Recording) -> None:
    """Our own format, see `headstudio.motion.own`; `read_file` gives the same recording back."""
    own.write(path, recording)


def _read_npz(path: Path, fps: float | None) -> list[Recording]:
    try:
        with path.open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise UserError(f"{path} is a single array under the name of an .npz; rename it to .npy.")
            keys = list(file.files)
            arrays = {key: file[key] for key in keys if key in {*vhap.KEYS, *own.KEYS}}
    except (zipfile.BadZipFile, zlib.error, ValueError, TypeError, EOFError, OSError, KeyError) as problem:
        raise UserError(f"{path} cannot be read as an .npz ({_short(problem)}); it may be cut off.") from problem
    if vhap.is_one(arrays):
        return [vhap.from_arrays(arrays, str(path), fps)]
    return [own.from_arrays(arrays, keys, str(path), fps)]


def _read_npy(path: Path, fps: float | None) -> list[Recording]:
    try:
        with path.open("rb") as file:
            offset = _start_of_pickle(file)
        rows = None if offset else np.load(path, allow_pickle=False)
    except (ValueError, TypeError, EOFError, OSError) as problem:
        raise UserError(f"{path} cannot be read as an .npy ({_short(problem)}); it may be cut off.") from problem
    if rows is not None:
        return [talkshow.from_rows(rows, str(path), fps)]
    from headstudio.head.safe_pickle import load_pickle

    clips = np.atleast_1d(np.asarray(load_pickle(path, offset=offset), dtype=object))
    return talkshow.from_collection(clips.reshape(-1).tolist(), str(path), fps)


def _start_of_pickle(file: Any) -> int:
    """Where the pickle begins in an .npy of Python objects; 0 for plain numbers."""
    version = np.lib.format.read_magic(file)
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in headers:
        return 0
    _, _, dtype = headers[version](file)
    return int(file.tell()) if dtype.hasobject else 0


def _read_pickle(path: Path, fps: float | None) -> list[Recording]:
    from headstudio.head.safe_pickle import load_pickle

    content = load_pickle(path)
    if isinstance(content, Mapping):
        return [talkshow.from_clip(content, str(path), fps)]
    if isinstance(content, list) and content:  # what SHOW itself writes (`all.pkl`): a list of one clip
        return talkshow.from_collection(content, str(path), fps)
    raise UserError(f"{path} holds {type(content).__name__}, but a TalkSHOW clip is a dict of arrays.")


def _joined(recordings: list[Recording]) -> list[Recording]:
    """Single frames with the same fields, one after the other, as one recording."""
    single = [r for r in recordings if len(r) == 1]
    if len(single) < 2 or len(single) != len(recordings) or len({tuple(r.tracks) for r in single}) > 1:
        return recordings
    first = single[0]
    try:
        tracks = {name: np.concatenate([r.tracks[name] for r in single]) for name in first.tracks}
    except ValueError as problem:
        raise UserError(f"The frames beside {first.source} differ in width ({problem}).") from problem
    folder = str(Path(first.source).parent)
    return [Recording(source=folder, fps=first.fps, shape=first.shape, **tracks)]


def _short(problem: Exception) -> str:
    return " ".join(str(problem).split())[:160]
