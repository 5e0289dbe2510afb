"""The figures of an ablation: heads in the cells where they belong, curves through the points that were measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from made_up_ablation import PROMPTS, ablation, write_runs
from omegaconf import OmegaConf
from PIL import Image

from headstudio.ablation import Ablation
from headstudio.camera import project
from headstudio.camera_views import VIEWS
from headstudio.cli import conf_dir
from headstudio.export.ply import save_avatar
from headstudio.report.ablation_curves import _ticks, write_curves
from headstudio.report.ablation_figure import caption, write_heads
from headstudio.report.ablation_runs import Planned, Result
from headstudio.run import make, register_resolvers
from headstudio.runstate import RunPaths

ARMS = ("full", "reg_none")


def planned(prompts: int) -> list[Planned]:
    return [Planned(arm, prompt, 0, f"{arm}{prompt}") for arm in ARMS for prompt in PROMPTS[:prompts]]


RED, BLUE, GREEN, BLACK = ([9, -9, -9], [-9, -9, 9], [-9, 9, -9], [-9, -9, -9])


def painted(folder: Path, runs: list[Planned], colours: Sequence[Sequence[int]]) -> list[Result]:
    """Runs whose heads have one colour each; behind the ears all are black."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        setting = compose("config", ["init=sparse"])
    head = make(setting.head)
    avatar = make(setting.representation)(head, torch.Generator().manual_seed(0), init=make(setting.init))
    behind = avatar.pose(head.neutral_pose())[2].means[0, :, 2] < 0
    found = []
    for run, root, colour in zip(runs, write_runs(folder, runs, lambda *_: {}), colours, strict=True):
        with torch.no_grad():
            avatar.opacity_logits.fill_(4.0)
            avatar.color_logits.copy_(torch.tensor(colour, dtype=torch.float32).expand_as(avatar.color_logits))
            avatar.color_logits[behind] = -9.0
        save_avatar(avatar, root / "avatar.ply", head_name="anny")
        OmegaConf.save(setting, RunPaths(root).config, resolve=True)
        found.append(Result(run, "", {}, root))
    return found


def seen(wanted: Ablation, **figure: Any) -> Ablation:
    """The same with another figure, of small pictures."""
    return replace(wanted, figure=replace(wanted.figure, pixels=48, **figure))


def middle(picture: np.ndarray) -> list[int]:
    """Which channels are bright in the middle of a picture of 48 pixels."""
    return [int(value > 128) for value in picture[20:28, 20:28].mean((0, 1))]


def test_heads_stand_in_the_columns_of_their_arms(tmp_path: Path) -> None:
    """One arm's head is red, the other's blue."""
    found = painted(tmp_path, planned(1), (RED, BLUE))
    wanted = seen(ablation(prompts=PROMPTS[:1], seeds=[0]))
    assert write_heads(tmp_path / "heads.jpg", wanted, found) == "its figure shows 2 heads"
    sheet = np.asarray(Image.open(tmp_path / "heads.jpg")).astype(int)
    right, left = sheet[-52:-4, -100:-4], sheet[-52:-4, -200:-104]
    for cell in (left, right):  # two pictures, of a head with some white around it
        for picture in (cell[:, :48], cell[:, 48:]):
            assert 0.2 < (picture.min(-1) < 128).mean() < 0.9
    assert (left[20:28, 20:28] - [255, 0, 0]).mean() == pytest.approx(0, abs=30)
    assert (right[20:28, 20:28] - [0, 0, 255]).mean() == pytest.approx(0, abs=30)
    kept = (tmp_path / "heads.jpg").read_bytes()
    assert write_heads(tmp_path / "heads.jpg", wanted, found[:1]) == (
        "its figure is kept as it is (1 of 2 heads are there to draw)"
    )
    assert (tmp_path / "heads.jpg").read_bytes() == kept
    assert "no figure yet (0 of 2" in write_heads(tmp_path / "none.jpg", wanted, [])
    assert not (tmp_path / "none.jpg").exists()


def test_an_ablation_says_from_where_its_heads_are_seen(tmp_path: Path) -> None:
    """From the front and from behind: a colour, then black; with arms as rows the first arm's are above."""
    found = painted(tmp_path, planned(2), (RED, BLUE, GREEN, BLACK))
    wanted = seen(ablation(prompts=PROMPTS[:2], seeds=[0]), views=("front", "back"), rows="arms")
    assert write_heads(tmp_path / "heads.jpg", wanted, found) == "its figure shows 4 heads"
    sheet = np.asarray(Image.open(tmp_path / "heads.jpg")).astype(int)
    full, none = sheet[-104:-56], sheet[-52:-4]
    first, second = slice(-200, -104), slice(-100, -4)  # the columns of the two sentences
    for row, sentence, front in (
        (full, first, [1, 0, 0]),
        (full, second, [0, 0, 1]),
        (none, first, [0, 1, 0]),
        (none, second, [0, 0, 0]),
    ):
        cell = row[:, sentence]
        assert middle(cell[:, :48]) == front
        assert middle(cell[:, 48:]) == [0, 0, 0]
    assert caption(wanted) == (
        "Each arm's heads of the first 2 sentences, first seed: the head at rest, then the head from behind"
    )


def test_a_figure_of_fewer_sentences_has_fewer_rows(tmp_path: Path) -> None:
    found = painted(tmp_path, planned(2), (RED, BLUE, GREEN, BLACK))
    wanted = seen(ablation(prompts=PROMPTS[:2], seeds=[0]), views=("face",), sentences=1)
    assert write_heads(tmp_path / "heads.jpg", wanted, found) == "its figure shows 2 heads"
    assert caption(wanted) == "Each arm's heads of the first sentence, first seed: the face from near"
    sheet = np.asarray(Image.open(tmp_path / "heads.jpg")).astype(int)
    assert (middle(sheet[-52:-4, -104:-56]), middle(sheet[-52:-4, -52:-4])) == ([1, 0, 0], [0, 1, 0])
    near = (sheet[-52:-4, -52:-4].min(-1) < 128).mean()
    write_heads(tmp_path / "far.jpg", seen(wanted, views=("front_wide",)), found)
    far = (np.asarray(Image.open(tmp_path / "far.jpg"))[-52:-4, -52:-4].min(-1) < 128).mean()
    assert near > 0.6 > 0.3 > far > 0.1  # shares of the picture


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_frames_what_it_is_named_for(name: str) -> None:
    """Where points between the eyes, at the mouth and of the crown land; whether the face is nearer than the nape."""
    points = torch.tensor([[[0.0, 0.07, 0.3], [0.0, -0.32, 0.35], [0.0, 0.6, 0.1], [0.0, 0.07, -0.3]]])
    (pixels,), (depth,) = project(points, VIEWS[name].cameras(100))
    inside = ((pixels > 0) & (pixels < 100)).all(-1)[:3].tolist()
    near = {"face": [True, True, False], "face_open": [True, True, False], "mouth_open": [False, True, False]}
    assert inside == near.get(name, [True, True, True])
    behind = {"side": 0.0, "back": 1.0, "back_near": 1.0}.get(name, -1.0)
    assert torch.sign(torch.round(depth[0] - depth[3], decimals=4)) == behind


def test_curves_go_through_the_means_of_each_arm(tmp_path: Path) -> None:
    """`full` rises from 0 to 1; reg_none stays at 0 for one sentence and at 1 for the other: mean 0.5 in 0 to 1."""
    runs = planned(2)

    def scores(arm: str, sentence: int, seed: int) -> dict[str, object]:
        values = [0.0, 1.0] if arm == "full" else [sentence, sentence]
        return {"trace": {"steps": [0, 100], "alignment": [None, None], "coverage": values, "coverage_early": 0.0}}

    places = write_runs(tmp_path, runs, scores)
    found = [Result(run, "", {}, place) for run, place in zip(runs, places, strict=True)]
    wanted = ablation(prompts=PROMPTS[:2], seeds=[0])
    assert write_curves(tmp_path / "curves.svg", wanted, found) == "its curves are of 4 runs"
    svg = ElementTree.parse(tmp_path / "curves.svg").getroot()
    lines = [node.attrib["points"] for node in svg.iter("{http://www.w3.org/2000/svg}polyline")]
    assert lines == ["0.0,220.0 356.0,0.0", "0.0,110.0 356.0,110.0"]  # a panel 220 high, 1 at its top
    bands = [node.attrib["points"] for node in svg.iter("{http://www.w3.org/2000/svg}polygon")]
    assert bands[1] == "0.0,220.0 356.0,220.0 356.0,0.0 0.0,0.0"
    texts = [node.text for node in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[-2:] == ["full (2 runs)", "no regularisation (2 runs)"]
    assert texts[-8:-2] == ["0", "20", "40", "60", "80", "100"]  # steps

    kept = (tmp_path / "curves.svg").read_bytes()
    assert "kept as they are (3 of 4" in write_curves(tmp_path / "curves.svg", wanted, found[:3])
    assert (tmp_path / "curves.svg").read_bytes() == kept
    (places[0] / "metrics.json").write_text(json.dumps({"clip_score": 1.0}), encoding="utf-8")
    assert write_curves(tmp_path / "none.svg", wanted, found[:1]) == ""
    assert not (tmp_path / "none.svg").exists()


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.81, 0.99, [0.8, 0.85, 0.9, 0.95, 1]),
        (0.5, 0.5, [0.5, 0.5000002]),
        (3, 97, [0, 20, 40, 60, 80, 100]),
    ],
)
def test_ticks_are_round_and_hold_everything(low: float, high: float, ticks: list[float]) -> None:
    assert _ticks(low, high) == pytest.approx(ticks)
