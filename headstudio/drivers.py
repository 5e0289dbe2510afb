"""What can drive a head: each takes the words of `headstudio.animate` and gives a motion, and what is heard with it."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstudio.errors import UserError

if TYPE_CHECKING:
    import torch

    from headstudio.motion.recording import Recording
    from headstudio.speech.audio import Audio
    from headstudio.speech.sounds import Sound

log = logging.getLogger("headstudio")
VOICE, WORDS_PER_MINUTE = "en-us", 150
STILL_MOUTH = 0.1  # a jawOpen that a mouth which speaks goes beyond now and then
AFTER_S = 1.0  # of speech beyond --seconds, which lips prepare for


@dataclass(frozen=True)
class Driven:
    """What moves the head, and what is heard with it."""

    recording: Recording
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
        raise UserError(as_option(str(error))) from error
    if len(recordings) > 1:
        log.warning("%s holds %d recordings; the first is taken", path, len(recordings))
    return Driven(recordings[0], _heard(given))


def by_video(given: argparse.Namespace, folder: Path) -> Driven:
    """A film of a face and its sound, unless --audio is heard instead."""
    from headstudio.speech.audio import require_sound
    from headstudio.tracking.film import open_film
    from headstudio.tracking.recording import recording_of_video

    path, heard = given.video, _heard(given)
    options = {"mirror": given.mirror, "calibrate": not given.no_calibration, "seconds": given.seconds}
    recording = recording_of_video(path, **options)
    if heard is None and open_film(path).has_sound:
        try:
            require_sound(path)
            heard = path
        except UserError as error:
            log.warning("The film is silent: %s", str(error).replace("audio=", "", 1))
    if heard is not None:
        _warn_of_still_mouth(recording, heard, given.seconds)
    return Driven(recording, heard)


def _warn_of_still_mouth(recording: Recording, heard: Path, seconds: float | None) -> None:
    from headstudio.motion.arkit import INDEX
    from headstudio.speech.audio import is_silent

    most = float(recording.tracks["arkit"][:, INDEX["jawOpen"]].max())
    if most < STILL_MOUTH and not is_silent(heard, seconds=seconds):
        log.warning(
            "There is a sound, but the mouth was hardly seen to move (jawOpen at most %.2f): a face that is painted or "
            "masked, small or turned away is hard to read (docs/tracking.md, Limits).",
            most,
        )


def by_audio(given: argparse.Namespace, folder: Path) -> Driven:
    """Speech that is heard."""
    from headstudio.speech.audio import read_audio

    try:
        audio = read_audio(given.audio, seconds=None if given.seconds is None else given.seconds + AFTER_S)
    except UserError as error:
        raise UserError(str(error).replace("audio=", "--audio ", 1)) from error
    return Driven(_lips(given, audio), given.audio)


def _lips(given: argparse.Namespace, audio: Audio, sounds: Sequence[Sound] | None = None) -> Recording:
    """The motion of speech."""
    from headstudio.speech.motion import recording_of

    try:
        return recording_of(audio, fps=given.fps, generator=_generator(given), sounds=sounds)
    except UserError as error:
        raise UserError(str(error).replace("fps=", "--fps ", 1)) from error


def _heard(given: argparse.Namespace) -> Path | None:
    """The sound of --audio, made sure of before anything is drawn."""
    from headstudio.speech.audio import require_sound

    sound: Path | None = given.audio
    if sound is not None:
        try:
            require_sound(sound)
        except UserError as error:
            raise UserError(str(error).replace("audio=", "--audio ", 1)) from error
    return sound


def by_text(given: argparse.Namespace, folder: Path) -> Driven:
    """A sentence that espeak-ng speaks; it says which sounds it makes when, so that nobody has to listen."""
    from headstudio.speech.audio import read_audio
    from headstudio.speech.scripts import unread
    from headstudio.speech.voice import sounds_spoken, speak

    voice: str = VOICE if given.voice is None else given.voice
    speed: int = WORDS_PER_MINUTE if given.words_per_minute is None else given.words_per_minute
    try:
        sound = speak(given.text, folder / "speech.wav", voice=voice, words_per_minute=speed)
        sounds = sounds_spoken(given.text, voice=voice, words_per_minute=speed)
    except UserError as error:
        told = str(error).replace("voice=", "--voice ").replace("words_per_minute=", "--words-per-minute ")
        raise UserError(told.replace("text is empty", "--text is empty")) from error
    if foreign := unread(given.text, voice):
        log.warning(foreign.replace("voice=", "--voice "))
    return Driven(_lips(given, read_audio(sound), sounds), sound)


def as_option(told: str) -> str:
    """A sentence about the key `motion.fps`, for commands whose option it is."""
    return told.replace("leave motion.fps=null", "leave out --motion-fps").replace("motion.fps=", "--motion-fps ")


def name_of(given: argparse.Namespace) -> str:
    """What the film is called: as the file that drives the head, or the first words of the text, in any script.

    Several drivers may have one name (hello.wav, hello.csv): whoever writes the film sees to it that none is lost.
    """
    if given.text is not None:
        return "-".join(re.findall(r"\w+", given.text.lower()))[:40].strip("-") or "text"
    path: Path = given.video or given.motion or given.audio
    return path.stem


def _generator(given: argparse.Namespace) -> torch.Generator:
    import torch

    return torch.Generator().manual_seed(given.seed)


DRIVERS: dict[str, Driver] = {"motion": by_motion, "audio": by_audio, "text": by_text, "video": by_video}
