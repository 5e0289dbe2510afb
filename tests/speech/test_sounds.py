"""Oracles: phones whose mouths everybody knows, and what a course without gaps is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstudio.motion.faces import VISEMES
from headstudio.speech.mouth import MANNERS
from headstudio.speech.sounds import (
    NAMES,
    SILENCE,
    VISEME_OF_IPA,
    Phone,
    Sound,
    complete,
    ipa_of_arpabet,
    sounds_of,
)

CMU = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"


def test_every_viseme_has_sounds_and_a_manner() -> None:
    assert set(VISEME_OF_IPA.values()) == set(VISEMES) - {SILENCE}
    assert set(MANNERS) == set(NAMES) == set(VISEMES)


def test_every_phone_of_english_is_known() -> None:
    for name in CMU.split():
        assert sounds_of([Phone(ipa_of_arpabet(name), 0.0, 1.0)]), name
    assert ipa_of_arpabet("pau") == ""
    assert ipa_of_arpabet("AA1") == "ɑ"


@pytest.mark.parametrize(
    ("ipa", "visemes"),
    [
        ("p", ["PP"]), ("mʲ", ["PP"]), ("uː", ["U"]), ("ɑː", ["aa"]), ("aɪ", ["aa", "I"]), ("tʃ", ["DD", "CH"]),
        ("f", ["FF"]), ("ɔ̃", ["O"]), ("pf", ["PP", "FF"]), ("", ["sil"]), ("(en)", ["E", "nn"]), ("?", []),
    ],
)  # fmt: skip
def test_what_a_phone_looks_like(ipa: str, visemes: list[str]) -> None:
    sounds = sounds_of([Phone(ipa, 1.0, 1.2)])
    assert [sound.viseme for sound in sounds] == visemes
    if sounds:
        assert (sounds[0].start_s, sounds[-1].end_s) == (1.0, pytest.approx(1.2))


def test_neighbours_that_look_alike_are_one() -> None:
    assert sounds_of([Phone("p", 0.0, 0.1), Phone("b", 0.1, 0.2)]) == [Sound("PP", 0.0, 0.2)]
    assert len(sounds_of([Phone("p", 0.0, 0.1), Phone("b", 0.15, 0.2)])) == 2


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.floats(0.0, 0.3), st.floats(0.0, 0.3)), max_size=20), st.floats(0, 5)
)
def test_a_complete_course_has_no_gaps(parts: list[tuple[str, float, float]], seconds: float) -> None:
    sounds, now = [], 0.0
    for name, gap, length in parts:
        sounds.append(Sound(name, now + gap, now + gap + length))
        now += gap + length
    course = complete(sounds, seconds)
    assert course[0].start_s == 0.0
    assert course[-1].end_s == pytest.approx(seconds)
    for before, after in itertools.pairwise(course):
        assert before.end_s == after.start_s
        assert before.end_s >= before.start_s
    kept = [s.viseme for s in course if s.viseme != SILENCE]
    whole = [s.viseme for s in sounds if s.viseme != SILENCE and s.start_s < seconds and s.end_s > s.start_s]
    assert kept == whole
