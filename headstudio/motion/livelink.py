"""Tables of ARKit weights (`.csv`), as the app Live Link Face records them and most trackers write them.

    Timecode,BlendShapeCount,EyeBlinkLeft, ... TongueOut,HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw, ... RightEyeRoll
    14:03:52:28.207,61,0.0123, ...

A timecode is hours:minutes:seconds:frames, and the frames, which may have a fraction, count up to the frame rate. A
table of another program may have a column of seconds (`time`) or of milliseconds (`timestamp_ms`) instead, or neither
and one row per frame. Frames that the app has dropped are filled in.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.motion.arkit import ARKIT_NAMES, INDEX, rotation_vectors
from headstudio.motion.recording import NotFinite, Recording, rotations_at

Array = NDArray[Any]
log = logging.getLogger(__name__)
FPS = 60.0  # of the app, unless its timecodes count otherwise
RATES = (24.0, 25.0, 30.0, 50.0, FPS)  # that timecodes count up to
LONGEST_GAP_S = 60.0  # between two frames of one take
HEAD = ("HeadYaw", "HeadPitch", "HeadRoll")
EYES = tuple(f"{side}Eye{turn}" for side in ("Left", "Right") for turn in ("Yaw", "Pitch", "Roll"))
TIMES = {"timecode": None, "time": 1.0, "seconds": 1.0, "timestamp_ms": 1e-3}  # and the unit in seconds
TOLD_TIMES = ", ".join(TIMES)
_COLUMNS = {name.lower(): name for name in (*ARKIT_NAMES, *HEAD)}
# fmt: off
APPLE_ORDER = (
    *(f"{name}{side}" for side in ("Left", "Right")
      for name in ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")),
    "jawForward", "jawRight", "jawLeft", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthRight",
    "mouthLeft", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthDimpleLeft",
    "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper",
    "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp",
    "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft",
    "noseSneerRight", "tongueOut",
)
# fmt: on


def read(path: Path, fps: float | None) -> Recording:
    """The recording in a table.

    Weights go by their names, whatever their case; a name that the table lacks is 0 throughout, and a warning says so.
    HeadYaw, HeadPitch and HeadRoll turn the neck (radians; a table that goes beyond a half turn is in degrees), where
    yaw turns the face to the subject's left, pitch lifts the chin and roll leans the crown to the subject's left. The
    eyes follow the eyeLook weights; the columns of their turns are not read, as the apps differ in their signs.

    Args:
        path: the file.
        fps: of a table without times; else None, or what the table says.

    Raises:
        UserError: it is no such table, or a row is damaged, empty or out of order; the line is named.
    """
    header, rows = _table(path)
    names = [_COLUMNS.get(name.lower(), "") for name in header]
    if len(header) == 1 and ";" in header[0]:
        raise UserError(f"{path} is separated by semicolons; write it with commas.")
    if not set(names) & set(ARKIT_NAMES):
        raise UserError(f"{path} has none of ARKit's 52 names (jawOpen, ...) in its first line: {_some(header)}.")
    if len(set(filter(None, names))) < len(list(filter(None, names))):
        twice = next(name for name in names if name and names.count(name) > 1)
        raise UserError(f"{path} has two columns {twice}.")
    if lacking := [name for name in ARKIT_NAMES if name not in names]:
        log.warning("%s lacks %d of ARKit's 52 columns, which stay 0: %s", path, len(lacking), _some(lacking))
    known = {name: column for column, name in enumerate(names) if name}
    cells = [(line, [row[column] for column in known.values()]) for line, row in rows]
    values = np.array([_numbers(path, line, row, list(known)) for line, row in cells])
    by_name = dict(zip(known, values.T, strict=True))
    nothing = np.zeros(len(rows))
    weights = np.stack([by_name.get(name, nothing) for name in ARKIT_NAMES], axis=1)
    head = np.stack([by_name.get(name, nothing) for name in HEAD], axis=1) if set(HEAD) & set(known) else None
    rate, frames = _frames(path, header, rows, fps)
    return _filled(str(path), rate, frames, weights, head)


def write(path: Path, recording: Recording) -> None:
    """Write a recording's ARKit weights and neck as Live Link Face does; the eyes' own turns are written as 0.

    A timecode says its frame rate only by counting up to it: a motion of another rate than `RATES` is brought to the
    first of them that it divides (or nearly is), else to 60, and the first frame is the last one of a second.

    Raises:
        UserError: the recording has no ARKit weights.
    """
    if recording.arkit is None:
        raise UserError(f"{recording.source} has no ARKit weights, which a .csv is made of; write an .npz instead.")
    shares = {rate: rate / recording.fps for rate in RATES}
    per_second = next((rate for rate, share in shares.items() if abs(share - max(1, round(share))) < 0.01), FPS)
    if per_second != recording.fps:
        recording = recording.resampled(per_second)
    assert recording.arkit is not None
    neck = np.zeros((len(recording), 3)) if recording.neck is None else angles_of(recording.neck)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        pascal = [name[0].upper() + name[1:] for name in APPLE_ORDER]
        table.writerow(["Timecode", "BlendShapeCount", *pascal, *HEAD, *EYES])
        for frame, (weights, angles) in enumerate(zip(recording.arkit, neck, strict=True)):
            seconds, rest = divmod(frame + round(per_second) - 1, round(per_second))
            clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{rest:02d}.000"
            shown = [f"{weights[INDEX[name]]:.6f}" for name in APPLE_ORDER] + [f"{angle:.6f}" for angle in angles]
            table.writerow([clock, len(APPLE_ORDER) + 9, *shown, *["0.000000"] * len(EYES)])


def angles_of(vectors: Array) -> Array:
    """(T, 3) yaw, pitch and roll in radians of axis-angle turns, the inverse of `arkit.rotation_vectors`."""
    from scipy.spatial.transform import Rotation

    yaw, down, right = Rotation.from_rotvec(vectors).as_euler("YXZ").T
    return np.stack((yaw, -down, -right), axis=1)


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and every row with its line's number."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [(line, row) for line, row in enumerate(csv.reader(file), 1) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error, OSError) as problem:
        raise UserError(f"{path} cannot be read as a table ({problem}).") from problem
    if len(lines) < 2:
        raise UserError(f"{path} has no frames: a line of names and one line per frame are wanted.")
    header = [name.strip() for name in lines[0][1]]
    for line, row in lines[1:]:
        if len(row) != len(header):
            raise UserError(f"{path}, line {line}: {len(row)} values for {len(header)} columns; it may be cut off.")
    return header, lines[1:]


def _numbers(path: Path, line: int, cells: Sequence[str], names: Sequence[str]) -> list[float]:
    numbers = []
    for cell, name in zip(cells, names, strict=True):
        try:
            numbers.append(float(cell))
        except ValueError:
            raise UserError(f"{path}, line {line}: {name} is {cell!r}, which is no number.") from None
        if not math.isfinite(numbers[-1]):
            raise NotFinite(f"{path}, line {line}: {name} is {cell.strip()}.")
    return numbers


def _frames(
    path: Path, header: Sequence[str], rows: Sequence[tuple[int, list[str]]], fps: float | None
) -> tuple[float, Array]:
    """The frame rate, and where each row lies in frames since the first."""
    lower = [name.lower() for name in header]
    kind = next((name for name in TIMES if name in lower), None)
    if kind is None:
        if fps is None and (unread := next((name for name in header if "time" in name.lower()), None)):
            log.warning("%s: the column %s is not read (%s are), frames are %g a second", path, unread, TOLD_TIMES, FPS)
        return fps or FPS, np.arange(len(rows), dtype=float)
    cells = [(line, row[lower.index(kind)]) for line, row in rows]
    if (unit := TIMES[kind]) is None:
        clocks = np.array([_timecode(path, line, cell) for line, cell in cells])
        rate = _rate(path, clocks, fps)
        seconds = clocks[:, 0] + clocks[:, 1] / rate
        seconds = seconds + 86400.0 * np.cumsum(np.diff(seconds, prepend=seconds[0]) < -43200.0)  # past midnight
    else:
        seconds = unit * np.array([_numbers(path, line, [cell], [kind])[0] for line, cell in cells])
        step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
        rate = fps or (round(1.0 / step, 3) if step > 0 else FPS)
    if (back := np.flatnonzero(np.diff(seconds) < 0)).size:
        raise UserError(f"{path}, line {cells[back[0] + 1][0]}: {kind} goes back in time.")
    if (apart := np.flatnonzero(np.diff(seconds) > LONGEST_GAP_S)).size:
        gap = np.diff(seconds)[apart[0]]
        raise UserError(
            f"{path}, line {cells[apart[0] + 1][0]}: {kind} jumps by {gap:.0f} s; if these are two takes, cut the file "
            "there."
        )
    return float(rate), (seconds - seconds[0]) * rate


def _timecode(path: Path, line: int, cell: str) -> tuple[float, float]:
    """Seconds, and frames within the second, of hours:minutes:seconds:frames."""
    try:
        hours, minutes, seconds, frames = (float(part) for part in cell.replace(";", ":").split(":"))
        if not math.isfinite(hours + minutes + seconds + frames):
            raise ValueError
    except ValueError:
        raise UserError(f"{path}, line {line}: Timecode is {cell!r}, not hours:minutes:seconds:frames.") from None
    return 3600.0 * hours + 60.0 * minutes + seconds, frames


def _rate(path: Path, clocks: Array, fps: float | None) -> float:
    """The usual rate that frames within a second count up to; the app's own where the take is too short to tell.

    Args:
        path: for messages.
        clocks: (T, 2) seconds, and frames within the second.
        fps: what the user says.

    Raises:
        UserError: the user says another rate than the frames count up to.
    """
    highest = float(np.floor(clocks[:, 1]).max()) + 1.0
    whole = len(np.unique(clocks[:, 0])) > 1  # it has seen the end of a second
    counted = next((rate for rate in RATES if whole and 0.8 * rate < highest <= rate), None)
    if fps is not None:
        if highest > math.ceil(fps) or (counted is not None and highest < 0.8 * fps):
            raise UserError(
                f"motion.fps={fps:g} contradicts {path}, whose timecodes count {highest:g} frames in a second; leave "
                "motion.fps=null."
            )
        return fps
    if counted is None and highest < FPS:
        log.warning("%s is too short to tell its frame rate; taken for %g a second", path, FPS)
    return counted or max(highest, FPS)


def _filled(source: str, rate: float, frames: Array, weights: Array, head: Array | None) -> Recording:
    """One row per frame: repeated ones are left out, dropped ones lie between their neighbours."""
    kept = np.flatnonzero(np.diff(frames, prepend=-1.0) > 1e-6)
    frames = frames[kept]
    wanted = np.arange(math.floor(frames[-1] + 0.5) + 1, dtype=float)
    if (dropped := len(wanted) - len(frames)) > 0:
        log.warning("%s: %d of %d frames are missing and filled in.", source, dropped, len(wanted))
    arkit = np.stack([np.interp(wanted, frames, column) for column in weights[kept].T], axis=1)
    neck = None
    if head is not None:
        in_degrees = float(np.abs(head).max()) > math.pi
        degrees = head[kept] if in_degrees else np.degrees(head[kept])
        vectors = rotation_vectors(torch.from_numpy(degrees).float()).numpy()
        even = np.interp(wanted, frames, np.arange(len(frames)))  # where each frame lies between the rows
        neck = rotations_at(vectors, 1.0, even)
    return Recording(source=source, fps=rate, arkit=arkit, neck=neck)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
