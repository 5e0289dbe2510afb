"""Driving, bleeding and stray Gaussians on avatars whose faults are put there by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from parts import fresh_avatar, metric

from headstudio.avatar.frames import triangle_frames
from headstudio.avatar.rigged import RiggedGaussians
from headstudio.evaluate import UNRIGGED, Judgement
from headstudio.motion.evaluation import evaluation_poses
from headstudio.render.cpu import CpuRenderer


@pytest.fixture
def avatar() -> RiggedGaussians:
    return fresh_avatar()


def scores(name: str, avatar: Any) -> dict[str, float]:
    found: dict[str, float] = metric(name)(avatar, CpuRenderer(), "a head").scores
    return found


class Frozen:
    """An avatar that never moves, whatever its head does."""

    def __init__(self, avatar: RiggedGaussians) -> None:
        self.avatar, self.head, self.shape, self.means = avatar, avatar.head, avatar.shape, avatar.means

    def pose(self, pose: Any) -> Any:
        posed, frames, _ = self.avatar.pose(pose)
        return posed, frames, self.avatar.pose(self.head.neutral_pose())[2]


def of_region(avatar: RiggedGaussians, name: str) -> torch.Tensor:
    return avatar.head.region_faces(name)[avatar.triangle]


def test_gaussians_on_their_triangles_follow_the_head(avatar: RiggedGaussians) -> None:
    found = scores("driving", avatar)
    assert found["landmark_error"] < 0.03
    assert 0.8 < found["lip_separation"] < 1.05  # along the closed mouth both lips share a pixel


def test_a_head_with_flames_names_is_judged_by_the_joints_of_jaw_and_neck(avatar: RiggedGaussians) -> None:
    flame = copy.deepcopy(avatar)
    flame.head.expression_names = tuple(f"flame_{i:03d}" for i in range(flame.head.num_expression))
    judgement = metric("driving")(flame, CpuRenderer(), "a head")
    assert set(judgement.details["landmark_error"]) == {"mouth_open", "turned"}
    assert judgement.scores["landmark_error"] < 0.03
    assert 0.8 < judgement.scores["lip_separation"] < 1.05
    assert scores("bleeding", flame)["mouth_opening"] > 0.5
    flame.head.landmark_polylines = tuple(line for line in flame.head.landmark_polylines if "eye" not in line[0])
    assert set(metric("driving")(flame, CpuRenderer(), "a head").scores) == {"lip_separation"}


def test_an_avatar_that_does_not_move_is_wrong_by_what_the_head_moves(avatar: RiggedGaussians) -> None:
    judgement = metric("driving")(Frozen(avatar), CpuRenderer(), "a head")
    assert judgement.scores["lip_separation"] == pytest.approx(0.0, abs=1e-6)
    assert judgement.scores["landmark_error"] > 0.1
    own = metric("driving")(avatar, CpuRenderer(), "a head")
    moved = judgement.details["landmark_error"]
    assert all(moved[name] > 3 * own.details["landmark_error"][name] for name in ("mouth_open", "turned"))


def test_a_lower_lip_on_the_skull_does_not_part_from_the_upper(avatar: RiggedGaussians) -> None:
    """Its Gaussians stay where they are at rest but hang on triangles of the scalp, as after a bad densification."""
    head = avatar.head
    rest = head(avatar.shape, head.neutral_pose())
    middles = rest.vertices[0, head.faces].mean(1)
    lips = head.region_faces("lips")
    lower = lips & (middles[:, 1] < middles[lips, 1].mean())
    stuck = lower[avatar.triangle]
    anchor = int(head.region_faces("scalp").nonzero()[0])
    world = avatar.pose(head.neutral_pose())[2].means[0]
    frames = triangle_frames(rest.vertices, head.faces)
    local = (world - frames.origin[0, anchor]) @ frames.rotation[0, anchor] / frames.area[0, anchor].sqrt()
    size = (frames.area[0, avatar.triangle] / frames.area[0, anchor]).sqrt().log()
    values = {name: getattr(avatar, name).detach().clone() for name in ("quats", "color_logits", "opacity_logits")}
    values["means"] = torch.where(stuck[:, None], local, avatar.means).detach()
    values["log_scales"] = (avatar.log_scales + torch.where(stuck, size, torch.zeros(()))[:, None]).detach()
    avatar.replace_gaussians({**values, "triangle": torch.where(stuck, anchor, avatar.triangle)})
    assert scores("driving", avatar)["lip_separation"] < 0.5


def test_colours_bleed_when_the_skin_grows_over_the_lips(avatar: RiggedGaussians) -> None:
    plain = scores("bleeding", avatar)
    assert plain["color_bleeding"] < 0.005  # all of one colour
    assert plain["mouth_opening"] > 0.5
    with torch.no_grad():
        avatar.color_logits[of_region(avatar, "skin")] = torch.tensor([4.0, -4.0, -4.0])
        avatar.color_logits[of_region(avatar, "lips")] = torch.tensor([-4.0, 4.0, -4.0])
    sharp = scores("bleeding", avatar)
    with torch.no_grad():
        avatar.log_scales[of_region(avatar, "skin")] += 1.0
    grown = scores("bleeding", avatar)
    assert sharp["color_bleeding/lips"] < 0.5 * grown["color_bleeding/lips"]
    assert grown["color_bleeding/lips"] > 0.15
    assert grown["mouth_opening"] < plain["mouth_opening"]


def test_a_region_without_gaussians_of_its_own_has_no_colour_to_lose(avatar: RiggedGaussians) -> None:
    lips = of_region(avatar, "lips")
    skin = int(avatar.head.region_faces("skin").nonzero()[0])
    values = {name: getattr(avatar, name).detach() for name in ("means", "log_scales", "quats", "opacity_logits")}
    values["color_logits"] = avatar.color_logits.detach()
    avatar.replace_gaussians({**values, "triangle": torch.where(lips, skin, avatar.triangle)})
    found = scores("bleeding", avatar)
    assert "color_bleeding/lips" not in found  # 0 would call it perfect
    assert "color_bleeding/eyes" in found


def test_stray_gaussians_are_counted_by_their_opacity(avatar: RiggedGaussians) -> None:
    before = scores("stray", avatar)
    assert before["stray_share"] == 0.0
    with torch.no_grad():
        avatar.means[:100] = torch.tensor([0.0, 50.0, 0.0])
        avatar.opacity_logits[:100] = 0.0
    weight = avatar.opacity_logits.sigmoid()
    expected = float((weight[:100].sum() / weight.sum()).detach())
    after = scores("stray", avatar)
    assert after["stray_share"] == pytest.approx(expected, abs=1e-5)
    _, frames, gaussians = avatar.pose(avatar.head.neutral_pose())
    away = (gaussians.means[0] - frames.origin[0][avatar.triangle]).norm(dim=-1)
    assert after["stray_distance"] == pytest.approx(float(((weight * away).sum() / weight.sum()).detach()), abs=1e-5)


@pytest.mark.parametrize("name", ["bleeding", "stray"])
def test_what_is_not_rigged_to_triangles_is_not_measured(avatar: RiggedGaussians, name: str) -> None:
    found = metric(name)(Frozen(avatar), CpuRenderer(), "a head")
    assert found == Judgement(details={"not_measured": UNRIGGED})


def test_pictures_of_quantities_average_them(avatar: RiggedGaussians) -> None:
    """What `Framing.photograph` draws with other colours is the same picture with other colours."""
    framing = metric("driving").framing
    cameras = framing.cameras([0.0], 0.0)
    pose = evaluation_poses(avatar.head)["smile"]
    colors = torch.rand(avatar.num_gaussians, 3, generator=torch.Generator().manual_seed(0))
    drawn = framing.photograph(avatar, CpuRenderer(), pose, cameras, colors=colors, background=(0, 0, 0)).rgb
    with torch.no_grad():
        gaussians = replace(avatar.pose(pose)[2], colors=colors)
        expected = CpuRenderer()(gaussians, cameras, torch.zeros(3)).rgb
    assert torch.equal(drawn, expected)
