"""Sentences say exactly the looks that they were written for, and are read back as such."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headstudio
from headstudio.guidance.vocabulary import check_colors, load_colors
from headstudio.synthetic.captions import NEGATIVE, VIEWS, caption, character_caption, colors, vocabulary
from headstudio.synthetic.reading import parse
from headstudio.synthetic.samples import random_attributes
from headstudio.synthetic.vocabulary import CHARACTERS, OPTIONS, Attributes, consistent

looks = st.builds(Attributes, **{name: st.sampled_from(options) for name, options in OPTIONS.items()}).map(consistent)
seeds = st.integers(0, 2**32 - 1)
WORDS = frozenset(vocabulary())


@given(attributes=looks, seed=seeds)
def test_a_caption_is_read_back_as_the_same_looks(attributes: Attributes, seed: int) -> None:
    reading = parse(caption(attributes, np.random.default_rng(seed)))
    assert reading.attributes == attributes
    assert set(reading.unread) <= {"a", "an", "of"}


@given(attributes=looks, seed=seeds)
def test_what_is_not_the_default_is_named(attributes: Attributes, seed: int) -> None:
    named = parse(caption(attributes, np.random.default_rng(seed), mention_default=0.0)).named
    different = {name for name in OPTIONS if getattr(attributes, name) != getattr(Attributes(), name)}
    if attributes.beard == "none":
        different.discard("beard_color")  # follows the hair, and cannot be seen
    assert different <= named


@given(attributes=looks, seed=seeds, view=st.sampled_from(VIEWS))
def test_every_word_of_a_caption_is_known(attributes: Attributes, seed: int, view: str) -> None:
    text = f"{caption(attributes, np.random.default_rng(seed))}, {view}, {NEGATIVE}"
    assert set(re.findall("[a-z]+", text.lower())) <= WORDS


@pytest.mark.parametrize("name", CHARACTERS)
def test_a_character_has_its_looks(name: str) -> None:
    text = character_caption(name, np.random.default_rng(0))
    assert parse(text).attributes == consistent(CHARACTERS[name])
    assert set(re.findall("[a-z]+", text.lower())) <= WORDS


@pytest.mark.parametrize(
    ("sentence", "looks"),
    [
        ("a head with green skin, purple hair and red lips", {"skin": "green", "hair_color": "purple", "lips": "red"}),
        ("A LONG white beard.", {"beard": "long", "beard_color": "white"}),
        ("long blonde hair and a mustache", {"hair_style": "long", "hair_color": "blond", "beard": "moustache"}),
        ("an elderly guy, clean shaven, no hair", {"age": "old", "gender": "man", "hair_style": "bald"}),
        ("black skin and a black mask", {"skin": "dark", "paint": "black_mask"}),
        ("blue war paint, a yellow cap", {"paint": "blue_stripes", "hat": "cap", "hat_color": "yellow"}),
        ("a ginger bun and a crown", {"hair_style": "bun", "hair_color": "ginger", "hat": "crown"}),
    ],
)
def test_hand_written_sentences(sentence: str, looks: dict[str, str]) -> None:
    reading = parse(sentence)
    assert {name: getattr(reading.attributes, name) for name in looks} == looks
    assert set(looks) <= reading.named


def test_a_beard_without_a_colour_has_that_of_the_hair() -> None:
    assert parse("red hair and a beard").attributes.beard_color == "red"
    assert parse("Gandalf with green hair and a long beard").attributes.beard_color == "green"


def test_a_character_can_be_changed() -> None:
    reading = parse("Hulk with blue skin and a red cap")
    assert (reading.attributes.skin, reading.attributes.hat, reading.attributes.hair_color) == ("blue", "cap", "black")


def test_colours_that_a_thing_cannot_have_are_unread() -> None:
    reading = parse("a head with black eyes, blond skin, a purple cap and sparkling green lips")
    assert reading.attributes == consistent(Attributes(lips="green", hat="cap"))
    assert reading.named == {"lips", "hat"}
    assert {"black", "blond", "purple", "sparkling"} <= set(reading.unread)


def test_the_shipped_prior_lists_the_colours_of_its_captions() -> None:
    """And no caption has another: what the reader takes for impossible is what a user is told."""
    listed = load_colors(Path(headstudio.__file__).parent / "assets" / "prior_tiny")
    assert listed == colors()
    assert {"golden", "teal"} <= set(listed["skin"])
    rng = np.random.default_rng(1)
    for _ in range(2000):
        sentence = caption(random_attributes(rng), rng)
        assert check_colors(sentence, listed) == {}, sentence
    assert check_colors("a man with teal hair and a golden top hat", listed) == {"hair": "teal", "hat": "golden"}
