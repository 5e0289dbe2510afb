"""What can drive a head: each takes the words of `headstudio.animate` and gives a motion, and what is heard with it."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstudio.cli import slug
from headstudio.errors import UserError

if TYPE_CHECKING:
    import torch

    from headstudio.motion.recording import Recording

log = logging.getLogger("headstudio")


@dataclass(frozen=True)
class Driven:
    """What moves the head, and what is heard with it."""

    recording: Recording
    name: str  # of the film
    sound: Path | None = None


Driver = Callable[[argparse.Namespace, Path], Driven]
"""Takes the command's words and a folder for what it makes on the way."""


def by_motion(given: argparse.Namespace, folder: Path) -> Driven:
    """A recorded motion; --audio is heard with it."""
    from headstudio.motion.files import read_file

    path = given.motion
    if not path.is_file():
        raise UserError(f"--motion {path} is no file.")
    try:
        recordings = read_file(path, fps=given.motion_fps)
    except UserError as error:
        raise UserError(str(error).replace("motion.fps=", "--motion-fps ")) from error
    if len(recordings) > 1:
        log.warning("%s holds %d recordings; the first is taken", path, len(recordings))
    return Driven(recordings[0], path.stem, given.audio)


def by_video(given: argparse.Namespace, folder: Path) -> Driven:
    """A film of a face and its sound, unless --audio is heard instead."""
    from headstudio.tracking.film import open_film
    from headstudio.tracking.recording import recording_of_video

    path = given.video
    options = {"mirror": given.mirror, "calibrate": not given.no_calibration, "seconds": given.seconds}
    recording = recording_of_video(path, **options)
    own_sound = path if open_film(path).has_sound else None
    return Driven(recording, path.stem, given.audio or own_sound)


def by_audio(given: argparse.Namespace, folder: Path) -> Driven:
    """Speech that is heard."""
    from headstudio.speech.audio import read_audio
    from headstudio.speech.motion import recording_of

    try:
        audio = read_audio(given.audio)
    except UserError as error:
        raise UserError(str(error).replace("audio=", "--audio ", 1)) from error
    return Driven(recording_of(audio, fps=given.fps, generator=_generator(given)), given.audio.stem, given.audio)


def by_text(given: argparse.Namespace, folder: Path) -> Driven:
    """A sentence that espeak-ng speaks; it says which sounds it makes when, so that nobody has to listen."""
    from headstudio.speech.audio import read_audio
    from headstudio.speech.motion import recording_of
    from headstudio.speech.voice import sounds_spoken, speak

    how = {"voice": given.voice, "words_per_minute": given.words_per_minute}
    try:
        sound = speak(given.text, folder / "speech.wav", **how)
        sounds = sounds_spoken(given.text, **how)
    except UserError as error:
        told = str(error).replace("voice=", "--voice ").replace("words_per_minute=", "--words-per-minute ")
        raise UserError(told.replace("text is empty", "--text is empty")) from error
    recording = recording_of(read_audio(sound), fps=given.fps, generator=_generator(given), sounds=sounds)
    return Driven(recording, slug(given.text, 40), sound)


def _generator(given: argparse.Namespace) -> torch.Generator:
    import torch

    return torch.Generator().manual_seed(given.seed)


DRIVERS: dict[str, Driver] = {"motion": by_motion, "audio": by_audio, "text": by_text, "video": by_video}
