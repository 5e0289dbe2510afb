"""Each baseline representation becomes a head that looks more like its sentence than the one it began with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from headstudio import run
from headstudio.cli import conf_dir
from headstudio.evaluate import UNRIGGED

PROMPT = "a head with green skin, purple hair and red lips"
MARGIN = 0.5  # of the share of named attributes that are right; there are three
SHORT = ["scale.steps=120", "scale.picture_every_steps=0", "scale.gallery_size=96", "scale.gallery_seconds=1"]


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
    done = subprocess.run(
        [
            *(sys.executable, "-m", "headstudio.run", f"prompt={PROMPT}", f"representation={name}", "metrics=semantic"),
            *(*SHORT, f"hydra.run.dir={tmp_path}/run"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert found["alignment_rest"] >= start + MARGIN
    for metric in ("bleeding", "stray"):
        assert found["details"][metric] == {"not_measured": UNRIGGED}
