"""Blocks on disk: codes that round-trip, pictures that depend on their number alone, work that resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstudio.synthetic import dataset
from headstudio.synthetic.dataset import (
    block_path,
    decode_attributes,
    encode_attributes,
    pack_surface,
    read_block,
    unpack_surface,
    write_block,
)
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
    drawn = sampler(4)
    assert np.array_equal(block.pictures[1], drawn.picture)
    assert np.array_equal(block.controls[1], drawn.control)
    assert np.array_equal(block.surfaces[1], drawn.surface)
    assert decode_attributes(block.attributes[1]) == drawn.attributes
    assert block.characters[1] == drawn.character
    assert block.angles_deg[1] == pytest.approx(drawn.angles_deg)
    assert str(block.crops[1]) == drawn.crop


def test_surfaces_survive_as_bytes() -> None:
    normals = torch.nn.functional.normalize(torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    regions = torch.arange(35).reshape(5, 7) - 1
    again, places = unpack_surface(pack_surface(normals, regions))
    assert torch.equal(places, regions)
    assert float((again - normals).abs().max()) < 0.01


def test_characters_show_their_looks_and_the_rest_is_never_held_out(sampler: Any) -> None:
    for index in range(12):
        drawn = sampler(index)
        assert abs(drawn.angles_deg[0]) <= 180
        if drawn.character >= 0:
            assert drawn.attributes == list(CHARACTERS.values())[drawn.character]
        else:
            assert not is_held_out(drawn.attributes)
