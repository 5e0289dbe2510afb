"""Which voices read which script: of a script that is not its language's, a voice may only say the letters' names."""

from __future__ import annotations

import unicodedata
from collections import Counter

from headstudio.errors import UserError
from headstudio.speech import espeak

SPELT = 1.5  # times as long as reading: names of letters take 1.9 to 14 times, words 0.9 to 1.1 (11 scripts, 5 voices)
VOICES = {
    "ARABIC": ("ar", "fa", "ku", "sd", "ug", "ur"),
    "ARMENIAN": ("hy", "hyw"),
    "BENGALI": ("bn", "as", "bpy"),
    "CHEROKEE": ("chr",),
    "CJK": ("cmn", "yue", "hak", "ja"),
    "CYRILLIC": ("ru", "ba", "be", "bg", "cv", "kk", "ky", "mk", "nog", "sr", "tt", "uk"),
    "DEVANAGARI": ("hi", "kok", "mr", "ne"),
    "ETHIOPIC": ("am",),
    "GEORGIAN": ("ka",),
    "GREEK": ("el", "grc"),
    "GUJARATI": ("gu",),
    "GURMUKHI": ("pa",),
    "HANGUL": ("ko",),
    "HEBREW": ("he",),
    "HIRAGANA": ("ja",),
    "KANNADA": ("kn",),
    "KATAKANA": ("ja",),
    "MALAYALAM": ("ml",),
    "MYANMAR": ("my", "shn"),
    "ORIYA": ("or",),
    "SINHALA": ("si",),
    "TAMIL": ("ta",),
    "TELUGU": ("te",),
    "THAI": ("th",),
}
"""Script, as Unicode's names of letters begin, to the languages of espeak-ng's voices that read it, likeliest first.

Latin letters are left out: nearly every voice reads them, in its own language or in English.
"""


def unread(text: str, voice: str) -> str:
    """A sentence about words of `text` that the voice spells out instead of reading them; empty if there are none.

    Where espeak-ng's library is here it is asked how long they take, as some voices pass some scripts on to another.

    Args:
        text: what is to be said.
        voice: espeak-ng's name of it, such as "en-us", "ru" or "en+f3".
    """
    language = voice.partition("+")[0].partition("-")[0].lower()
    scripts = Counter(map(_script, filter(str.isalpha, text)))
    foreign = {script: many for script, many in scripts.items() if language not in VOICES.get(script, (language,))}
    if not foreign:
        return ""
    # Kanji and kana lie side by side in Japanese: one voice that reads all says more than one for the most frequent
    likely = [name for script in foreign for name in VOICES[script]]
    best = max(likely, key=lambda name: sum(many for script, many in foreign.items() if name in VOICES[script]))
    words = " ".join(word for word in text.split() if any(_script(letter) in foreign for letter in word))
    if espeak.available() and _reads(words, voice, best):
        return ""
    named = " and ".join(script if script == "CJK" else script.capitalize() for script in foreign)
    return f"voice={voice} spells out {named} letters instead of reading the words; voice={best} reads them."


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _reads(words: str, voice: str, best: str) -> bool:
    """Whether the voice takes about as long as one that reads these words; not if it says nothing at all."""
    try:
        return 0.0 < _seconds(words, voice) < SPELT * _seconds(words, best)
    except UserError:  # an espeak-ng without the other voice
        return False


def _seconds(words: str, voice: str) -> float:
    phones = espeak.timed(words, voice=voice, words_per_minute=160)
    return phones[-1].start_s if phones else 0.0
