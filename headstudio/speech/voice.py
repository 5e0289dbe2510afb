"""A sentence spoken by the espeak-ng of the system: offline, a hundred languages, no voice to download."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path

from headstudio.errors import UserError
from headstudio.speech import espeak
from headstudio.speech.sounds import Sound, sounds_of

PROGRAMS = ("espeak-ng", "espeak")
SLOWEST, FASTEST = 80, 450  # words a minute, espeak-ng's range
INSTALL = "apt-get install espeak-ng, or brew install espeak-ng"


def program() -> str | None:
    """The speaking program of this system; None where it has none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def speak(text: str, path: Path | str, *, voice: str, words_per_minute: int) -> Path:
    """Write `text`, spoken, to `path` (WAV, one channel, 22.05 kHz); in one rename, so never half.

    Args:
        text: the sentence; what stands in [[double brackets]] is taken for espeak-ng's names of phones.
        path: the file to write; its folder exists.
        voice: as `espeak-ng --voices` lists them: "en-us", "de", with a variant "en+f3".
        words_per_minute: 80 to 450.

    Raises:
        UserError: when there is nothing to say, no program, no such voice or folder, or the rate is out of range.
    """
    path = Path(path)
    _check(text, words_per_minute)
    command = program()
    if command is None:
        raise UserError(f"Speaking a text needs espeak-ng, which this system lacks: {INSTALL}.")
    if not path.parent.is_dir():
        raise UserError(f"The speech cannot be written to {path}: there is no folder {path.parent}.")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    options = ["-v", voice, "-s", str(words_per_minute), "-b", "1", "-w", str(partial), "--stdin"]
    try:
        done = subprocess.run([command, *options], input=_one_line(text).encode(), capture_output=True, check=False)
        told = done.stderr.decode("utf-8", "replace")
        if "voice does not exist" in told:
            raise UserError(
                f"voice={voice} is no voice of {Path(command).name}; {Path(command).name} --voices lists them."
            )
        if done.returncode != 0 or not partial.exists():
            raise UserError(f"{Path(command).name} could not write {path} ({told.strip() or done.returncode}).")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def sounds_spoken(text: str, *, voice: str, words_per_minute: int) -> list[Sound] | None:
    """What the mouth shows in the file that `speak` writes for the same arguments, exactly, in any language.

    None where the system has espeak-ng's program but not its library: listen to the file then.

    Raises:
        UserError: as `speak`.
    """
    _check(text, words_per_minute)
    if not espeak.available():
        return None
    return sounds_of(espeak.timed(_one_line(text), voice=voice, words_per_minute=words_per_minute))


def _check(text: str, words_per_minute: int) -> None:
    if not text.strip():
        raise UserError("text is empty: give a sentence to say.")
    if not SLOWEST <= words_per_minute <= FASTEST:
        raise UserError(f"words_per_minute={words_per_minute} must lie between {SLOWEST} and {FASTEST}.")


def _one_line(text: str) -> str:
    """Program and library read line ends differently."""
    return " ".join(text.split())
