"""Alignment against avatars that are the synthetic world itself, so that the right answer is known."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from parts import metric

from headstudio.camera import cameras_from_orbit
from headstudio.evaluate import Judgement, judge
from headstudio.evaluate.alignment import Alignment
from headstudio.head.anny import load_anny
from headstudio.head.model import HeadModel
from headstudio.motion.evaluation import evaluation_poses
from headstudio.synthetic.candidates import Candidates, measured
from headstudio.synthetic.reading import parse
from headstudio.synthetic.vocabulary import OPTIONS, Attributes
from headstudio.synthetic.world import World
from headstudio.types import Cameras, Pose

PROMPT = "a man with green skin, purple hair, red lips and blue eyes"


@dataclass
class PaintedAvatar:
    """Stands for a finished avatar; `pose` hands the pose itself to the renderer below."""

    head: HeadModel
    shape: torch.Tensor

    @property
    def means(self) -> torch.Tensor:
        return self.shape

    def pose(self, pose: Pose) -> tuple[None, None, Pose]:
        return None, None, pose


class PaintingRenderer:
    """Draws the world's picture of certain looks in place of Gaussians."""

    device = "cpu"

    def __init__(self, avatar: PaintedAvatar, looks: Attributes, **moved: Attributes) -> None:
        self.avatar, self.looks, self.moved = avatar, looks, moved
        self.world = World(avatar.head)

    def __call__(self, pose: Pose, cameras: Cameras, background: torch.Tensor) -> Any:
        looks = self.looks
        for name, other in self.moved.items():
            if torch.equal(pose.expression, evaluation_poses(self.avatar.head)[name].expression):
                looks = other
        picture = self.world.render(looks, self.avatar.shape, pose, cameras)
        outside = (picture.labels == 0)[:, None]
        assert float((picture.rgb - background[:, None, None]).abs().masked_select(outside).median()) < 1e-6
        return picture


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_anny(num_shape=10)


@pytest.fixture(scope="module")
def world(head: HeadModel) -> World:
    return World(head)


@pytest.fixture(scope="module")
def avatar(head: HeadModel) -> PaintedAvatar:
    shape = torch.randn(10, generator=torch.Generator().manual_seed(2)) * 0.6
    return PaintedAvatar(head, shape)


@pytest.fixture(scope="module")
def alignment() -> Alignment:
    return metric("alignment", rest_azimuths_deg=[-30, 180], animation_azimuths_deg=[10])  # type: ignore[no-any-return]


def score(alignment: Alignment, avatar: PaintedAvatar, prompt: str, looks: Attributes, **moved: Attributes) -> dict:
    return alignment(avatar, PaintingRenderer(avatar, looks, **moved), prompt).scores


def test_the_right_looks_score_one(alignment: Alignment, avatar: PaintedAvatar) -> None:
    scores = score(alignment, avatar, PROMPT, parse(PROMPT).attributes)
    names = ("skin", "hair_color", "lips", "eyes")
    keys = {f"alignment_{kind}{name}" for kind in ("rest", "animation") for name in ("", *(f"/{n}" for n in names))}
    assert scores == dict.fromkeys(keys, 1.0)


def test_wrong_lips_are_the_only_mistake(alignment: Alignment, avatar: PaintedAvatar) -> None:
    scores = score(alignment, avatar, PROMPT, replace(parse(PROMPT).attributes, lips="blue"))
    assert {name for name, value in scores.items() if "/" in name and value < 1} == {
        "alignment_rest/lips",
        "alignment_animation/lips",
    }
    details = alignment(
        avatar, PaintingRenderer(avatar, replace(parse(PROMPT).attributes, lips="blue")), PROMPT
    ).details
    assert details["mouth_open"]["lips"] == {"wanted": "red", "seen": "blue"}
    assert scores["alignment_rest"] == 0.75
    assert scores["alignment_rest/lips"] == scores["alignment_animation/lips"] == 0.0


def test_lips_that_lose_their_colour_when_the_mouth_opens(alignment: Alignment, avatar: PaintedAvatar) -> None:
    right = parse(PROMPT).attributes
    scores = score(alignment, avatar, PROMPT, right, mouth_open=replace(right, lips="natural"))
    assert scores["alignment_rest"] == 1.0
    assert scores["alignment_animation/lips"] == 0.75  # one of four poses
    assert scores["alignment_animation"] == round(14 / 15, 4)  # four attributes at four poses, no eyes in the blink


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("Hulk", {"skin", "hair_color"}),
        (
            "a bald head with a long white beard and a red hat",
            {"hair_style", "beard", "beard_color", "hat", "hat_color"},
        ),
        ("an old woman with a black mask and a crown", {"age", "paint", "hat"}),
        ("a head with no beard", {"beard"}),
    ],
)
def test_only_what_the_sentence_names_is_judged(prompt: str, names: set[str]) -> None:
    assert set(measured(parse(prompt))) == names


def test_a_prompt_without_attributes_is_noted(
    alignment: Alignment, avatar: PaintedAvatar, caplog: pytest.LogCaptureFixture
) -> None:
    why = "the prompt names no attribute of the synthetic world"
    with caplog.at_level(logging.INFO):
        found = judge({"looks": alignment}, avatar, PaintingRenderer(avatar, Attributes()), "a portrait of a man")
    assert found == {"details": {"looks": {"not_measured": why}}}
    assert f"metrics.looks is not measured: {why}" in caplog.text


def test_a_head_that_the_world_cannot_paint_is_noted(alignment: Alignment, tiny_head: HeadModel) -> None:
    found = alignment(PaintedAvatar(tiny_head, torch.zeros(4)), None, PROMPT)  # type: ignore[arg-type]
    assert found == Judgement(details={"not_measured": "the synthetic world can't paint this head"})


def test_without_views_of_the_animation_rest_alone_is_judged(avatar: PaintedAvatar) -> None:
    still = metric("alignment", rest_azimuths_deg=[-30], animation_azimuths_deg=[])
    found = still(avatar, PaintingRenderer(avatar, parse(PROMPT).attributes), PROMPT)
    assert list(found.details) == ["rest"]
    assert found.scores["alignment_rest"] == 1.0
    assert not any(name.startswith("alignment_animation") for name in found.scores)


def test_the_avatars_shape_is_respected(world: World, alignment: Alignment) -> None:
    """With its own shape the right option has no error, so red wins by all of the difference; elsewhere by less."""
    pose, looks = world.head.neutral_pose(), parse(PROMPT).attributes
    candidates = Candidates(world, noticeable=0.08, min_pixels=1, soften_px=3)
    strong = torch.zeros(10)
    strong[0] = 3.0
    pictures = world.render(looks, strong, pose, alignment.rest).rgb
    own = candidates.judge(pictures, looks, ["lips"], strong, pose, alignment.rest)["lips"]
    other = candidates.judge(pictures, looks, ["lips"], torch.zeros(10), pose, alignment.rest)["lips"]
    blue = world.render(replace(looks, lips="blue"), strong, pose, alignment.rest).rgb
    soft = torch.nn.functional.avg_pool2d(torch.cat([pictures, blue]), 3, 1, 1, count_include_pad=False)
    whole = (soft[:2] - soft[2:]).abs().sum(1)[(soft[:2] - soft[2:]).abs().amax(1) > 0.08].sum()
    assert own.margins["blue"] == pytest.approx(float(whole))
    assert other.margins["blue"] < 0.9 * own.margins["blue"]


@pytest.mark.parametrize("name", ["skin", "hair_style", "hair_color", "beard", "lips", "eyes", "age", "paint", "hat"])
def test_every_option_is_told_apart_under_blur_noise_and_dim_light(
    world: World, alignment: Alignment, name: str
) -> None:
    looks = Attributes(hair_color="black", skin="tan")
    candidates = Candidates(world, noticeable=0.08, min_pixels=1, soften_px=3)
    pose, shape, cameras = world.head.neutral_pose(), torch.zeros(10), alignment.rest
    generator = torch.Generator().manual_seed(0)
    for option in OPTIONS[name]:
        wanted = replace(looks, **{name: option})
        picture = world.render(wanted, shape, pose, cameras).rgb
        soft = torch.nn.functional.avg_pool2d(picture, 3, stride=1, padding=1, count_include_pad=False)
        dim = (0.95 * soft + 0.03 * torch.randn(soft.shape, generator=generator)).clamp(0, 1)
        verdict = candidates.judge(dim, wanted, [name], shape, pose, cameras)[name]
        assert verdict.nearest == option


def test_what_the_views_cannot_show_is_not_judged(world: World) -> None:
    behind = cameras_from_orbit(180.0, 0.0, 1.75, 54.0, 128, 128, (0.0, 0.12, 0.0))
    candidates = Candidates(world, noticeable=0.08, min_pixels=20, soften_px=3)
    looks, pose, shape = Attributes(beard="goatee"), world.head.neutral_pose(), torch.zeros(10)
    picture = world.render(looks, shape, pose, behind).rgb
    verdicts = candidates.judge(picture, looks, ["lips", "eyes", "age", "beard", "hair_style"], shape, pose, behind)
    assert set(verdicts) == {"beard", "hair_style"}
    assert "none" not in verdicts["beard"].margins  # a goatee can't be told from no beard, a long beard can
    assert len(verdicts["hair_style"].margins) == len(OPTIONS["hair_style"]) - 1
