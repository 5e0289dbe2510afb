"""The figures of an ablation: heads in the cells where they belong, curves through the points that were measured."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from made_up_ablation import PROMPTS, ablation, write_runs
from omegaconf import OmegaConf
from PIL import Image

from headstudio.cli import conf_dir
from headstudio.export.ply import save_avatar
from headstudio.report.ablation_curves import _ticks, write_curves
from headstudio.report.ablation_figure import write_heads
from headstudio.report.ablation_runs import Planned, Result
from headstudio.run import make, register_resolvers
from headstudio.runstate import RunPaths

ARMS = ("full", "reg_none")


def planned(prompts: int) -> list[Planned]:
    return [Planned(arm, prompt, 0, f"{arm}{prompt}") for arm in ARMS for prompt in PROMPTS[:prompts]]


def test_heads_stand_in_the_columns_of_their_arms(tmp_path: Path) -> None:
    """One arm's head is red, the other's blue."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        setting = compose("config", ["init=sparse"])
    head = make(setting.head)
    avatar = make(setting.representation)(head, torch.Generator().manual_seed(0), init=make(setting.init))
    runs, found = planned(1), []
    for run, root, colour in zip(
        runs, write_runs(tmp_path, runs, lambda *_: {}), ([9, -9, -9], [-9, -9, 9]), strict=True
    ):
        with torch.no_grad():
            avatar.opacity_logits.fill_(4.0)
            avatar.color_logits.copy_(torch.tensor(colour, dtype=torch.float32).expand_as(avatar.color_logits))
        save_avatar(avatar, root / "avatar.ply", head_name="anny")
        OmegaConf.save(setting, RunPaths(root).config, resolve=True)
        found.append(Result(run, "", {}, root))
    wanted = ablation(prompts=PROMPTS[:1], seeds=[0])
    assert write_heads(tmp_path / "heads.jpg", wanted, found, largest=48) == "its figure shows 2 heads"
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
