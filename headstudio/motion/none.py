"""No motion at all: the ablation of training with animations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from headstudio.motion.arkit import ARKIT_NAMES, pose_of

if TYPE_CHECKING:
    from headstudio.motion import Controls
    from headstudio.types import Pose


class NoMotion:
    """The neutral pose, always (the paper's "training with a fixed pose and expression")."""

    def __init__(self, head: Controls) -> None:
        self.head = head

    def sample(self, count: int, generator: torch.Generator) -> Pose:
        """`count` neutral poses; the generator is not touched."""
        return pose_of(self.head, torch.zeros(count, len(ARKIT_NAMES)))

    def sequence(self, seconds: float, fps: float, generator: torch.Generator) -> Pose:
        """`round(seconds * fps)` neutral poses."""
        return self.sample(round(seconds * fps), generator)
