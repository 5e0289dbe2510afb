"""The pose and the film that an export shows, from what the command line says."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstudio.cli import nearest
from headstudio.drivers import as_option
from headstudio.errors import UserError
from headstudio.motion import FACE_JOINTS
from headstudio.types import Pose

if TYPE_CHECKING:
    from headstudio.head.model import HeadModel
    from headstudio.motion.recording import Recording
    from headstudio.opened import OpenedRun

log = logging.getLogger("headstudio")
FPS, SECONDS = 24.0, 3.0
"""Of a run's own film, where its setting does not say."""


@dataclass(frozen=True)
class Film:
    """P consecutive poses, `fps` of them a second; `source` says what they were read from or drawn by."""

    poses: Pose
    fps: float
    source: str

    def __len__(self) -> int:
        return len(self.poses)


def pose_from(head: HeadModel, text: str) -> Pose:
    """One pose (P = 1) from `--pose`: a name of `motion.evaluation`, or weights such as `jawOpen=0.6,mouthSmile=0.4`.

    Weights are ARKit's, from 0 to 1 and made plausible by `motion.arkit.constrain`; a name without its side means both.
    The head's own expressions (`flame_003=1.5`) are taken as they are.

    Raises:
        UserError: for an unknown name, a value that is no number or out of its range, or a pose that the head cannot
            do.
    """
    from headstudio.motion.evaluation import evaluation_poses

    poses = evaluation_poses(head)
    if text in poses:
        return poses[text]
    if "=" not in text:
        raise UserError(
            f"--pose {text} is no pose of this head: it has {', '.join(poses)}, or takes weights such as "
            f"jawOpen=0.6,mouthSmileLeft=0.4.{nearest(text, poses)}"
        )
    given = dict(_weight(part) for part in text.split(",") if part.strip())
    pose = _posed(head, given)
    if any(given.values()) and not (bool(pose.expression.any()) or bool(pose.joints.any())):
        raise UserError(f"--pose {text} moves nothing on this head; it has {_listed(head.expression_names)}.")
    return pose


def film_from(
    opened: OpenedRun, file: Path | None, fps: float | None, seconds: float | None, *, file_fps: float | None = None
) -> Film:
    """A recording on the run's head, or the run's own kind of film.

    Args:
        opened: the run.
        file: a recording that `motion.files` reads; None: the motion that the run was trained with draws one, with its
            seed, so that it is the film in its directory.
        fps: frames a second; None is the file's own, or that of the run's films.
        seconds: at most so many; None is all of the file, or as long as the run's films.
        file_fps: frames a second of a file that does not say its own; None is what is usual for its format.

    Raises:
        UserError: the file is missing or no motion, nothing in it moves this head, a number is not above 0, or no frame
            is left.
    """
    if file is None and file_fps is not None:
        raise UserError(f"--motion-fps {file_fps:g} is for --motion, which is not given.")
    for name, value in (("--fps", fps), ("--seconds", seconds), ("--motion-fps", file_fps)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{name} {value:g} must be a number above 0.")
    if fps is not None and seconds is not None and round(fps * seconds) < 1:
        raise UserError(f"--seconds {seconds:g} at --fps {fps:g} is less than one frame.")
    if file is None:
        return _own_film(opened, fps, seconds)
    recording = _read(file.expanduser(), file_fps)
    return _recorded(opened.head, recording, str(file), fps, seconds)


def _own_film(opened: OpenedRun, fps: float | None, seconds: float | None) -> Film:
    import torch

    gallery = opened.config.get("gallery") or {}
    fps = fps or float(gallery.get("fps", FPS))
    seconds = seconds or float(gallery.get("seconds", SECONDS))
    generator = torch.Generator().manual_seed(int(opened.config.seed))
    poses = opened.motion.sequence(max(1, round(seconds * fps)) / fps, fps, generator)
    return Film(poses, fps, "the run's own motion")


def _read(file: Path, fps: float | None) -> Recording:
    from headstudio.motion.files import READABLE, motion_files, read_recordings

    if not motion_files(file):
        why = "holds no motion" if file.is_dir() else "does not exist"
        raise UserError(f"--motion {file} {why}; name {READABLE}.")
    try:
        found = read_recordings([file], fps=fps)
    except UserError as error:
        raise UserError(as_option(str(error))) from error
    if len(found) > 1:
        log.warning("%s holds %d recordings; this is the first, %s.", file, len(found), found[0].source)
    return found[0]


def _recorded(head: HeadModel, recording: Recording, file: str, fps: float | None, seconds: float | None) -> Film:
    from headstudio.motion.transfer import losses, pose_of_recording

    for sentence in losses(head, recording):
        log.warning(sentence)
    if fps is not None and fps != recording.fps:
        recording = recording.resampled(fps)
    poses = pose_of_recording(head, recording, FACE_JOINTS)
    if seconds is not None:
        count = max(1, round(seconds * recording.fps))
        poses = Pose(expression=poses.expression[:count], joints=poses.joints[:count])
    if not (bool(poses.expression.any()) or bool(poses.joints.any())):
        raise UserError(
            f"--motion {file}: nothing in it moves this head ({', '.join(FACE_JOINTS)} and its expressions)."
        )
    return Film(poses, recording.fps, file)


def _weight(part: str) -> tuple[str, float]:
    """`name=value`; ranges are checked by whoever knows the name."""
    name, _, value = (piece.strip() for piece in part.partition("="))
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not name or not math.isfinite(number):
        raise UserError(f"--pose has {part.strip()!r}, which is no weight; write name=number, such as jawOpen=0.6.")
    return name, number


def _posed(head: HeadModel, given: dict[str, float]) -> Pose:
    from headstudio.motion.arkit import ARKIT_NAMES, INDEX, weights_of
    from headstudio.motion.recording import Recording
    from headstudio.motion.transfer import pose_of_recording

    sides = {name.removesuffix("Left") for name in ARKIT_NAMES if name.endswith("Left")} - set(INDEX)
    own = {name: value for name, value in given.items() if name in head.expression_names and name not in INDEX}
    arkit = {name: value for name, value in given.items() if name not in own}
    for name, value in arkit.items():
        if name not in INDEX and name not in sides:
            known = [*ARKIT_NAMES, *sides, *head.expression_names]
            raise UserError(
                f"--pose has {name}, neither an ARKit name nor an expression of this head.{nearest(name, known)}"
            )
        if not 0.0 <= value <= 1.0:
            raise UserError(f"--pose has {name}={value:g}; ARKit's weights go from 0 to 1.")
    weights = weights_of(arkit)[None].numpy()
    pose = pose_of_recording(head, Recording(source="--pose", fps=1.0, arkit=weights), FACE_JOINTS)
    for name, value in own.items():
        pose.expression[0, list(head.expression_names).index(name)] = value
    return pose


def _listed(names: tuple[str, ...]) -> str:
    """The first names, and how many more there are."""
    numbered = [name for name in names if re.fullmatch(r"flame_\d+", name)]
    if numbered:
        return f"{numbered[0]} to {numbered[-1]}, and opens its jaw by jawOpen"
    return f"{', '.join(names[:4])} and {len(names) - 4} more"
