"""TalkSHOW's files: SMPL-X parameters of people who talk, 30 frames a second.

Sources: TalkSHOW `data_utils/mesh_dataset.py` (keys of the `.pkl`), `scripts/demo.py` (columns of the `.npy`, fps=30);
HeadStudio `animation.py`, `animation_TalkSHOW.py` (readers), `threestudio/data/uncond_rand_exp.py` (its training
array); smplx `joint_names.py` (joints of the body). SMPL-X's expressions and jaw are FLAME's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from headstudio.errors import UserError
from headstudio.head.flame_file import NUM_EXPRESSION, NUM_SHAPE
from headstudio.motion.recording import NotFinite, Recording, checked, fitted

Array = NDArray[Any]
log = logging.getLogger(__name__)
FPS = 30.0
BODY_JOINTS = 21  # the body's pose leaves the pelvis out, so that joint k of smplx is row k - 1
NECK, HEAD = 11, 14
COLUMNS = {
    "jaw_pose": (0, 3),
    "leye_pose": (3, 6),
    "reye_pose": (6, 9),
    "global_orient": (9, 12),
    "body_pose": (12, 75),
    "left_hand_pose": (75, 120),
    "right_hand_pose": (120, 165),
    "expression": (165, 265),
}
WIDTH = 265
UPRIGHT = (3.0747, -0.0158, -0.0152)  # global_orient of somebody who stands before its camera, whose y points down
_HAND_COMPONENTS = 12


def from_clip(clip: Mapping[str, Any], source: str, fps: float | None) -> Recording:
    """A `.pkl` of the SHOW dataset: expression, jaw_pose, leye_pose, reye_pose, body_pose_axis of T frames.

    The neck is that of `from_body`. Hands, the rest of the body, global_orient, transl and betas are not read: the
    global orientation is the camera's (y down), and our cameras move instead of the head.

    Raises:
        UserError: when expression or jaw_pose is missing or wrong, or another field is wrong.
    """
    for key in ("expression", "jaw_pose"):
        if key not in clip:
            raise UserError(f"{source} lacks {key}: a TalkSHOW clip has expression, jaw_pose, leye_pose, reye_pose.")
    body = clip.get("body_pose_axis")
    return Recording(
        source=source,
        fps=fps or FPS,
        expression=clip["expression"],
        jaw=_rows(clip, "jaw_pose", source),
        eye_left=_rows(clip, "leye_pose", source),
        eye_right=_rows(clip, "reye_pose", source),
        neck=None if body is None else from_body(checked(body, "body_pose_axis", 3 * BODY_JOINTS, source)),
    )


def from_rows(rows: Array, source: str, fps: float | None) -> Recording:
    """What TalkSHOW generates from speech, a `.npy` of (T, 265) rows: `COLUMNS` says which column is what.

    Raises:
        UserError: when the rows are not that wide or not finite.
    """
    table = checked(rows, "the array", None, source)
    if table.shape[1] != WIDTH:
        raise UserError(f"{source}: the array is {table.shape[1]} wide, but TalkSHOW's rows have {WIDTH} numbers.")
    part = {name: table[:, first:end] for name, (first, end) in COLUMNS.items()}
    return Recording(
        source=source,
        fps=fps or FPS,
        expression=part["expression"],
        jaw=part["jaw_pose"],
        eye_left=part["leye_pose"],
        eye_right=part["reye_pose"],
        neck=from_body(part["body_pose"]),
    )


def from_collection(clips: Sequence[Any], source: str, fps: float | None) -> list[Recording]:
    """HeadStudio's training motion (`chemistry_exp.npy`) or what SHOW writes (`all.pkl`): one recording per clip.

    HeadStudio's clips have expression, jaw_pose, leye_pose, reye_pose and neck_pose. The last is left out: HeadStudio
    takes it from row 12 of the body, which is the left collar bone (the neck is row 11), and never uses it in training.
    Clips with values that are not finite are left out with a warning, unless all are.

    Raises:
        UserError: when the array holds something else, or as `from_clip`.
    """
    if not clips:
        raise UserError(f"{source} holds no clip.")
    recordings: list[Recording] = []
    refused: list[NotFinite] = []
    for index, clip in enumerate(clips):
        if not isinstance(clip, Mapping):
            raise UserError(f"{source} holds {type(clip).__name__} at {index}, but a clip is a dict of arrays.")
        try:
            recordings.append(from_clip(clip, f"{source}[{index}]", fps))
        except NotFinite as problem:
            refused.append(problem)
    if not recordings:
        raise refused[0]
    if refused:
        log.warning("Left out %d of %d clips, such as %s", len(refused), len(clips), refused[0])
    return recordings


def from_body(body: Array) -> Array:
    """(T, 3) turn of the head against the chest, from (T, 63) of the body: the neck's turn, then the head's.

    Our heads bend in one place what SMPL-X bends in two.
    """
    joints = body.reshape(-1, BODY_JOINTS, 3).astype(np.float64)
    turned: Array = (Rotation.from_rotvec(joints[:, NECK]) * Rotation.from_rotvec(joints[:, HEAD])).as_rotvec()
    return turned


def clip_of(recording: Recording) -> dict[str, Array]:
    """A clip of the SHOW dataset, float32, from FLAME's coefficients and joints; `from_clip` gives them back.

    The neck's joint takes the whole turn of the head. Body, hands and place are at rest, and `root` is not in it: the
    global orientation is that of somebody who stands before the camera.

    Args:
        recording: at `FPS` frames a second with an expression, of which the first 100 coefficients are kept.
    """
    frames = len(recording)
    body = np.zeros((frames, BODY_JOINTS, 3), np.float32)
    if recording.neck is not None:
        body[:, NECK] = recording.neck
    arrays = {
        "betas": fitted(recording.shape, NUM_SHAPE)[None],
        "expression": fitted(recording.expression, NUM_EXPRESSION, frames),
        "jaw_pose": fitted(recording.jaw, 3, frames),
        "leye_pose": fitted(recording.eye_left, 3, frames),
        "reye_pose": fitted(recording.eye_right, 3, frames),
        "global_orient": np.tile(np.array(UPRIGHT, np.float32), (frames, 1)),
        "transl": np.zeros((frames, 3), np.float32),
        "body_pose_axis": body.reshape(frames, -1),
    }
    return arrays | {
        f"{side}_hand_pose": np.zeros((frames, _HAND_COMPONENTS), np.float32) for side in ("left", "right")
    }


def rows_of(recording: Recording) -> Array:
    """(T, 265) float32 rows as TalkSHOW makes them from speech, with what `clip_of` has; hands at rest."""
    clip = clip_of(recording)
    rows = np.zeros((len(recording), WIDTH), np.float32)
    for name, (first, end) in COLUMNS.items():
        if not name.endswith("hand_pose"):
            rows[:, first:end] = clip["body_pose_axis" if name == "body_pose" else name]
    return rows


def _rows(clip: Mapping[str, Any], key: str, source: str) -> Array | None:
    """A field under its own name in messages, or None."""
    return checked(clip[key], key, 3, source) if key in clip else None
