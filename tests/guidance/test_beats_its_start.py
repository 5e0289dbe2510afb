"""Each guidance of another paper makes a head that looks more like its sentence than the one it began with."""

from __future__ import annotations

import json
from pathlib import Path

import commands
import pytest
import torch
from hydra import compose, initialize_config_dir

from headstudio import run
from headstudio.cli import conf_dir

PROMPT = "a head with green skin, purple hair and red lips"
MARGIN = 0.5  # of the share of named attributes that are right; there are three
SHORT = ["scale.batch_size=4", "scale.picture_every_steps=0", "scale.gallery_size=32", "scale.gallery_seconds=0.2"]


@pytest.fixture(scope="module")
def untrained() -> float:
    """The alignment score of the avatar before its first step."""
    run.register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=["metrics=semantic"])
    head = run.make(config.head)
    avatar = run.make(config.representation)(head, torch.Generator().manual_seed(0), init=run.make(config.init))
    judgement = run.make(config.metrics.alignment)(avatar, run.make(config.renderer), PROMPT)
    return float(judgement.scores["alignment_rest"])


@pytest.mark.slow
@pytest.mark.parametrize(("guidance", "steps"), [("ssd", 60), ("vsd", 60), ("ism", 36)])
def test_a_short_run_beats_its_own_start(tmp_path: Path, untrained: float, guidance: str, steps: int) -> None:
    chosen = (f"prompt={PROMPT}", f"guidance={guidance}", f"scale.steps={steps}", "metrics=semantic")
    done = commands.run("headstudio.run", *chosen, *SHORT, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert found["alignment_rest"] >= untrained + MARGIN
    assert found["alignment_animation"] >= untrained + MARGIN
