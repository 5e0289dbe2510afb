"""The five poses at which a finished head is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from headstudio.motion.arkit import pose_of, weights_of

if TYPE_CHECKING:
    from headstudio.motion import Controls
    from headstudio.types import Pose

_FACES: dict[str, dict[str, float]] = {
    "rest": {},
    "mouth_open": {"jawOpen": 0.7},
    "blink": {"eyeBlink": 1.0},
    "smile": {"mouthSmile": 1.0, "cheekSquint": 0.4},
    "turned": {},
}
_NECK_DEG: dict[str, tuple[float, float, float]] = {"turned": (30.0, 8.0, 0.0)}


def evaluation_poses(head: Controls) -> dict[str, Pose]:
    """One pose (P = 1) per name: rest, mouth_open, blink, smile, turned; those that the head cannot do are left out.

    FLAME opens its mouth and turns by its joints; a smile and a blink have no name in its space of expressions.
    """
    poses: dict[str, Pose] = {}
    for name, face in _FACES.items():
        neck = torch.tensor([_NECK_DEG.get(name, (0.0, 0.0, 0.0))])
        pose = pose_of(head, weights_of(face)[None], neck_deg=neck)
        if name == "rest" or bool(pose.expression.any()) or bool(pose.joints.any()):
            poses[name] = pose
    return poses
