"""Ablations run: a sweep of two arms from the command line, and an arm of each that ships at the paper's scale."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from headstudio import ablation
from headstudio.cli import conf_dir
from headstudio.log import Loggers
from headstudio.run import build, make, register_resolvers
from headstudio.runstate import RunPaths
from headstudio.standins.__main__ import write_all

pytestmark = pytest.mark.slow
SMALL = ["scale=smoke", "scale.steps=1", "scale.width=64", "scale.height=64"]
TWO = """\
# Two arms of one head
title: Two
paper: Nothing.
base: [metrics=none]
prompts: tiny3
seeds: [0]
arms:
  full: {label: full, overrides: []}
  reg_none: {label: none, overrides: [reg=none]}
"""
DIFFERENT = {  # the arm that is furthest from the base
    "fig6_no_mouth": "textured_mesh",
    "fig7_f3dgs": "sparse_reg_none",
    "fig8_fsds": "rigged",
    "table1": "vsd",
    "paper_vs_official": "densify",
    "beyond": "all",
}


def test_a_sweep_of_two_arms(tmp_path: Path) -> None:
    """With the other launchers: tests/sweep/test_ablation_launchers.py."""
    (tmp_path / "two.yaml").write_text(TWO)
    words = ["-m", "+ablation=two.yaml", "prompt=a green head", "hydra/launcher=debug", *SMALL]
    words += ["scale.gallery_size=32", "scale.gallery_seconds=0.2"]
    command = [sys.executable, "-m", "headstudio.run", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "multirun" / "ablations" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["reg"], row["status"]) for row in rows] == [("", "finished"), ("none", "finished")]
    assert len(list((tmp_path / "multirun" / "ablations").glob("*/avatar.ply"))) == 2


@pytest.fixture(scope="module")
def standins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that point to made-up files of the paper's models."""
    env = write_all(tmp_path_factory.mktemp("standins"), divisor=10, sample_size=16)
    lines = (line.removeprefix("export ") for line in env.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("name", sorted(ablation.files()))
def test_an_arm_takes_a_step_at_the_papers_scale(
    name: str, standins: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in standins.items():
        monkeypatch.setenv(variable, value)
    found = ablation.load(name, "paper")
    words = [*found.arms[DIFFERENT[name]].overrides, "experiment=paper", "metrics=none", "scale.num_shape=10", *SMALL]
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=words)
    paths = RunPaths(tmp_path)
    paths.prepare()
    make(config.trainer).fit(build(config), paths, "a run", Loggers(()), None)
    assert paths.checkpoint.exists()
