"""Oracles: espeak-ng's program and its library, which say the same samples; words whose phones everybody knows."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from headstudio.errors import UserError
from headstudio.speech import espeak, scripts
from headstudio.speech.audio import read_audio
from headstudio.speech.voice import program, sounds_spoken, speak

TEXT = "Bob put my map up.\nA problem, -maybe! <b>it's</b> über"


SAY = """
import sys
import numpy as np
from headstudio.speech import espeak, scripts
spoken = espeak.say(sys.argv[1], voice=sys.argv[2], words_per_minute=int(sys.argv[3]))
np.savez(sys.argv[4], samples=spoken.samples, starts=[phone.start_s for phone in spoken.phones])
"""


@pytest.mark.usefixtures("espeak_ng")
@pytest.mark.parametrize(("voice", "rate"), [("en-us", 160), ("de", 120), ("en+f3", 220)])
def test_the_library_times_what_the_program_says(tmp_path: Path, voice: str, rate: int) -> None:
    hertz, samples = wavfile.read(speak(TEXT, tmp_path / "a.wav", voice=voice, words_per_minute=rate))
    assert hertz == 22_050
    command = [sys.executable, "-c", SAY, " ".join(TEXT.split()), voice, str(rate), str(tmp_path / "b.npz")]
    subprocess.run(command, check=True)
    with np.load(tmp_path / "b.npz") as fresh:
        ours, starts = (fresh["samples"] * 32768.0).round().astype(np.int16), fresh["starts"]
    assert len(ours) > 2 * hertz
    np.testing.assert_array_equal(samples[: len(ours)], ours)
    assert len(samples) - len(ours) < 0.7 * hertz, "only a pause, with the voice's echo, is missing at the end"
    timed = espeak.timed(" ".join(TEXT.split()), voice=voice, words_per_minute=rate)
    assert [phone.start_s for phone in timed] == starts.tolist()
    sounds = sounds_spoken(TEXT, voice=voice, words_per_minute=rate)
    assert sounds is not None
    assert sounds[-1].end_s <= len(samples) / hertz
    assert all(before.end_s <= after.start_s + 1e-6 for before, after in pairwise(sounds))


@pytest.mark.usefixtures("espeak_ng")
def test_words_have_their_sounds() -> None:
    for word, visemes in {"Bob": "PP aa PP", "map": "PP aa PP", "fish": "FF I CH", "sauce": "SS O SS"}.items():
        sounds = sounds_spoken(word, voice="en-us", words_per_minute=150)
        assert sounds is not None
        assert [sound.viseme for sound in sounds if sound.viseme != "sil"] == visemes.split()


@pytest.mark.usefixtures("espeak_ng")
def test_what_is_written_is_the_same_each_time_and_faster_is_shorter(tmp_path: Path) -> None:
    first = speak("hello there", tmp_path / "a.wav", voice="en-us", words_per_minute=120)
    again = speak("hello there", tmp_path / "b.wav", voice="en-us", words_per_minute=120)
    fast = speak("hello there", tmp_path / "c.wav", voice="en-us", words_per_minute=240)
    assert first.read_bytes() == again.read_bytes()
    assert read_audio(fast).seconds < 0.75 * read_audio(first).seconds
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav", "c.wav"]


@pytest.mark.usefixtures("espeak_ng")
def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    with pytest.raises(UserError, match="voice=xx-nobody is no voice of espeak"):
        speak("hello", path, voice="xx-nobody", words_per_minute=150)
    with pytest.raises(UserError, match="no voice 'xx-nobody'"):
        sounds_spoken("hello", voice="xx-nobody", words_per_minute=150)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(UserError, match="there is no folder"):
        speak("hello", tmp_path / "none" / "a.wav", voice="en-us", words_per_minute=150)


@pytest.mark.parametrize(("text", "rate", "message"), [(" \n", 150, "text is empty"), ("a", 20, "between 80 and 450")])
def test_what_cannot_be_said(tmp_path: Path, text: str, rate: int, message: str) -> None:
    for function in (lambda **k: speak(text, tmp_path / "a.wav", **k), lambda **k: sounds_spoken(text, **k)):
        with pytest.raises(UserError, match=message):
            function(voice="en-us", words_per_minute=rate)


def test_without_the_program_one_sentence_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert program() is None
    with pytest.raises(UserError, match="apt-get install espeak-ng, or brew install espeak-ng"):
        speak("hello", tmp_path / "a.wav", voice="en-us", words_per_minute=150)
    assert not list(tmp_path.iterdir())


SPELT = [
    ("привет", "en+f3", "voice=en+f3 spells out Cyrillic letters instead of reading the words; voice=ru reads them."),
    ("hello мир", "de", "spells out Cyrillic letters"),
    ("こんにちは、世界", "de", "spells out Hiragana and CJK letters instead of reading the words; voice=ja reads them"),
    ("שלום", "en-us", "voice=he"),
    ("สวัสดี", "en-us", "voice=th"),
]
READ = [("über Café, 123!", "en-us"), ("hello", "ja"), ("привет", "ru-lv"), ("你好", "yue"), ("Ω", "el")]
PASSED_ON = [("γειά σου", "de"), ("안녕하세요", "en"), ("नमस्ते", "en-us")]  # espeak-ng's voices know another for these


@pytest.mark.usefixtures("espeak_ng")
@pytest.mark.parametrize(("text", "voice", "told"), SPELT)
def test_words_that_a_voice_spells_out_are_told(text: str, voice: str, told: str) -> None:
    assert told in scripts.unread(text, voice)


@pytest.mark.usefixtures("espeak_ng")
@pytest.mark.parametrize(("text", "voice"), [*READ, *PASSED_ON])
def test_words_that_a_voice_reads_are_not_told(text: str, voice: str) -> None:
    assert scripts.unread(text, voice) == ""


@pytest.mark.usefixtures("espeak_ng")
def test_a_voice_that_is_not_here_or_says_nothing_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scripts.VOICES, "CYRILLIC", ("xx-nobody",))
    assert "voice=xx-nobody reads them" in scripts.unread("привет", "en-us")
    monkeypatch.undo()
    monkeypatch.setattr(espeak, "timed", lambda *_, **__: [])
    assert "voice=ru reads them" in scripts.unread("привет", "en-us")


@pytest.mark.usefixtures("espeak_ng")
def test_every_voice_that_is_named_for_a_script_exists() -> None:
    listed = subprocess.run(["espeak-ng", "--voices"], check=True, capture_output=True, text=True).stdout
    languages = {line.split()[1].partition("-")[0] for line in listed.splitlines()[1:]}
    assert {name for names in scripts.VOICES.values() for name in names} <= languages
