"""What the metrics say of avatars that are no rigged Gaussians."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from parts import head, metric, plain

from headstudio.evaluate import UNRIGGED, Judgement
from headstudio.render.cpu import CpuRenderer
from headstudio.run import make


@lru_cache(maxsize=2)
def fresh(name: str) -> Any:
    """The avatar before its first step, opaque."""
    setting = plain(f"representation={name}", "scale.per_triangle=1")
    init = make(OmegaConf.create(setting["init"]))
    avatar = make(OmegaConf.create(setting["representation"]))(head(), torch.Generator().manual_seed(0), init=init)
    if name == "static_gaussians":
        avatar.opacity_logits.data.fill_(4.0)
    return avatar


def judged(metric_name: str, name: str, **changes: Any) -> Judgement:
    avatar = fresh(name)
    found: Judgement = metric(metric_name, **changes)(avatar, avatar.renderer(CpuRenderer()), "a head with green skin")
    return found


def test_a_mesh_moves_as_its_head_and_static_gaussians_do_not() -> None:
    mesh, static = judged("driving", "textured_mesh").scores, judged("driving", "static_gaussians").scores
    assert mesh["landmark_error"] < 0.03
    assert 0.8 < mesh["lip_separation"] < 1.05
    assert static["landmark_error"] > 5 * mesh["landmark_error"]
    assert static["lip_separation"] == 0.0


@pytest.mark.parametrize("name", ["static_gaussians", "textured_mesh"])
@pytest.mark.parametrize("metric_name", ["bleeding", "stray"])
def test_what_does_not_apply_says_why(name: str, metric_name: str) -> None:
    assert judged(metric_name, name) == Judgement(details={"not_measured": UNRIGGED})


@pytest.mark.parametrize(("name", "count"), [("static_gaussians", 9206), ("textured_mesh", 0)])
def test_speed_and_alignment_are_measured(name: str, count: int) -> None:
    speed = judged("speed", name, width=64, height=64, views=2).scores
    assert speed["gaussians"] == count
    assert speed["render_fps"] > 0
    assert judged("alignment", name).scores["alignment_rest"] == 0.0  # grey is not green
