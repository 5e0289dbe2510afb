"""Which view a camera has, and that its embedding is that of its text."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstudio.errors import UserError
from headstudio.guidance.debias import PerpNeg
from headstudio.guidance.prior import Prior
from headstudio.guidance.prompts import VIEWS, ViewPrompts
from headstudio.types import Cameras

SETTINGS: dict[str, Any] = {
    "prompt": "a red head",
    "negative_prompt": "blurry",
    "view_text": {view: f"{{prompt}}, {view} view" for view in VIEWS},
    "crop_text": {"eyes": "{prompt}, its eyes", "mouth": "{prompt}, its mouth"},
    "front_within_deg": 45.0,
    "back_beyond_deg": 135.0,
    "overhead_above_deg": 60.0,
}


def cameras(azimuth_deg: list[float], elevation_deg: list[float]) -> Cameras:
    count = len(azimuth_deg)
    return Cameras(
        camera_from_world=torch.eye(4).expand(count, 4, 4),
        intrinsics=torch.eye(3).expand(count, 3, 3),
        azimuth_deg=torch.tensor(azimuth_deg),
        elevation_deg=torch.tensor(elevation_deg),
        width=64,
        height=64,
    )


@pytest.fixture(scope="module")
def prompts(components: dict[str, Any]) -> ViewPrompts:
    return ViewPrompts(Prior(**components), **SETTINGS)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "view"),
    [
        (0, 0, "front"),
        (45, 60, "front"),
        (-44, -30, "front"),
        (46, 0, "side"),
        (-90, 10, "side"),
        (134, 0, "side"),
        (135, 0, "back"),
        (-170, 0, "back"),
        (180, 0, "back"),
        (0, 61, "overhead"),
        (180, 80, "overhead"),
    ],
)
def test_views(prompts: ViewPrompts, azimuth: float, elevation: float, view: str) -> None:
    assert VIEWS[int(prompts.views(cameras([azimuth], [elevation])))] == view


def test_close_views_read_the_text_of_what_they_show(components: dict[str, Any]) -> None:
    strengths = {"front_in_front": (1.0, 0.5, 0.0), "side_in_front": (1.0, 0.5, 0.0)}
    strengths |= {"side_behind": (1.0, 0.5, 0.0), "front_behind": (1.0, 0.5, 0.0)}
    for perp_neg in (None, PerpNeg(**strengths)):
        prompts = ViewPrompts(Prior(**components), **SETTINGS, perp_neg=perp_neg)
        whole = cameras([0, 20, 100], [0, 0, 0])
        plain, found = prompts(whole), prompts(replace(whole, crops=("", "mouth", "eyes")))
        expected = Prior(**components).encode_prompts(["a red head, its mouth", "a red head, its eyes"])
        torch.testing.assert_close(found.text[1:], expected)
        assert torch.equal(found.text[0], plain.text[0])
        if perp_neg is not None:
            assert found.opposed is not None
            assert plain.opposed is not None
            assert torch.equal(found.opposed.weights[0], plain.opposed.weights[0])
            assert bool(plain.opposed.weights[1:].any())
            assert not bool(found.opposed.weights[1:].any())
    with pytest.raises(UserError, match=r"names nose, for which prompts\.crop_text has no text; it has eyes, mouth"):
        prompts(replace(whole, crops=("", "nose", "eyes")))


@given(azimuth=st.floats(0, 180, width=32), elevation=st.floats(-90, 90, width=32))
def test_left_and_right_see_the_same_text(prompts: ViewPrompts, azimuth: float, elevation: float) -> None:
    left, right = prompts.views(cameras([azimuth, -azimuth], [elevation, elevation])).tolist()
    assert left == right


def test_each_camera_gets_the_embedding_of_its_text(components: dict[str, Any], prompts: ViewPrompts) -> None:
    found = prompts(cameras([0, 180, 90, 0], [0, 0, 0, 70]))
    texts = [f"a red head, {view} view" for view in ("front", "back", "side", "overhead")]
    expected = Prior(**components).encode_prompts([*texts, "", "blurry"])
    torch.testing.assert_close(found.text, expected[:4])
    torch.testing.assert_close(found.null, expected[4:5].expand(4, -1, -1))
    torch.testing.assert_close(found.negative, expected[5:6].expand(4, -1, -1))
    assert len({tuple(row.flatten().tolist()) for row in found.text}) == 4


def test_the_text_encoder_is_freed(prior: Prior) -> None:
    ViewPrompts(prior, **SETTINGS)
    assert prior.text_encoder is None
    with pytest.raises(RuntimeError, match="freed"):
        prior.encode_prompts(["red"])


def test_braces_in_a_prompt_are_text(prior: Prior) -> None:
    assert ViewPrompts(prior, **{**SETTINGS, "prompt": "red {0}"}).texts[0] == "red {0}, front view"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prompt": " "}, r"prompt=' ' is empty"),
        ({"prompt": "zebra"}, r"prompt='zebra' .*vocabulary\.txt"),
        ({"front_within_deg": 140.0}, r"front_within_deg=140\.0"),
        ({"back_beyond_deg": 190.0}, r"back_beyond_deg=190\.0"),
        ({"view_text": {"front": "{prompt}"}}, r"view_text names front; it must name front, side, back, overhead"),
    ],
)
def test_mistakes_are_named(components: dict[str, Any], change: dict[str, Any], named: str) -> None:
    prior = Prior(**components, vocabulary=frozenset(["red", "head"]))
    with pytest.raises(UserError, match=named):
        ViewPrompts(prior, **{**SETTINGS, **change})


def test_unknown_words_of_the_settings_warn(components: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    known = frozenset(["red", "head", "view", "front", "side", "back"])
    with caplog.at_level(logging.WARNING):
        ViewPrompts(Prior(**components, vocabulary=known), **SETTINGS)
    assert "prompts.negative_prompt: the prior does not know 'blurry'" in caplog.text
    assert "prompts.view_text.overhead: the prior does not know 'overhead'" in caplog.text
    assert "view_text.front" not in caplog.text
