"""A camera's path, as the viewer saves it: places with a time, and smoothly from one to the next.

    {"keyframes": [{"seconds": 0, "position": [0, 0.1, 2.4], "look_at": [0, 0, 0], "fovy_deg": 45}, ...]}

World units and degrees. Before the first place and after the last one the camera stands still.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.camera import cameras_from_orbit
from headstudio.errors import UserError
from headstudio.types import Cameras

Array = NDArray[Any]
KEYS = {"seconds": 1, "position": 3, "look_at": 3, "fovy_deg": 1}
NEAREST = 1e-3  # world units between a camera and what it looks at
FARTHEST = 1e4  # of any number in the file: world units, degrees, seconds


@dataclass(frozen=True)
class CameraPath:
    """K places, later and later.

    Args:
        seconds: (K,) when the camera is at each.
        position, look_at: (K, 3) world units.
        fovy_deg: (K,) vertical field of view.
    """

    seconds: Array
    position: Array
    look_at: Array
    fovy_deg: Array

    def cameras(self, times: Array, size: int) -> Cameras:
        """Square pictures of `size` pixels at instants (seconds); y is up in all of them.

        Between places everything runs along a curve without overshoot (monotone cubic).
        """
        import torch

        position, look_at = self._at(times, self.position), self._at(times, self.look_at)
        fovy_deg = torch.from_numpy(self._at(times, self.fovy_deg)).float()
        x, y, z = (position - look_at).T
        distance = np.maximum(np.linalg.norm(position - look_at, axis=1), NEAREST)
        orbit = np.stack((np.degrees(np.arctan2(x, z)), np.degrees(np.arcsin(np.clip(y / distance, -1, 1))), distance))
        azimuth_deg, elevation_deg, far = torch.from_numpy(orbit).float()
        target = torch.from_numpy(look_at).float()
        return cameras_from_orbit(azimuth_deg, elevation_deg, far, fovy_deg, size, size, target)

    def _at(self, times: Array, values: Array) -> Array:
        from scipy.interpolate import PchipInterpolator

        if len(self.seconds) == 1:
            return np.repeat(values, len(times), axis=0)
        between: Array = PchipInterpolator(self.seconds, values)(np.clip(times, self.seconds[0], self.seconds[-1]))
        return between


def read_camera_path(path: Path) -> CameraPath:
    """The path in a file.

    Raises:
        UserError: it is no such file; the place that is wrong is named.
    """
    if not path.is_file():
        raise UserError(f"There is no camera's path {path}.")
    try:
        keyframes = json.loads(path.read_text(encoding="utf-8"))["keyframes"]
        assert isinstance(keyframes, list)
        assert keyframes
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as problem:
        raise UserError(f"{path} is no camera's path: JSON with a list of keyframes is wanted.") from problem
    rows = [_row(path, number, keyframe) for number, keyframe in enumerate(keyframes)]
    found = CameraPath(**{key: np.array([row[key] for row in rows]) for key in KEYS})
    if (np.diff(found.seconds) <= 0).any():
        late = int(np.flatnonzero(np.diff(found.seconds) <= 0)[0]) + 1
        raise UserError(f"{path}: keyframe {late} is at {found.seconds[late]:g} s, not later than the one before.")
    return found


def _row(path: Path, number: int, keyframe: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, width in KEYS.items():
        value: Any = keyframe.get(key) if isinstance(keyframe, dict) else None
        numbers: list[Any] = value if isinstance(value, list) else [value]
        if len(numbers) != width or not all(isinstance(n, int | float) and abs(n) <= FARTHEST for n in numbers):
            wanted = "a number" if width == 1 else f"{width} numbers"
            told = f"{value!r}"[:60]
            raise UserError(
                f"{path}: keyframe {number} has {key}={told}, where {wanted} of at most {FARTHEST:g} must be."
            )
        row[key] = [float(n) for n in numbers] if width > 1 else float(numbers[0])
    if not 0 < row["fovy_deg"] < 180:
        raise UserError(f"{path}: keyframe {number} has fovy_deg={row['fovy_deg']:g}, which is not between 0 and 180.")
    if math.dist(row["position"], row["look_at"]) < NEAREST:
        raise UserError(f"{path}: keyframe {number} looks at its own position.")
    return row
