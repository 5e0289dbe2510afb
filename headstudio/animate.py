"""Drive a finished head: by speech, a film of a face, a recorded motion, or a text that a system voice reads.

    python -m headstudio.animate RUN --audio hello.wav        lips follow the speech; the film has its sound
    python -m headstudio.animate RUN --text "hello there"     the same, spoken by espeak-ng
    python -m headstudio.animate RUN --motion take.csv        ARKit/Live Link Face .csv, VHAP or GaussianAvatars .npz,
                                                              TalkSHOW .pkl or .npy, our own .npz (docs/motion.md)
    python -m headstudio.animate RUN --motion take.csv --audio take.mov     the motion with its own sound
    python -m headstudio.animate RUN --video me.mp4           the face in the film, with its sound (docs/tracking.md)

RUN is a finished run's directory. The film goes to RUN/films/, as hello.mp4 or, where that is taken, hello-2.mp4;
--out names another file, which is replaced.
"""

from __future__ import annotations

import argparse
import logging
import math
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headstudio.drivers import DRIVERS, VOICE, WORDS_PER_MINUTE, Driven, Driver, name_of
from headstudio.errors import UserError
from headstudio.files import numbered, require_free_of, require_writable
from headstudio.interrupt import stopping_at_once
from headstudio.motion import FACE_JOINTS
from headstudio.motion.writing import WRITERS, format_of, write_motion

if TYPE_CHECKING:
    from torch import Tensor

    from headstudio.camera_path import CameraPath
    from headstudio.motion.recording import Recording
    from headstudio.opened import OpenedRun
    from headstudio.runstate import RunPaths

log = logging.getLogger("headstudio")
FILMS = (".mp4", ".webp")
LARGEST_PX = 4096
OPTIONS_OF = {
    "voice": "text",
    "words_per_minute": "text",
    "motion_fps": "motion",
    "mirror": "video",
    "no_calibration": "video",
    "motion_format": "write_motion",
}


def main(words: Sequence[str] | None = None) -> int:
    """The command line; the user's mistakes are one sentence and exit code 2."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        with stopping_at_once():
            given = parser().parse_args(words)
            return _animate(given, _driver(given))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt as stopped:
        sys.stderr.write("Stopped; the film was not finished, and nothing of it stays.\n")
        return 128 + getattr(stopped, "number", signal.SIGINT)


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    usage = argparse.RawDescriptionHelpFormatter
    found = argparse.ArgumentParser("python -m headstudio.animate", description=__doc__, formatter_class=usage)
    found.add_argument("run", metavar="RUN", help="a finished run's directory")
    found.add_argument("--audio", type=_path, help="speech: any file with sound; with --motion or --video only heard")
    found.add_argument("--text", help="what espeak-ng says")
    found.add_argument("--voice", help=f"of --text: espeak-ng --voices lists them (default: {VOICE})")
    found.add_argument("--words-per-minute", type=int, help=f"of --text, 80 to 450 (default: {WORDS_PER_MINUTE})")
    found.add_argument("--motion", type=_path, help="a recorded motion")
    found.add_argument("--motion-fps", type=float, help="frames a second of a motion that does not say its own")
    found.add_argument("--video", type=_path, help="a film of a face")
    found.add_argument("--mirror", action="store_true", help="the film of --video is a mirror's image")
    found.add_argument(
        "--no-calibration", action="store_true", help="take an average face's rest, not that of --video's face"
    )
    found.add_argument(
        "--joints", default=",".join(FACE_JOINTS), help="which may turn (default: %(default)s; also root)"
    )
    found.add_argument(
        "--out", type=_path, help="the film, .mp4, or .webp, which loops silently (default: RUN/films/NAME.mp4)"
    )
    found.add_argument("--write-motion", type=_path, help="also keep what moved the head, as .npz, .csv, .pkl or .npy")
    found.add_argument(
        "--motion-format",
        choices=tuple(WRITERS),
        help="of --write-motion (default: by its suffix, own for .npz): docs/motion.md describes them",
    )
    found.add_argument("--size", type=int, default=512, help="pixels of the square film (default: %(default)s)")
    found.add_argument("--fps", type=float, default=30.0, help="frames a second of the film (default: %(default)s)")
    found.add_argument("--seconds", type=float, help="of the motion, from its start (default: all of it)")
    found.add_argument("--sway-deg", type=float, default=8.0, help="how far the camera swings (default: %(default)s)")
    found.add_argument("--camera-path", type=_path, help="a path that the viewer has saved, instead of the swing")
    found.add_argument("--seed", type=int, default=0, help="of blinks and glances that a sound says nothing of")
    return found


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _driver(given: argparse.Namespace) -> Driver:
    """Who makes the motion. Everything that can be wrong with a number is told here, before anything is loaded."""
    sources = [name for name in DRIVERS if getattr(given, name) is not None]
    if {"motion", "video"} & set(sources) and "audio" in sources:
        sources.remove("audio")  # then it is only heard
    if len(sources) != 1:
        told = " and ".join(f"--{name}" for name in sources) or "none"
        verb = "are" if len(sources) > 1 else "is"
        raise UserError(f"One thing drives the head, but {told} {verb} given: {', '.join(f'--{n}' for n in DRIVERS)}.")
    if not 16 <= given.size <= LARGEST_PX or given.size % 2:
        raise UserError(f"--size {given.size} must be an even number of pixels, from 16 to {LARGEST_PX}.")
    if not 0 <= given.sway_deg <= 180:
        raise UserError(f"--sway-deg {given.sway_deg} must be from 0 to 180.")
    if not 0 <= given.seed < 2**63:
        raise UserError(f"--seed {given.seed} must be from 0 to 2^63 - 1.")
    for name in ("fps", "seconds", "motion_fps"):
        value = getattr(given, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"--{name.replace('_', '-')} {value:g} must be a number above 0.")
    for name, of in OPTIONS_OF.items():
        if getattr(given, name) not in (None, False) and getattr(given, of) is None:
            raise UserError(f"--{name.replace('_', '-')} is for --{of.replace('_', '-')}, which is not given.")
    given_joints = {name.strip() for name in given.joints.split(",")}
    if wrong := given_joints - {*FACE_JOINTS, "root"} - {""}:
        raise UserError(f"--joints {given.joints}: {min(wrong)} is none of root, {', '.join(FACE_JOINTS)}.")
    if given.out is not None and given.out.suffix.lower() not in FILMS:
        raise UserError(f"--out {given.out} must end in {' or '.join(FILMS)}.")
    if given.write_motion is not None:
        format_of(given.write_motion, given.motion_format)
    return DRIVERS[sources[0]]


def _animate(given: argparse.Namespace, driver: Driver) -> int:
    with tempfile.TemporaryDirectory() as folder:  # for a sound that is made on the way
        return _film(given, lambda: driver(given, Path(folder)))


def _film(given: argparse.Namespace, drive: Callable[[], Driven]) -> int:
    from headstudio.camera_path import read_camera_path
    from headstudio.export.video import write_mp4, write_webp
    from headstudio.opened import open_run

    opened = open_run(given.run)
    path = _place(given, opened.paths)
    way = None if given.camera_path is None else read_camera_path(given.camera_path)
    driven = drive()
    recording = _timed(driven.recording, given.fps, given.seconds)
    if given.write_motion is not None:
        kind = format_of(given.write_motion, given.motion_format)
        write_motion(given.write_motion, recording, kind, opened.head.arkit_mapping)
        log.info("The motion: %s", given.write_motion)
    frames = _pictures(opened, recording, given, way)
    instead = ", instead of what was there" if path.exists() else ""
    if path.suffix.lower() == ".webp":
        write_webp(_counted(frames, len(recording)), path, given.fps)
    else:
        write_mp4(_counted(frames, len(recording)), path, given.fps, sound=driven.sound)
    log.info("The film: %s (%d frame%s)%s", path, len(recording), "" if len(recording) == 1 else "s", instead)
    return 0


def _place(given: argparse.Namespace, paths: RunPaths) -> Path:
    """Where the film goes. It and the motion are made sure of before anything is drawn: nothing else may be lost.

    Raises:
        UserError: a place that cannot be written, or one of a file that is needed.
    """
    films = paths.root / "films"
    if given.out is None:
        try:
            films.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"{films} cannot be made ({error.strerror}); name another place with --out.") from error
    path: Path = given.out or numbered(films / f"{name_of(given)}.mp4")
    kept = (given.motion, given.audio, given.video, given.camera_path, *paths.files())
    for option, place in (("--out", path), ("--write-motion", given.write_motion)):
        if place is None:
            continue
        if place.is_dir():
            raise UserError(f"{option} {place} is a folder; name a file.")
        if not place.parent.is_dir():
            raise UserError(f"{option} {place}: there is no folder {place.parent}.")
        require_free_of(place, kept, option)
        require_writable(place.parent, option)
    return path


def _timed(recording: Recording, fps: float, seconds: float | None) -> Recording:
    """At the film's frame rate, and no longer than wanted."""
    import numpy as np

    whole = recording.resampled(fps)
    return whole if seconds is None else whole.at(np.arange(min(len(whole), max(1, round(seconds * fps)))) / fps, fps)


def _pictures(
    opened: OpenedRun, recording: Recording, given: argparse.Namespace, way: CameraPath | None
) -> Iterator[Tensor]:
    """The film's pictures; without a camera's path the framing is that of a run's own films."""
    import numpy as np

    from headstudio.export.gallery import Gallery
    from headstudio.motion.transfer import losses, pose_of_recording

    avatar, renderer = opened.drawn_by()
    for sentence in losses(avatar.head, recording):
        log.warning(sentence)
    pose = pose_of_recording(avatar.head, recording, [name.strip() for name in given.joints.split(",")])
    if not (bool(pose.expression.any()) or bool(pose.joints.any())):
        log.warning("Nothing in %s moves this head", recording.source)
    gallery = Gallery(
        width=given.size, height=given.size, seconds=len(pose) / given.fps, fps=given.fps, sway_deg=given.sway_deg
    )
    if way is not None:
        return gallery.pictures(avatar, renderer, way.cameras(np.arange(len(pose)) / given.fps, given.size), pose)
    return gallery.film(avatar, renderer, pose, swing_frames=max(1, round(6.0 * given.fps)))


def _counted(frames: Iterator[Tensor], count: int) -> Iterator[Tensor]:
    from headstudio.progress import Progress

    with Progress(0, count) as progress:
        for step, frame in enumerate(frames):
            yield frame
            progress.show(step, {})


if __name__ == "__main__":
    sys.exit(main())
