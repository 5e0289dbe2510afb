"""The motions that the viewer can play: recordings, and the film of talking that every run ends with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from headstudio.motion import FACE_JOINTS
from headstudio.motion.recording import Recording
from headstudio.motion.transfer import pose_of_recording
from headstudio.types import Pose
from headstudio.view.subject import Subject

if TYPE_CHECKING:
    from headstudio.head.model import HeadModel

FPS = 30.0
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
    _frames: dict[HeadModel, Pose] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return TALKING_S if self.recording is None else max(self.recording.seconds, 1.0 / FPS)

    def at(self, seconds: float, subject: Subject) -> Pose:
        """The head's pose at an instant of the motion."""
        if subject.head not in self._frames:
            self._frames[subject.head] = self._made(subject)
        frames = self._frames[subject.head]
        frame = min(int(seconds * FPS), len(frames) - 1)
        return Pose(expression=frames.expression[frame : frame + 1], joints=frames.joints[frame : frame + 1])

    def _made(self, subject: Subject) -> Pose:
        head: HeadModel = subject.head
        if self.recording is not None:
            return pose_of_recording(head, self.recording.resampled(FPS), FACE_JOINTS)
        return subject.run.motion.sequence(TALKING_S, FPS, torch.Generator().manual_seed(0))


def spoken(path: Path) -> Motion:
    """Speech in a file, moved and heard.

    Raises:
        UserError: it is no sound.
    """
    from headstudio.speech.audio import read_audio
    from headstudio.speech.motion import recording_of

    generator = torch.Generator().manual_seed(0)
    return Motion(recording_of(read_audio(path), fps=FPS, generator=generator), sound=path)
