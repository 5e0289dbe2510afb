"""Each baseline representation becomes a head that looks more like its sentence than the one it began with."""

from __future__ import annotations

import json
from pathlib import Path

import commands
import pytest
import torch
from hydra import compose, initialize_config_dir

from headstudio import run
from headstudio.cli import conf_dir
from headstudio.evaluate import UNRIGGED

PROMPT = "a head with green skin, purple hair and red lips"
MARGIN = 0.5  # of the share of named attributes that are right; there are three
SHORT = [
    "scale.steps=60",
    "scale.batch_size=4",
    "scale.picture_every_steps=0",
    "scale.gallery_size=32",
    "scale.gallery_seconds=0.2",
]


def untrained(name: str) -> float:
    """The alignment score of the avatar before its first step."""
    run.register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=["metrics=semantic", f"representation={name}"])
    head = run.make(config.head)
    avatar = run.make(config.representation)(head, torch.Generator().manual_seed(0), init=run.make(config.init))
    renderer = avatar.renderer(run.make(config.renderer))
    return float(run.make(config.metrics.alignment)(avatar, renderer, PROMPT).scores["alignment_rest"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["static_gaussians", "textured_mesh"])
def test_a_short_run_beats_its_own_start(tmp_path: Path, name: str) -> None:
    start = untrained(name)
    chosen = (f"prompt={PROMPT}", f"representation={name}", "metrics=semantic")
    done = commands.run("headstudio.run", *chosen, *SHORT, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert found["alignment_rest"] >= start + MARGIN
    for metric in ("bleeding", "stray"):
        assert found["details"][metric] == {"not_measured": UNRIGGED}
