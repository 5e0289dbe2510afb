"""Lists of sentences: those that ship say what their prior knows, and every sentence survives the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import given
from hypothesis import strategies as st

from headstudio import cli
from headstudio.errors import UserError
from headstudio.guidance.vocabulary import check_vocabulary
from headstudio.prompts import expand, lists, quoted, read_prompts, unquoted
from headstudio.synthetic.candidates import measured
from headstudio.synthetic.reading import parse

VOCABULARY = Path(cli.__file__).parent / "assets" / "prior_tiny" / "vocabulary.txt"


def swept(argument: str) -> list[str]:
    """The values of a sweep, one override each, as Hydra's parser reads them."""
    parser = OverridesParser.create()
    found = []
    for value in parser.parse_override(argument).value().list:  # type: ignore[union-attr]
        word = value.with_quotes() if isinstance(value, QuotedString) else value
        found.append(str(parser.parse_override(f"prompt={word}").value()))
    return found


@pytest.mark.parametrize("name", sorted(lists()))
def test_a_list_says_what_it_is_and_holds_sentences(name: str) -> None:
    sentences = read_prompts(name)
    assert len(lists()[name]) > 20
    assert all(3 <= len(sentence.split()) <= 20 for sentence in sentences)
    if digits := "".join(c for c in name if c.isdigit()):
        assert len(sentences) == int(digits)


@pytest.mark.parametrize("name", ["ablation8", "no_mouth8", "tiny3", "tiny8", "tiny24"])
def test_the_tiny_prior_knows_every_word_and_the_benchmark_can_judge(name: str) -> None:
    words = frozenset(VOCABULARY.read_text().split())
    if name == "no_mouth8" and "mouth" not in words:
        pytest.skip("the shipped prior was trained before there were heads without a mouth")
    for sentence in read_prompts(name):
        assert not check_vocabulary(sentence, words), sentence
        assert measured(parse(sentence)), sentence


def test_the_papers_characters_are_among_those_that_clip_tells_apart() -> None:
    assert set(read_prompts("paper10")) <= set(read_prompts("characters64"))


def test_a_name_becomes_a_sweep_of_its_sentences() -> None:
    (argument, seeds) = expand(["prompt=@tiny3", "seed=0,1", "-m"])[:2]
    assert swept(argument) == read_prompts("tiny3")
    assert seeds == "seed=0,1"
    both = expand(["-m", "prompt=@tiny3,@tiny8"])[1]
    assert expand(["-m", "+prompts=tiny3,tiny8"])[1] == both
    assert swept(both) == [*read_prompts("tiny3"), *read_prompts("tiny8")]


def test_a_file_is_a_list(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("# mine\n\n  a green head \na head, with 'quotes'\na green head\n", encoding="utf-8-sig")
    assert read_prompts(str(file)) == ["a green head", "a head, with 'quotes'"]
    assert swept(expand(["-m", f"prompt=@{file}"])[1]) == ["a green head", "a head, with 'quotes'"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\r$", exclude_categories=["C"]), min_size=1))
def test_any_sentence_survives_hydras_grammar(sentence: str) -> None:
    assert swept(f"prompt={quoted(sentence)},'x'")[0] == sentence
    assert OverridesParser.create().parse_override(f"prompt={quoted(sentence)}").value() == sentence
    assert unquoted(quoted(sentence)) == sentence


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("'a bald man'", "a bald man"),
        ('"it\'s"', "it's"),
        (r"'it\'s'", "it's"),
        ("scaled", "scaled"),
        ("'a','b'", "'a','b'"),
        ("['a']", "['a']"),
        ("'", "'"),
        ("", ""),
    ],
)
def test_what_is_shown_has_no_quotes_of_the_grammar(value: str, meant: str) -> None:
    assert unquoted(value) == meant


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no list of prompts 'tiny9'.*tiny3"):
        expand(["-m", "prompt=@tiny9"])
    with pytest.raises(UserError, match="add -m"):
        expand(["prompt=@tiny8"])
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(UserError, match="holds no sentence"):
        read_prompts(str(tmp_path / "empty.txt"))
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="no UTF-8 text"):
        read_prompts(str(tmp_path / "binary.txt"))


def test_the_help_names_the_lists() -> None:
    assert all(name in cli.help_text() for name in lists())
