"""Which prompts are refused, which words are named."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstudio.errors import UserError
from headstudio.guidance.vocabulary import (
    STOP_WORDS,
    check_colors,
    check_vocabulary,
    load_colors,
    load_vocabulary,
    require_known_prompt,
)

WORDS = frozenset(["head", "green", "skin", "long-haired", "hulk"])
FILE = "somewhere/vocabulary.txt"


def test_unknown_words_are_named_once_in_order() -> None:
    assert check_vocabulary("A Head with shiny GREEN skin, shiny dusty", WORDS) == ["shiny", "dusty"]


def test_joined_words_are_looked_up_whole_then_in_parts() -> None:
    assert check_vocabulary("the Hulk's long-haired head, green-skin, short-haired", WORDS) == ["short", "haired"]


@given(st.lists(st.sampled_from(sorted(WORDS | STOP_WORDS)), min_size=1))
def test_known_words_raise_no_complaint(words: list[str]) -> None:
    assert check_vocabulary(", ".join(words), WORDS) == []


@given(st.text(alphabet=" ,.!-'\n\t"))
def test_a_prompt_without_words_is_refused(prompt: str) -> None:
    with pytest.raises(UserError, match=r"^prompt=.* is empty"):
        require_known_prompt(prompt, None, file=FILE)


@pytest.mark.parametrize("prompt", ["zebra", "a bicycle with wheels", "the of", "髪"])
def test_a_foreign_prompt_is_refused_and_the_vocabulary_named(prompt: str) -> None:
    with pytest.raises(UserError, match=re.escape(FILE)):
        require_known_prompt(prompt, WORDS, file=FILE)


def test_a_prior_without_vocabulary_takes_any_words() -> None:
    require_known_prompt("zebra", None, file=FILE)


def test_single_unknown_words_warn(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        require_known_prompt("a green head on a bicycle", WORDS, file=FILE)
    assert "'bicycle'" in caplog.text
    assert "'green'" not in caplog.text


@pytest.mark.parametrize(
    ("prompt", "strange"),
    [
        ("a man with teal hair", {"hair": "teal"}),
        ("A Teal-haired man, red skin", {"haired": "teal"}),
        ("teal skin and red hair with a red top hat", {}),
        ("a golden top hat, golden hair", {"hat": "golden", "hair": "golden"}),
        ("a woman in teal with red hair, teal and red hair", {}),
        ("a teal nose or red hair, mauve hair", {}),  # of things and colours that are not listed nothing is known
    ],
)
def test_a_colour_of_other_things_is_told(
    prompt: str, strange: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    colors = {"skin": ["teal", "red"], "hair": ["red"], "haired": ["red"], "hat": ["red", "blue"], "crown": ["golden"]}
    assert check_colors(prompt, colors) == strange
    require_known_prompt(prompt, None, file=FILE, colors=colors)
    assert not caplog.text
    require_known_prompt(prompt, WORDS | {"hair", "red"}, file=FILE, colors=colors)
    for thing, color in strange.items():
        assert (
            f"never seen {color} {thing}, so expect another colour (it knows {' and '.join(colors[thing])})"
            in caplog.text
        )
    assert caplog.text.count("never seen") == len(strange)


def test_the_file_has_one_word_a_line(tmp_path: Path) -> None:
    assert load_vocabulary(tmp_path) is None
    (tmp_path / "vocabulary.txt").write_text("Green\n\n head \n", encoding="utf-8")
    assert load_vocabulary(tmp_path) == {"green", "head"}


def test_a_folder_without_colours_lists_none(tmp_path: Path) -> None:
    assert load_colors(tmp_path) == {}
    (tmp_path / "colors.json").write_text('{"hair": ["red"]}', encoding="utf-8")
    assert load_colors(tmp_path) == {"hair": ["red"]}
