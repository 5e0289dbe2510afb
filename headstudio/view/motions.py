"""The motions that the viewer can play: recordings, and the film of talking that every run ends with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from headstudio.motion.recording import Recording
from headstudio.motion.transfer import pose_of_recording
from headstudio.types import Pose
from headstudio.view.subject import Subject

if TYPE_CHECKING:
    from headstudio.head.model import HeadModel

FPS = 30.0
JOINTS = ("neck", "jaw", "eyes")
TALKING_S = 8.0


@dataclass(frozen=True)
class Motion:
    """Frames by time, for any head.

    Args:
        recording: what is played; None is the run's own motion, which every head has its own of.
        sound: a file that is heard with it.
    """

    recording: Recording | None = None
    sound: Path | None = None
    _frames: dict[int, Pose] = field(default_factory=dict)  # by the head's id

    @property
    def seconds(self) -> float:
        return TALKING_S if self.recording is None else max(self.recording.seconds, 1.0 / FPS)

    def at(self, seconds: float, subject: Subject) -> Pose:
        """The head's pose at an instant of the motion."""
        frames = self._frames.setdefault(id(subject.head), self._made(subject))
        frame = min(int(seconds * FPS), len(frames) - 1)
        return Pose(expression=frames.expression[frame : frame + 1], joints=frames.joints[frame : frame + 1])

    def _made(self, subject: Subject) -> Pose:
        head: HeadModel = subject.head
        if id(head) in self._frames:
            return self._frames[id(head)]
        if self.recording is not None:
            return pose_of_recording(head, self.recording.resampled(FPS), JOINTS)
        from headstudio.run import make

        motion = make(subject.run.config.motion)(head)
        return motion.sequence(TALKING_S, FPS, torch.Generator().manual_seed(0))  # type: ignore[no-any-return]
