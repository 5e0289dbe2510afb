"""FLAME parameters as VHAP tracks them in videos and GaussianAvatars plays them (`--motion_path`).

Sources: VHAP `export_as_nerf_dataset.py` (keys), `preprocess_video.py` (25 frames a second unless told otherwise);
GaussianAvatars `scene/flame_gaussian_model.py` (`load_ply`), `local_viewer.py` (fps 25). Their files do not say their
frame rate: frames of NeRSemble were taken at 73 a second and thinned out by whoever tracked them, so give `fps` there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.head.flame_file import NUM_EXPRESSION, NUM_SHAPE, NUM_VERTICES
from headstudio.motion.recording import Recording, checked, fitted

Array = NDArray[Any]
FPS = 25.0
NUM_TEETH_VERTICES = 120  # that both add behind FLAME's own
KEYS = ("shape", "expr", "rotation", "neck_pose", "jaw_pose", "eyes_pose", "fps")


def is_one(arrays: Mapping[str, Array]) -> bool:
    """Whether an .npz with these arrays is such a file."""
    return bool({"expr", "jaw_pose"} & set(arrays))


def from_arrays(arrays: Mapping[str, Array], source: str, fps: float | None) -> Recording:
    """expr (T, E), jaw_pose, neck_pose, rotation (T, 3), eyes_pose (T, 6: left, right), shape (S,).

    translation, static_offset and dynamic_offset are not read; rotation becomes `root`.

    Raises:
        UserError: when expr or jaw_pose is missing, or a field is wrong.
    """
    for key in ("expr", "jaw_pose"):
        if key not in arrays:
            raise UserError(f"{source} lacks {key}: a FLAME file of VHAP has expr, jaw_pose, neck_pose, eyes_pose.")
    eyes = checked(arrays["eyes_pose"], "eyes_pose", 6, source) if "eyes_pose" in arrays else None
    joints = {
        name: checked(arrays[key], key, 3, source)
        for name, key in (("root", "rotation"), ("neck", "neck_pose"), ("jaw", "jaw_pose"))
        if key in arrays
    }
    return Recording(
        source=source,
        fps=stated_fps(arrays, source, fps) or FPS,
        expression=checked(arrays["expr"], "expr", None, source),
        eye_left=None if eyes is None else eyes[:, :3],
        eye_right=None if eyes is None else eyes[:, 3:],
        shape=arrays.get("shape"),
        **joints,
    )


def arrays_of(recording: Recording) -> dict[str, Array]:
    """The keys that VHAP writes and GaussianAvatars' `--motion_path` reads, float32; `from_arrays` gives them back.

    Place and offsets are zero. `fps` is ours: the other programs pass it over.

    Args:
        recording: FLAME's coefficients and joints; the first 100 coefficients are kept.
    """
    frames = len(recording)
    eyes = [fitted(turns, 3, frames) for turns in (recording.eye_left, recording.eye_right)]
    return {
        "shape": fitted(recording.shape, NUM_SHAPE),
        "expr": fitted(recording.expression, NUM_EXPRESSION, frames),
        "rotation": fitted(recording.root, 3, frames),
        "neck_pose": fitted(recording.neck, 3, frames),
        "jaw_pose": fitted(recording.jaw, 3, frames),
        "eyes_pose": np.concatenate(eyes, axis=-1),
        "translation": np.zeros((frames, 3), np.float32),
        "static_offset": np.zeros((1, NUM_VERTICES + NUM_TEETH_VERTICES, 3), np.float32),
        "fps": np.array(recording.fps),
    }


def stated_fps(arrays: Mapping[str, Array], source: str, fps: float | None) -> float | None:
    """The frame rate of the file, else the setting's.

    Raises:
        UserError: when both are there and differ, or the file's is not one number.
    """
    if "fps" not in arrays:
        return fps
    if arrays["fps"].size != 1 or arrays["fps"].dtype.kind not in "fiu":
        raise UserError(f"{source}: fps must be one number, but it is {arrays['fps']!r}.")
    stated = float(arrays["fps"].item())
    if fps is not None and abs(stated - fps) > 1e-6:
        raise UserError(f"motion.fps={fps:g} contradicts {source}, which says {stated:g}; leave motion.fps=null.")
    return stated
