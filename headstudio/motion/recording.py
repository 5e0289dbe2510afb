"""A recorded motion as one frozen value, and what it is between its frames.

Axes and units are those of `headstudio.types`: rotations are axis-angle in radians about x (the subject's left),
y (up) and z (out of the face), each relative to the parent joint, zero at rest. FLAME and SMPL-X use the same axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from headstudio.errors import UserError
from headstudio.motion.arkit import ARKIT_NAMES

Array = NDArray[Any]
ROTATIONS = ("root", "neck", "jaw", "eye_left", "eye_right")
LARGEST_ANGLE = 2.0 * math.pi  # an axis-angle vector that is longer was written in degrees
LARGEST_WEIGHT = 2.0  # ARKit weights end at 1, give or take a tracker's overshoot; above, they were per cent


class NotFinite(UserError):
    """A field holds a value that is no finite number, as some of TalkSHOW's clips do."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Recording:
    """T frames of a head, float32; what was not recorded is None.

    Args:
        source: the file (and what is within it), for messages.
        fps: frames per second, from 0.1 to 10,000.
        expression: (T, E) coefficients of FLAME's expression space, in its own units (standard deviations).
        arkit: (T, 52) weights in the order of `ARKIT_NAMES`, 0 to 1.
        root: (T, 3) turn of the whole head with its neck.
        neck, jaw, eye_left, eye_right: (T, 3) turns of the joints; a positive x turns the face, the chin and the
            gaze down.
        shape: (S,) FLAME shape of the recorded person; kept for whoever wants it, no motion uses it.

    Raises:
        UserError: for wrong shapes, lengths that differ, no frames, values that are not finite, angles in degrees.
    """

    source: str
    fps: float
    expression: Array | None = None
    arkit: Array | None = None
    root: Array | None = None
    neck: Array | None = None
    jaw: Array | None = None
    eye_left: Array | None = None
    eye_right: Array | None = None
    shape: Array | None = None

    def __post_init__(self) -> None:
        if not 0.1 <= self.fps <= 10_000:
            raise UserError(f"{self.source}: fps={self.fps} must be a number from 0.1 to 10000.")
        for name, width in {"expression": None, "arkit": len(ARKIT_NAMES), **dict.fromkeys(ROTATIONS, 3)}.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, checked(value, name, width, self.source))
        lengths = {name: len(value) for name, value in self.tracks.items()}
        if not lengths:
            raise UserError(f"{self.source} moves nothing: it holds neither expression, arkit nor a joint's rotation.")
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise UserError(f"{self.source}: the fields differ in their number of frames ({told}).")
        self._check_units()
        if self.shape is not None:
            shape = np.asarray(self.shape, np.float32).reshape(-1)
            if not np.isfinite(shape).all():
                raise UserError(f"{self.source}: shape holds a value that is not finite.")
            object.__setattr__(self, "shape", shape)

    def _check_units(self) -> None:
        for name in ROTATIONS:
            if name not in self.tracks:
                continue
            angle = np.linalg.norm(self.tracks[name], axis=1)
            frame = int(angle.argmax())
            if angle[frame] > LARGEST_ANGLE:
                raise UserError(
                    f"{self.source}: {name} turns by {angle[frame]:.4g} at frame {frame}; rotations are axis-angle "
                    f"in radians, at most {LARGEST_ANGLE:.4g}."
                )
        if self.arkit is not None and np.abs(self.arkit).max() > LARGEST_WEIGHT:
            frame, column = divmod(int(np.abs(self.arkit).argmax()), len(ARKIT_NAMES))
            raise UserError(
                f"{self.source}: arkit holds {self.arkit[frame, column]:.4g} for {ARKIT_NAMES[column]} at frame "
                f"{frame}; weights go from 0 to 1."
            )

    @property
    def tracks(self) -> Mapping[str, Array]:
        """What was recorded frame by frame, by field."""
        fields = {name: getattr(self, name) for name in ("expression", "arkit", *ROTATIONS)}
        return {name: value for name, value in fields.items() if value is not None}

    def __len__(self) -> int:
        return len(next(iter(self.tracks.values())))

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return (len(self) - 1) / self.fps

    def at(self, times: Array, fps: float) -> Recording:
        """The recording at other instants: weights are interpolated linearly, rotations along the shortest arc.

        Args:
            times: (K,) seconds since the first frame; before it and after the last one, those stand still.
            fps: of the new recording.
        """
        instants = np.clip(np.asarray(times, np.float64), 0.0, self.seconds)
        moved: dict[str, Any] = {}
        for name, value in self.tracks.items():
            between = rotations_at if name in ROTATIONS else weights_at
            moved[name] = between(value, self.fps, instants)
        return replace(self, fps=fps, **moved)

    def resampled(self, fps: float) -> Recording:
        """The same motion at another frame rate, from its first instant to the last that a new frame reaches."""
        count = math.floor(self.seconds * fps + 1e-6) + 1
        return self.at(np.arange(count) / fps, fps)


def checked(value: object, name: str, width: int | None, source: str) -> Array:
    """`value` as (T, width) float32; any width above 0 where `width` is None.

    Raises:
        UserError: when it is not an array of numbers, has another shape, no frames or a value that is not finite.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise UserError(f"{source}: {name} must be an array of numbers, but its type is {array.dtype}.")
    per_frame = math.prod(array.shape[1:])
    if array.ndim < 2 or per_frame == 0 or (per_frame != width if width is not None else array.ndim != 2):
        raise UserError(f"{source}: {name} has shape {array.shape} but must be (frames, {width or 'coefficients'}).")
    if len(array) == 0:
        raise UserError(f"{source}: {name} has no frames.")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is told below
        rows: Array = array.reshape(len(array), -1).astype(np.float32)
    if not (finite := np.isfinite(rows)).all():
        frame, column = (int(i) for i in np.argwhere(~finite)[0])
        raise NotFinite(f"{source}: {name} is {array.reshape(len(array), -1)[frame, column]} at frame {frame}.")
    return rows


def fitted(values: Array | None, width: int, *frames: int) -> Array:
    """(*frames, width) float32: cut, or filled up with zeros; all zeros for None."""
    found = np.zeros((*frames, width), np.float32)
    if values is not None:
        kept = min(width, values.shape[-1])
        found[..., :kept] = values[..., :kept]
    return found


def weights_at(values: Array, fps: float, times: Array) -> Array:
    """(K, C) values at `times` (seconds, within the recording), linear between frames."""
    position = times * fps
    before = np.clip(np.floor(position).astype(int), 0, max(len(values) - 2, 0))
    after = np.minimum(before + 1, len(values) - 1)
    share = (position - before)[:, None]
    between: Array = ((1.0 - share) * values[before] + share * values[after]).astype(np.float32)
    return between


def rotations_at(vectors: Array, fps: float, times: Array) -> Array:
    """(K, 3) rotations at `times`: constant angular velocity between frames, never through an unrotated head."""
    if len(vectors) == 1:
        return np.repeat(vectors, len(times), axis=0)
    frames = np.arange(len(vectors)) / fps
    turned = Slerp(frames, Rotation.from_rotvec(vectors.astype(np.float64)))(np.clip(times, 0.0, frames[-1]))
    vector: Array = turned.as_rotvec().astype(np.float32)
    return vector
