"""What a recording is on a head: which of its fields drive which of the head's expressions and joints."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstudio.head.flame_file import NUM_EXPRESSION
from headstudio.motion import FACE_JOINTS
from headstudio.motion.arkit import ARKIT_NAMES, INDEX, LOOK_DEG, pose_of
from headstudio.types import Pose

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.motion import Controls
    from headstudio.motion.recording import Recording
    from headstudio.types import ArkitMapping

JOINTS = ("root", *FACE_JOINTS)


def flame_columns(head: Controls) -> dict[int, int]:
    """Columns of the head's expression that are FLAME's coefficients (`flame_007`), and the index of each."""
    found = ((column, re.fullmatch(r"flame_(\d+)", name)) for column, name in enumerate(head.expression_names))
    return {column: int(match[1]) for column, match in found if match}


def pose_of_recording(head: Controls, recording: Recording, joints: Collection[str]) -> Pose:
    """The recording's T frames as poses of the head.

    * FLAME's coefficients go to a head that has them; those that it does not have are cut, those that the recording
      does not have are 0.
    * ARKit weights go to the head's expressions by name, after `arkit.constrain`, or by the head's table of what they
      do. On a head with neither they open the jaw joint, unless the recording turns it itself.
      Where FLAME's coefficients are recorded as well, a head that has them takes those.
    * Joints are taken over. Two exceptions: weights that open the mouth by a shape or a table leave the jaw joint
      alone (it would open twice), and on a head with ARKit's shapes where the eyes look goes through `arkit.pose_of`,
      so that the lids follow (one direction for both eyes).

    Args:
        head: whose names decide.
        recording: what was recorded.
        joints: which of `JOINTS` may turn.
    """
    weights = torch.zeros(len(recording), len(ARKIT_NAMES))
    if recording.arkit is not None:
        weights = torch.from_numpy(recording.arkit)
    pose = pose_of(head, weights, _gaze_deg(recording) if "eyes" in joints else None)
    if recording.expression is not None:
        for column, index in flame_columns(head).items():
            known = index < recording.expression.shape[1]
            pose.expression[:, column] = torch.from_numpy(recording.expression[:, index]) if known else 0.0
    recorded = {"root": recording.root, "neck": recording.neck}
    by_table = head.arkit_mapping is not None and recording.expression is None
    if recording.arkit is None or not ("jawOpen" in head.expression_names or by_table):
        recorded["jaw"] = recording.jaw
    if "eyeLookOutLeft" not in head.expression_names:
        recorded |= {"eye_left": recording.eye_left, "eye_right": recording.eye_right}
    for row, name in enumerate(head.joint_names):
        if not _may_turn(name, joints):
            pose.joints[:, row] = 0.0
        elif (turns := recorded.get(name)) is not None:
            pose.joints[:, row] = torch.from_numpy(turns)
    return pose


@dataclass(frozen=True)
class FlameNames:
    """FLAME's controls without its model: what files of its coefficients are made from."""

    arkit_mapping: ArkitMapping | None
    joint_names: tuple[str, ...] = ("root", "neck", "jaw", "eye_left", "eye_right")

    @property
    def expression_names(self) -> tuple[str, ...]:
        """As many as the table has."""
        count = NUM_EXPRESSION if self.arkit_mapping is None else self.arkit_mapping.expression.shape[1]
        return tuple(f"flame_{index:03d}" for index in range(count))


def in_flame(recording: Recording, mapping: ArkitMapping | None) -> Recording:
    """The recording as FLAME's coefficients and joints, by the rules of `pose_of_recording`; one in them as it is.

    Args:
        recording: what was recorded.
        mapping: what ARKit's weights do to FLAME; None: they open the jaw and turn the eyes, the expression is zero.
    """
    if recording.arkit is None:
        return recording
    head = FlameNames(mapping)
    pose = pose_of_recording(head, recording, JOINTS)
    own = recording.expression  # all of them, where the table has fewer
    moved: dict[str, Any] = {name: pose.joints[:, row].numpy() for row, name in enumerate(head.joint_names)}
    moved["expression"] = pose.expression.numpy() if own is None else own
    return replace(recording, arkit=None, **moved)


def losses(head: Controls, recording: Recording) -> list[str]:
    """One sentence for each thing in the recording that the head cannot show."""
    told = []
    columns = flame_columns(head)
    if recording.expression is not None:
        kept, recorded = len(columns), recording.expression.shape[1]
        if not columns:
            told.append("FLAME's expressions do not transfer to this head: only jaw, neck and eyes move.")
        elif kept < recorded:
            told.append(f"Of {recorded} expression coefficients the head has the first {kept}; the rest is cut.")
    elif recording.arkit is not None and head.arkit_mapping is None and not set(head.expression_names) & set(INDEX):
        told.append(
            "ARKit's expressions do not transfer to this head: only jaw, neck and eyes move. A table of what they do "
            "to FLAME (head.arkit_path, docs/motion.md) moves the rest."
        )
    return told


def _may_turn(joint: str, joints: Collection[str]) -> bool:
    return ("eyes" if joint.startswith("eye_") else joint) in joints


def _gaze_deg(recording: Recording) -> Float[Tensor, "T 2"] | None:
    """(yaw, pitch) of both eyes together, signs as in `arkit.pose_of`; from the joints, else from the weights."""
    eyes = [turns for turns in (recording.eye_left, recording.eye_right) if turns is not None]
    if eyes:
        from scipy.spatial.transform import Rotation

        forward = np.mean([Rotation.from_rotvec(turns).apply([0.0, 0.0, 1.0]) for turns in eyes], axis=0)
        x, y, z = forward.T
        gaze = np.degrees(np.stack([np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))], axis=-1))
        return torch.from_numpy(gaze.astype(np.float32))
    if recording.arkit is None:
        return None
    look = {name: torch.from_numpy(recording.arkit[:, INDEX[f"eyeLook{name}"]]) for name in _LOOKS}
    yaw = look["OutLeft"] + look["InRight"] - look["InLeft"] - look["OutRight"]
    up, down = look["UpLeft"] + look["UpRight"], look["DownLeft"] + look["DownRight"]
    return torch.stack((LOOK_DEG["side"] * yaw, LOOK_DEG["up"] * up - LOOK_DEG["down"] * down), dim=-1) / 2.0


_LOOKS = ("OutLeft", "OutRight", "InLeft", "InRight", "UpLeft", "UpRight", "DownLeft", "DownRight")
