"""Holes where no mouth should be, on avatars of which it is known how much of the opening they leave."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from parts import Posed, fresh_avatar, head, metric

from headstudio.evaluate import Judgement
from headstudio.motion.arkit import pose_of, weights_of
from headstudio.render.cpu import CpuRenderer
from headstudio.render.mesh import rasterise_mesh
from headstudio.synthetic.vocabulary import Attributes
from headstudio.synthetic.world import World
from headstudio.types import Cameras, Pose

COLUMN = 132  # of 256, just right of the middle, so that more than half of the skin around the lips stays white
NO_MOUTH = "a bald man with tan skin and no mouth"


@dataclass
class Seen:
    rgb: torch.Tensor
    alpha: torch.Tensor


@dataclass
class WorldPicture:
    """Draws the world's picture, before black as the metric asks for."""

    avatar: Posed
    looks: Attributes

    def __call__(self, pose: Pose, cameras: Cameras, background: torch.Tensor) -> Seen:
        assert not bool(background.any())
        world = World(self.avatar.head, background=(0.0, 0.0, 0.0), supersample=1)
        picture = world.render(self.looks, self.avatar.shape, pose, cameras)
        return Seen(picture.rgb, (picture.labels != 0)[:, None].float())


@dataclass
class WhiteBut:
    """Everything is white, but to the right of a column it is another grey, or not there."""

    grey: float = 1.0
    alpha: float = 1.0

    def __call__(self, pose: Pose, cameras: Cameras, background: torch.Tensor) -> Seen:
        size = (len(cameras), 1, cameras.height, cameras.width)
        alpha, grey = torch.ones(size), torch.ones(size)
        alpha[..., COLUMN:], grey[..., COLUMN:] = self.alpha, self.grey
        return Seen((alpha * grey).expand(-1, 3, -1, -1), alpha)


@pytest.fixture(scope="module")
def avatar() -> Posed:
    return Posed(head(), torch.zeros(head().num_shape))


def mouth(**changes: Any) -> Any:
    return metric("mouth", "metrics=ablation", **changes)


@pytest.mark.parametrize("skin", ["red", "dark", "pale"])
def test_the_worlds_heads_with_and_without_a_mouth_lie_far_apart(avatar: Posed, skin: str) -> None:
    metric_ = mouth(jaw_open=[0.7], azimuths_deg=[-30, 0])
    without = metric_(avatar, WorldPicture(avatar, Attributes(skin=skin, mouth="none")), NO_MOUTH)
    assert without.scores["mouth_hole"] < 0.01
    usual = metric_(avatar, WorldPicture(avatar, Attributes(skin=skin)), NO_MOUTH)
    assert usual.scores["mouth_hole"] > 0.75


@pytest.mark.parametrize(
    ("prompt", "has_none"),
    [
        (NO_MOUTH, True),
        ("a DSLR portrait of Iron Man in Marvel", True),
        ("a portrait of spider-man", True),
        ("a DSLR portrait of Joker in DC", False),
    ],
)
def test_only_a_character_without_a_mouth_can_have_a_hole(avatar: Posed, prompt: str, has_none: bool) -> None:
    found = mouth(jaw_open=[0.7], azimuths_deg=[0])(avatar, WhiteBut(), prompt).scores
    assert found == {"mouth_shown": 0.0, **({"mouth_hole": 0.0} if has_none else {})}


@pytest.mark.parametrize("right", [WhiteBut(alpha=0.49), WhiteBut(grey=0.87)])
def test_a_hole_is_what_is_transparent_or_of_another_colour(avatar: Posed, right: WhiteBut) -> None:
    """The opening by another way: where the bare mesh shows what lies in the mouth."""
    metric_ = mouth(azimuths_deg=[0])
    found = metric_(avatar, right, NO_MOUTH).details
    inside = torch.tensor([avatar.head.region_names.index(name) for name in ("mouth", "teeth", "tongue")])
    for jaw_open in (0.4, 0.7, 1.0):
        pose = pose_of(avatar.head, weights_of({"jawOpen": jaw_open})[None], neck_deg=torch.zeros(1, 3))
        seen = rasterise_mesh(avatar.head(avatar.shape, pose).vertices, avatar.head.faces, metric_.cameras)
        opening = seen.hit & torch.isin(avatar.head.face_region[seen.face_index.clamp(min=0).long()], inside)
        share = float(opening[..., COLUMN:].sum() / opening.sum())
        assert 0.3 < share < 0.6
        assert found[f"jaw_open_{jaw_open:g}"] == pytest.approx(share, abs=0.01)


def test_a_little_shade_is_no_hole(avatar: Posed) -> None:
    assert mouth()(avatar, WhiteBut(grey=0.89, alpha=0.51), NO_MOUTH).scores["mouth_hole"] == 0.0


def test_gaussians_of_the_cavity_show_where_they_are_painted() -> None:
    avatar = fresh_avatar()
    metric_ = mouth(jaw_open=[0.7], azimuths_deg=[0])
    assert metric_(avatar, CpuRenderer(), NO_MOUTH).scores["mouth_hole"] == 0.0  # all of one colour
    with torch.no_grad():
        for name in ("mouth", "teeth", "tongue"):
            avatar.color_logits[avatar.head.region_faces(name)[avatar.triangle]] = -4.0
    assert 0.5 < metric_(avatar, CpuRenderer(), NO_MOUTH).scores["mouth_hole"] < 1.0  # the lips' own reach into it


def test_a_head_without_lips_is_not_measured(avatar: Posed) -> None:
    other = copy.deepcopy(avatar)
    other.head.landmark_polylines = tuple(line for line in head().landmark_polylines if "lips" not in line[0])
    found = mouth()(other, WhiteBut(), NO_MOUTH)
    assert found == Judgement(details={"not_measured": "no opening is seen between lips and skin of this head"})
