"""What a stretch of speech is to the mouth: one of the visemes of `headstudio.motion.faces`, from when to when."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from headstudio.motion.faces import VISEMES

SILENCE = "sil"
CLOSED = "PP"
NAMES = tuple(VISEMES)

_OF_IPA = {
    "PP": "p b m ɓ ʙ ɸ β",
    "FF": "f v ɱ ʋ",
    "TH": "θ ð",
    "DD": "t d ʈ ɖ ɾ ɽ ɗ",
    "kk": "k ɡ g ŋ x ɣ q ɢ χ h ħ ɦ ʔ c ɟ ç ɴ ɠ ʕ",
    "CH": "ʃ ʒ ɕ ʑ ʂ ʐ",
    "SS": "s z",
    "nn": "n l ɲ ɳ ɫ ʎ ɭ ɬ",
    "RR": "r ɹ ɻ ʁ ʀ ɺ",
    "aa": "a ɑ æ ʌ ɐ ɶ",
    "E": "e ɛ ə ɜ ɘ ɚ ɝ ɞ ᵻ",
    "I": "i ɪ j ɨ",
    "O": "o ɔ ɒ ɤ",
    "U": "u ʊ w ʉ y ʏ ø œ ɥ ɵ ʍ ɯ",
}
VISEME_OF_IPA = {symbol: viseme for viseme, symbols in _OF_IPA.items() for symbol in symbols.split()}
"""The viseme of each IPA letter. Sounds whose lips look alike share one: what is heard, not seen, is left out."""

VOWELS = frozenset(symbol for viseme in ("aa", "E", "I", "O", "U") for symbol in _OF_IPA[viseme].split()) - set("jwɥʍ")

# fmt: off
_ARPABET = {
    "aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "aʊ", "ax": "ə", "axr": "ɚ", "ay": "aɪ", "b": "b", "ch": "tʃ",
    "d": "d", "dh": "ð", "dx": "ɾ", "eh": "ɛ", "el": "l", "em": "m", "en": "n", "er": "ɚ", "ey": "eɪ", "f": "f",
    "g": "ɡ", "hh": "h", "hv": "h", "ih": "ɪ", "ix": "ɪ", "iy": "i", "jh": "dʒ", "k": "k", "l": "l", "m": "m",
    "n": "n", "ng": "ŋ", "nx": "n", "ow": "oʊ", "oy": "ɔɪ", "p": "p", "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t",
    "th": "θ", "uh": "ʊ", "uw": "u", "v": "v", "w": "w", "y": "j", "z": "z", "zh": "ʒ",
}
# fmt: on


@dataclass(frozen=True)
class Phone:
    """One phone as a synthesiser spoke it: IPA ("" is silence), from `start_s` to `end_s`."""

    ipa: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Sound:
    """A viseme that speech shows from `start_s` to `end_s`, seconds from the sound's beginning."""

    viseme: str
    start_s: float
    end_s: float

    @property
    def middle_s(self) -> float:
        return 0.5 * (self.start_s + self.end_s)


def ipa_of_arpabet(name: str) -> str:
    """IPA of a phone of American English ("AA", "aa1"); "" for what is none of them (pauses, noises)."""
    return _ARPABET.get(name.lower().rstrip("012"), "")


def sounds_of(phones: Iterable[Phone]) -> list[Sound]:
    """Visemes of phones, neighbours of one kind joined; a phone of several letters (aɪ, tʃ) shares its time out.

    Length marks, stress and tones are passed over; a letter that no table has counts as the one before it, or is
    left out.
    """
    joined: list[Sound] = []
    for sound in (part for phone in phones for part in _parts(phone)):
        if joined and joined[-1].viseme == sound.viseme and abs(joined[-1].end_s - sound.start_s) < 1e-6:
            joined[-1] = Sound(sound.viseme, joined[-1].start_s, sound.end_s)
        else:
            joined.append(sound)
    return joined


def _parts(phone: Phone) -> Iterator[Sound]:
    if phone.end_s <= phone.start_s:
        return
    letters = [letter for letter in unicodedata.normalize("NFD", phone.ipa) if letter in VISEME_OF_IPA]
    if not letters:
        if not phone.ipa:
            yield Sound(SILENCE, phone.start_s, phone.end_s)
        return
    step = (phone.end_s - phone.start_s) / len(letters)
    for i, letter in enumerate(letters):
        yield Sound(VISEME_OF_IPA[letter], phone.start_s + i * step, phone.start_s + (i + 1) * step)


def complete(sounds: Iterable[Sound], seconds: float, *, shortest_pause_s: float = 0.1) -> list[Sound]:
    """The sounds from 0 to `seconds` without gaps: silence fills what is longer than `shortest_pause_s`.

    A shorter pause within speech is a stop's or none to the eye: the sound before it lasts until the next.
    """
    filled: list[Sound] = []
    now = 0.0
    for sound in sounds:
        if sound.viseme == SILENCE or sound.end_s <= max(sound.start_s, now) or sound.start_s >= seconds:
            continue
        start = max(sound.start_s, now)
        if start - now >= shortest_pause_s:
            filled.append(Sound(SILENCE, now, start))
        elif filled:
            filled[-1] = Sound(filled[-1].viseme, filled[-1].start_s, start)
        else:
            start = 0.0
        now = min(sound.end_s, seconds)
        filled.append(Sound(sound.viseme, start, now))
    if seconds - now > 0.0 or not filled:
        filled.append(Sound(SILENCE, now, max(seconds, now)))
    return filled
