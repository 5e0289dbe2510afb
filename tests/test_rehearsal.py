"""The paper's and the released code's setting from doctor to report, on made-up files with the real names."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from omegaconf import OmegaConf

from headstudio.export.ply import load_avatar
from headstudio.head.flame import load_flame
from headstudio.standins.__main__ import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SHORT = ("scale=smoke", "metrics=tiny_clip", "scale.steps=5", "scale.grow.first=2", "scale.gallery_seconds=0.2")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run of each experiment, made as the page of installation says."""
    folder = tmp_path_factory.mktemp("rehearsal")
    assert main([str(folder / "standins")]) == 0
    lines = (folder / "standins" / "env").read_text().splitlines()
    env = os.environ | dict(line.removeprefix("export ").split("=", 1) for line in lines)

    def ran(*words: str) -> str:
        done = run(*words, cwd=folder, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    checked = ran("headstudio.doctor.__main__", "experiment=paper", *SHORT)
    assert "  yes  python -m headstudio.run experiment=paper" in checked
    ran("headstudio.run", "-m", "experiment=paper,official", *SHORT, "hydra.sweep.dir=sweep", "hydra/launcher=debug")
    return folder / "sweep"


def runs(sweep: Path) -> dict[str, Path]:
    return {name: next(sweep.glob(f"experiment-{name}-*")) for name in ("paper", "official")}


def test_both_end_in_an_avatar_on_flame(sweep: Path) -> None:
    head = load_flame(
        path=str(sweep.parent / "standins" / "flame"),
        version=2020,
        gender="generic",
        num_shape=300,
        num_expression=100,
        landmark_path=None,
        mask_path=None,
        arkit_path=None,
    )
    for made in runs(sweep).values():
        avatar = load_avatar(made / "avatar.ply", head)
        assert avatar.shape.abs().max() > 0  # the shape has learned
        assert avatar.num_gaussians > 9976
        gaussians = avatar.pose(head.neutral_pose())[2]
        assert all(torch.isfinite(value).all() for value in (gaussians.means, gaussians.quats, gaussians.scales))
        rows = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
        assert np.isfinite([row["loss/total"] for row in rows]).all()
        assert "77 tokens" in (made / "run.log").read_text() or made.name.startswith("experiment-paper")


def test_the_methods_numbers_are_those_of_the_large_scale(sweep: Path) -> None:
    for name, made in runs(sweep).items():
        config = OmegaConf.load(made / "config.yaml")
        assert (config.scale.steps, config.scale.width) == (5, 128)  # sizes are the small scale's
        assert config.scale.num_shape == 300
        assert config.scale.guidance_scale == 7.5
        assert config.optim.rates.log_scales == {"paper": 1e-3, "official": 5e-3}[name]
        assert config.head.num_expression == 100


def test_the_report_compares_them(sweep: Path) -> None:
    with (sweep / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["experiment"] for row in rows} == {"paper", "official"}
    assert all(row["status"] == "finished" for row in rows)
    page = (sweep / "report.html").read_text()
    assert page.count("experiment=official") >= 1
    assert "turntable" in page
