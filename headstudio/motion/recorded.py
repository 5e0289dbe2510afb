"""Motion that was recorded: random frames for training, a recording played for the film."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from headstudio.errors import UserError
from headstudio.findings import Finding, State
from headstudio.motion.files import READABLE, SUFFIXES, TO_GET, motion_files, read_recordings
from headstudio.motion.transfer import JOINTS, losses, pose_of_recording
from headstudio.types import Pose

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.motion import Controls
    from headstudio.motion.recording import Recording

log = logging.getLogger("headstudio")


class RecordedMotion:
    """Frames of recordings on one head, read and checked at once.

    Args:
        head: whose expression and joint names decide what moves (`transfer.pose_of_recording`).
        paths: files and folders (`files.read_recordings`).
        fps: of files that do not say theirs; None for what is usual for their format.
        joints: which of root, neck, jaw, eyes may turn. HeadStudio trains with [jaw] alone.
        equal_recordings: a draw takes a recording first and one of its frames then, as HeadStudio does; else every
            frame is as likely as any other, so that a long recording counts more.
        strength_power: a frame's chance grows with this power of its expression's strength (the norm of the
            coefficients, or of the weights where there are none); 0 is uniform, AnimPortrait3D takes about 2.

    Raises:
        UserError: for paths, files and settings that are of no use.
    Source: paper, "Training with Animations"; HeadStudio `threestudio/data/uncond_rand_exp.py`; AnimPortrait3D
        `GSAvatar/train_all.py` (strengths).
    """

    def __init__(
        self,
        head: Controls,
        *,
        paths: str | Sequence[str | Path],
        fps: float | None,
        joints: Sequence[str],
        equal_recordings: bool,
        strength_power: float,
    ) -> None:
        _check(fps, joints, strength_power)
        self.head, self.joints = head, tuple(joints)
        self.recordings = read_recordings(_listed(paths), fps=fps)
        self._tell()
        self._frames = _concatenated([pose_of_recording(head, r, self.joints) for r in self.recordings])
        if not (bool(self._frames.expression.any()) or bool(self._frames.joints.any())):
            raise UserError(
                f"Nothing in {self.recordings[0].source} moves this head with motion.joints={list(joints)}; "
                "take another recording, or head=flame for FLAME's expressions."
            )
        self._reach = _chances(self.recordings, equal_recordings, strength_power).cumsum(0)

    @staticmethod
    def look(*, paths: str | Sequence[str | Path], **_: object) -> list[Finding]:
        """Whether the files are there; what is in them is checked when they are read."""
        found = []
        for path in (Path(p).expanduser() for p in _listed(paths)):
            files = motion_files(path)
            state, detail, remedy = State.READY, f"{path}: {len(files)} files", ""
            if not files:
                why = f"holds no {', '.join(SUFFIXES)} file" if path.is_dir() else "does not exist"
                state, detail, remedy = State.LACKING, f"{path} {why}", TO_GET
            found.append(Finding(what="Recorded motion", state=state, detail=detail, remedy=remedy, files=tuple(files)))
        if not found:
            remedy = f"name files or folders, motion.paths=[talk.npz]: {READABLE}"
            found = [
                Finding(what="Recorded motion", state=State.LACKING, detail="motion.paths is empty", remedy=remedy)
            ]
        return found

    def sample(self, count: int, generator: torch.Generator) -> Pose:
        """`count` frames, drawn independently."""
        drawn = torch.rand(count, generator=generator, dtype=torch.float64) * self._reach[-1]
        frames = torch.searchsorted(self._reach, drawn, right=True).clamp(max=len(self._reach) - 1)
        return Pose(expression=self._frames.expression[frames], joints=self._frames.joints[frames])

    def sequence(self, seconds: float, fps: float, generator: torch.Generator) -> Pose:
        """`round(seconds * fps)` poses of one recording, from its first frame on.

        Which one is drawn, each as likely as its length. One that is shorter plays there and back, again and again,
        so that nothing jumps; a recording begins as the person happened to look, not at rest.
        """
        lengths = torch.tensor([len(r) for r in self.recordings], dtype=torch.float64)
        recording = self.recordings[int(torch.multinomial(lengths, 1, generator=generator))]
        times = np.arange(round(seconds * fps)) / fps
        if recording.seconds > 0:
            there_and_back = np.mod(times, 2.0 * recording.seconds)
            times = np.minimum(there_and_back, 2.0 * recording.seconds - there_and_back)
        return pose_of_recording(self.head, recording.at(times, fps), self.joints)

    def _tell(self) -> None:
        for sentence in dict.fromkeys(told for r in self.recordings for told in losses(self.head, r)):
            log.warning(sentence)
        count, frames = len(self.recordings), sum(map(len, self.recordings))
        seconds = sum(len(r) / r.fps for r in self.recordings)
        log.info("Motion: %d frames (%.1f s) of %d recording%s", frames, seconds, count, "" if count == 1 else "s")


def _listed(paths: str | Sequence[str | Path]) -> Sequence[str | Path]:
    return [paths] if isinstance(paths, str) else paths


def _check(fps: float | None, joints: Sequence[str], strength_power: float) -> None:
    if fps is not None and not (isinstance(fps, int | float) and math.isfinite(fps) and fps > 0):
        raise UserError(f"motion.fps={fps} must be a number above 0, or null for what the files say.")
    if isinstance(joints, str) or not set(joints) <= set(JOINTS):
        raise UserError(f"motion.joints={joints} must be a list of some of {', '.join(JOINTS)}.")
    if not 0.0 <= strength_power <= 8.0:
        raise UserError(f"motion.strength_power={strength_power} must lie between 0 and 8.")


def _chances(recordings: Sequence[Recording], equal: bool, power: float) -> Float[Tensor, " N"]:
    """How likely each frame is, up to a factor; a set without any expression is uniform."""
    shares = []
    for recording in recordings:
        strength = np.ones(len(recording))
        signal = recording.expression if recording.expression is not None else recording.arkit
        if power > 0.0 and signal is not None:
            strength = np.linalg.norm(signal.astype(np.float64), axis=1) ** power
        shares.append(strength / max(strength.sum(), 1e-300) if equal else strength)
    chances = torch.from_numpy(np.concatenate(shares))
    return chances if bool(chances.sum() > 0) else torch.ones_like(chances)


def _concatenated(poses: Sequence[Pose]) -> Pose:
    return Pose(
        expression=torch.cat([pose.expression for pose in poses]), joints=torch.cat([pose.joints for pose in poses])
    )
