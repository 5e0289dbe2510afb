"""Blocks on disk: codes that round-trip, pictures that depend on their number alone, work that resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstudio.synthetic import dataset
from headstudio.synthetic.dataset import block_path, decode_attributes, encode_attributes, read_block, write_block
from headstudio.synthetic.samples import is_held_out
from headstudio.synthetic.vocabulary import CHARACTERS, OPTIONS, Attributes

looks = st.builds(Attributes, **{name: st.sampled_from(options) for name, options in OPTIONS.items()})


@given(attributes=looks)
def test_attributes_round_trip_as_bytes(attributes: Attributes) -> None:
    assert decode_attributes(np.array(encode_attributes(attributes), np.uint8)) == attributes


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, sampler: Any) -> None:
    """Blocks of three pictures, from the session's sampler."""
    monkeypatch.setattr(dataset, "BLOCK", 3)
    monkeypatch.setattr(dataset, "WorldSampler", lambda settings: sampler)


@pytest.mark.usefixtures("small")
def test_an_interrupted_command_goes_on(tmp_path: Path) -> None:
    dataset.main([str(tmp_path), "count=6"])
    first, second = block_path(tmp_path, 0), block_path(tmp_path, 1)
    whole, stamp = second.read_bytes(), first.stat().st_mtime_ns
    second.unlink()
    second.with_suffix(".partial").write_bytes(whole[:1000])  # killed while writing
    dataset.main([str(tmp_path), "count=6"])
    with np.load(second) as file:
        again = {name: file[name] for name in file.files}
    assert first.stat().st_mtime_ns == stamp
    block = read_block(tmp_path, 1)
    assert all(np.array_equal(getattr(block, name), value) for name, value in again.items())
    assert second.read_bytes() == whole


@pytest.mark.usefixtures("small")
def test_a_block_holds_what_the_sampler_drew(tmp_path: Path, sampler: Any) -> None:
    write_block(sampler, tmp_path, 1)
    write_block(sampler, tmp_path, 0)
    block = read_block(tmp_path, 1)
    assert block.pictures.shape == block.controls.shape == (3, 128, 128, 3)
    picture, control, attributes, character, angles = sampler(4)
    assert np.array_equal(block.pictures[1], picture)
    assert np.array_equal(block.controls[1], control)
    assert decode_attributes(block.attributes[1]) == attributes
    assert block.characters[1] == character
    assert block.angles_deg[1] == pytest.approx(angles)


def test_characters_show_their_looks_and_the_rest_is_never_held_out(sampler: Any) -> None:
    for index in range(12):
        _, _, attributes, character, angles = sampler(index)
        assert abs(angles[0]) <= 180
        if character >= 0:
            assert attributes == list(CHARACTERS.values())[character]
        else:
            assert not is_held_out(attributes)
