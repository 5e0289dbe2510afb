"""The sentences that a sentence is told from, and ranks against a plain loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstudio.errors import UserError
from headstudio.evaluate.retrieval import other_sentences, ranks_of_first
from headstudio.prompts import read_prompts
from headstudio.synthetic.reading import parse

SENTENCE = "a head with green skin, purple hair and red lips"


def world(sentence: str, count: int, seed: int = 0) -> list[str]:
    return other_sentences(sentence, name=None, count=count, seed=seed)


def test_sentences_of_the_world_are_fixed_and_mean_other_looks() -> None:
    first = world(SENTENCE, 63)
    assert first == world(SENTENCE, 63)
    assert first != world(SENTENCE, 63, seed=1)
    assert len({parse(text).attributes for text in [SENTENCE, *first]}) == 64


def test_one_with_the_same_looks_is_left_out() -> None:
    taken = world(SENTENCE, 5)[2]
    assert parse(taken).attributes not in {parse(text).attributes for text in world(taken, 5)}


@pytest.mark.parametrize("sentence", ["a DSLR portrait of Joker in DC", "a DSLR portrait of my neighbour"])
def test_a_list_gives_as_many_others_whether_it_holds_the_sentence_or_not(sentence: str) -> None:
    found = other_sentences(sentence, name="characters64", count=63, seed=0)
    assert len(set(found)) == 63
    assert sentence not in found
    assert set(found) <= set(read_prompts("characters64"))


def test_a_short_list_is_told(tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    with pytest.raises(UserError, match=r"has 1 other sentences, but others\.count=63"):
        other_sentences("One", name=str(tmp_path / "few.txt"), count=63, seed=0)


@given(st.integers(1, 5), st.integers(2, 6), st.integers(0, 10**6))
def test_ranks_are_those_of_a_plain_loop(images: int, texts: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    picture, text = torch.randn(images, 4, generator=generator), torch.randn(texts, 4, generator=generator)
    for row, rank in zip(picture, ranks_of_first(picture, text).tolist(), strict=True):
        cosines = [float(torch.nn.functional.cosine_similarity(row, other, dim=0)) for other in text]
        assert rank == 1 + sum(cosine > cosines[0] for cosine in cosines[1:])


def test_a_tie_counts_against_the_sentence() -> None:
    image = torch.tensor([[1.0, 0.0]])
    right, worse, better = torch.tensor([0.8, 0.6]), torch.tensor([0.6, 0.8]), torch.tensor([2.0, 0.0])
    assert ranks_of_first(image, torch.stack([right, worse, worse])).tolist() == [1]
    assert ranks_of_first(image, torch.stack([right, worse, better])).tolist() == [2]
    assert ranks_of_first(image, torch.stack([right, right, worse])).tolist() == [2]
