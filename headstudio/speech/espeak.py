"""The library of espeak-ng: speech as samples, with the time of every phone. Through ctypes; nothing is installed.

The structures are those of espeak-ng's `speak_lib.h` (API revision 12).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.speech.sounds import Phone

_SYNCHRONOUS, _CHARACTERS, _UTF8 = 2, 1, 1
_PHONE_EVENTS, _IN_IPA, _DO_NOT_EXIT = 0x1, 0x2, 0x8000
_RATE, _PITCH = 1, 3
_LIST_ENDS, _PHONE = 0, 7
_PAUSES = "_:"


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("text", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True, eq=False)
class Spoken:
    """Samples in [-1, 1], float32, and the phones in them, in order; gaps between phones are pauses."""

    samples: NDArray[np.float32]
    rate_hz: int
    phones: tuple[Phone, ...]


@cache
def _library() -> tuple[ctypes.CDLL, int] | None:
    """The library, ready, and its rate (Hz); None where the system has none."""
    for name in ("libespeak-ng.so.1", ctypes.util.find_library("espeak-ng")):
        try:
            library = ctypes.CDLL(name) if name else None
        except OSError:
            continue
        if library is not None:
            rate = library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONE_EVENTS | _IN_IPA | _DO_NOT_EXIT)
            return (library, rate) if rate > 0 else None
    return None


def available() -> bool:
    """Whether the system has the library."""
    return _library() is not None


def say(text: str, *, voice: str, words_per_minute: int, pitch: int = 50) -> Spoken:
    """Speak `text`; not for several threads at once.

    The first speech of a process is what the program says, sample by sample. The library keeps a state, so that later
    ones differ in their samples, and by some 10 ms in their times: `timed` asks a process of its own.

    Args:
        text: what to say.
        voice: a language ("en-us", "de") or a voice file, with a variant if wanted ("en+f3").
        words_per_minute: 80 to 450.
        pitch: 0 to 100; 50 is the voice's own.

    Raises:
        UserError: where the library is missing, or it has no such voice.
    """
    found = _library()
    if found is None:
        raise UserError("The library of espeak-ng is missing: apt-get install espeak-ng, or brew install espeak-ng.")
    library, rate = found
    pieces: list[NDArray[np.int16]] = []
    events: list[tuple[int, str]] = []

    def receive(wave: Any, count: int, event: Any) -> int:
        if wave and count > 0:
            pieces.append(np.ctypeslib.as_array(wave, (count,)).copy())
        i = 0
        while event[i].type != _LIST_ENDS:
            if event[i].type == _PHONE:
                events.append((event[i].sample, event[i].id.text.decode("utf-8", "ignore")))
            i += 1
        return 0

    _choose(library, voice)
    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetParameter(_RATE, words_per_minute, 0)
    library.espeak_SetParameter(_PITCH, pitch, 0)
    encoded = text.encode()
    size = ctypes.c_size_t(len(encoded) + 1)
    library.espeak_Synth(encoded, size, 0, _CHARACTERS, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    samples = np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
    return Spoken((samples / 32768.0).astype(np.float32), rate, _phones(events, len(samples), rate))


def timed(text: str, *, voice: str, words_per_minute: int) -> tuple[Phone, ...]:
    """The phones in what espeak-ng's program says for the same arguments, whatever was said before.

    Raises:
        UserError: as `say`.
    """
    command = [sys.executable, "-m", "headstudio.speech.espeak", voice, str(words_per_minute)]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        raise UserError(done.stderr.decode("utf-8", "replace").strip().splitlines()[-1])
    return tuple(Phone(*row) for row in json.loads(done.stdout))


def _main() -> None:
    """`timed`'s process: voice and rate on the command line, the text on standard input, phones as JSON."""
    voice, words_per_minute = sys.argv[1:]
    try:
        phones = say(sys.stdin.buffer.read().decode(), voice=voice, words_per_minute=int(words_per_minute)).phones
    except UserError as problem:
        sys.exit(str(problem))
    json.dump([astuple(phone) for phone in phones], sys.stdout)


def _choose(library: ctypes.CDLL, voice: str) -> None:
    if library.espeak_SetVoiceByName(voice.encode()) == 0:
        return
    wanted = _Voice(languages=voice.encode())
    if library.espeak_SetVoiceByProperties(ctypes.byref(wanted)) != 0:
        raise UserError(f"espeak-ng has no voice {voice!r}; espeak-ng --voices lists them.")


def _phones(events: Sequence[tuple[int, str]], end: int, rate: int) -> tuple[Phone, ...]:
    """An event tells where a phone begins; it ends where the next one does."""
    ends = [sample for sample, _ in events[1:]] + [end]
    return tuple(
        Phone("" if name.startswith("_") else name.strip(_PAUSES), start / rate, max(stop, start) / rate)
        for (start, name), stop in zip(events, ends, strict=True)
    )


if __name__ == "__main__":
    _main()
