"""What the sliders say, as a pose of a head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from headstudio.motion import Controls
from headstudio.motion.arkit import ARKIT_NAMES, INDEX, pose_of, rotation_vectors
from headstudio.motion.recording import Recording
from headstudio.motion.transfer import flame_columns
from headstudio.types import Pose

GROUPS: dict[str, tuple[str, ...]] = {
    "Jaw": ("jaw", "tongue"),
    "Lips": ("mouth",),
    "Brows": ("brow",),
    "Eyes": ("eye",),
    "Cheeks and nose": ("cheek", "nose"),
    "Coefficients": ("flame_",),
}
"""Headings of the sliders, and how the names below each begin."""


def slider_names(head: Controls) -> tuple[str, ...]:
    """What a head's sliders are called: its expressions; ARKit's names instead, where a table says what they do."""
    return tuple(head.expression_names) if head.arkit_mapping is None else ARKIT_NAMES


@dataclass(frozen=True)
class Face:
    """One state of the sliders; angles in degrees, signs as in `arkit.pose_of`."""

    expression: Mapping[str, float] = field(default_factory=dict)  # by the head's names
    gaze_deg: tuple[float, float] = (0.0, 0.0)
    neck_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    jaw_deg: float = 0.0  # how far the jaw's joint opens, beside the shapes

    def pose(self, head: Controls) -> Pose:
        """The head's pose; contradictions are softened (`arkit.constrain`), names that it lacks are skipped."""
        weights = torch.zeros(1, len(ARKIT_NAMES))
        for name, value in self.expression.items():
            if name in INDEX:
                weights[0, INDEX[name]] = value
        gaze = torch.tensor([self.gaze_deg]) if any(self.gaze_deg) else None
        pose = pose_of(head, weights, gaze, torch.tensor([self.neck_deg]))
        for column in flame_columns(head):
            pose.expression[0, column] += self.expression.get(head.expression_names[column], 0.0)
        if self.jaw_deg and "jaw" in head.joint_names:
            pose.joints[0, head.joint_names.index("jaw")] += rotation_vectors(torch.tensor([[0.0, -self.jaw_deg]]))[0]
        return pose


def recording_of(faces: list[Face], fps: float) -> Recording:
    """Faces one after the other, as a motion that can be saved and played on any head."""
    arkit, neck = torch.zeros(len(faces), len(ARKIT_NAMES)), torch.tensor([face.neck_deg for face in faces])
    for row, face in enumerate(faces):
        for name, value in face.expression.items():
            if name in INDEX:
                arkit[row, INDEX[name]] = value
    gaze = rotation_vectors(torch.tensor([face.gaze_deg for face in faces]))
    flame = sorted({name for face in faces for name in face.expression if name.startswith("flame_")})
    coefficients = [[face.expression.get(name, 0.0) for name in flame] for face in faces]
    return Recording(
        source="the viewer",
        fps=fps,
        arkit=arkit.numpy(),
        expression=torch.tensor(coefficients).numpy() if flame else None,
        neck=rotation_vectors(neck).numpy(),
        eye_left=gaze.numpy() if bool(gaze.any()) else None,
        eye_right=gaze.numpy() if bool(gaze.any()) else None,
    )
