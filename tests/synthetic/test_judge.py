"""The judge of a prior: the world's own pictures are right, other pictures are wrong where they differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from headstudio.synthetic.judge import Judge, Scene, draw_scene, overlap, summary, write_sheet
from headstudio.synthetic.settings import load_settings


@pytest.fixture(scope="module")
def scenes(sampler: Any) -> list[Scene]:
    return [draw_scene(sampler, index, 0, "controlnet") for index in range(6)]


@pytest.fixture(scope="module")
def judge(sampler: Any) -> Judge:
    return Judge(sampler, load_settings("judge", []))


def test_half_of_the_scenes_are_held_out_and_all_are_repeatable(sampler: Any, scenes: list[Scene]) -> None:
    assert [scene.held_out for scene in scenes] == [False, True] * 3
    again = draw_scene(sampler, 3, 0, "controlnet")
    assert again.sentence == scenes[3].sentence
    assert torch.equal(again.picture, scenes[3].picture)
    assert not torch.equal(draw_scene(sampler, 3, 1, "controlnet").picture, scenes[3].picture)


def test_scenes_are_none_of_trainings(sampler: Any, scenes: list[Scene]) -> None:
    pictures = [sampler(index).picture for index in range(6)]
    for scene in scenes:
        ours = scene.picture.permute(1, 2, 0).numpy() * 255
        assert all(np.abs(ours - theirs).mean() > 1.0 for theirs in pictures)


def test_the_worlds_pictures_are_right(judge: Judge, scenes: list[Scene]) -> None:
    result = summary([judge(scene, scene.picture) for scene in scenes])
    assert result["attributes_right"]["share"] == 1.0
    assert result["attributes_right"]["of"] > 15
    assert result["mistakes"] == {}
    assert result["overlap"]["mean"] > 0.97


def test_another_skin_is_a_mistake_and_what_is_worn_stays_right(
    judge: Judge, sampler: Any, scenes: list[Scene]
) -> None:
    scene = next(scene for scene in scenes if "skin" in judge(scene, scene.picture).verdicts)
    other = "blue" if scene.attributes.skin != "blue" else "red"
    looks = replace(scene.attributes, skin=other)
    picture = sampler.world.render(looks, scene.shape, scene.pose, scene.cameras).rgb[0]
    verdicts = judge(scene, picture).verdicts
    assert verdicts["skin"].nearest == other
    worn = {"hair_style", "hair_color", "hat", "hat_color"} & set(verdicts)
    assert all(verdicts[name].right for name in worn)
    assert summary([judge(scene, picture)])["mistakes"][f"skin: {scene.attributes.skin} looks like {other}"] == 1


def test_overlap_of_known_masks() -> None:
    left, all_of_it = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    left[:, :2] = True
    assert overlap(left, all_of_it) == 0.5
    assert overlap(left, ~left) == 0.0
    assert overlap(left & False, left & False) == 1.0


def test_the_sheet_shows_truth_above_samples(tmp_path: Path) -> None:
    truth = [torch.full((3, 2, 2), value) for value in (0.2, 0.4, 0.6)]
    write_sheet(tmp_path / "sheet.png", truth, [1 - picture for picture in truth], columns=2)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))[::2, ::2, 0]
    assert sheet.tolist() == [[51, 102], [204, 153], [153, 0], [102, 0]]
