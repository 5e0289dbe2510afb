"""The shipped settings of guidance, prompts and prior: they build, and mean what their names say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from headstudio.guidance import sds
from headstudio.guidance.noising import gaussian
from headstudio.guidance.prior import Prior
from headstudio.guidance.prompts import VIEWS

CONF = Path(__file__).parents[2] / "conf"
SCALE = {"steps": 10, "guidance_scale": 8.0, "conditioning_scale": 1.0, "min_timestep": 20, "max_timestep": 900}


def settings(group: str, name: str) -> DictConfig:
    """A group's file with what it takes from elsewhere; files of `defaults` first, as Hydra merges them."""
    own = OmegaConf.load(CONF / group / f"{name}.yaml")
    parents = [settings(group, parent)[group] for parent in own.pop("defaults", []) if parent != "_self_"]
    return OmegaConf.create({group: OmegaConf.merge(*parents, own), "scale": SCALE, "prompt": "a red head"})


@pytest.mark.parametrize(
    ("name", "rule", "use_control"),
    [
        ("sds", sds.Sds(), False),
        ("fsds", sds.Sds(), True),
        ("fsds_denoised", sds.Denoised(negative_above=200), True),
        ("nfsd", sds.Nfsd(negative_from=200), True),
        ("ssd", sds.Ssd(), True),
        ("vsd", sds.Sds(), True),
        ("clipped", sds.Denoised(negative_above=200), True),
        ("ism", sds.Sds(), True),
    ],
)
def test_every_guidance_builds(
    build: Callable[..., dict[str, Any]], name: str, rule: sds.Rule, use_control: bool
) -> None:
    prior = Prior(**build())  # components of its own: a student changes the UNet
    prompts = instantiate(settings("prompts", "paper").prompts)(prior)
    guidance = instantiate(settings("guidance", name).guidance)(prior, prompts)
    assert guidance.rule == rule
    assert guidance.use_control is use_control
    assert guidance.guidance_scale(0) == (7.5 if name == "ism" else 8.0)
    assert guidance.timestep_range(5) == (20, 900)
    assert (guidance.student is not None) == (name == "vsd")
    assert (guidance.clip is not None) == (name == "clipped")
    assert (guidance.noising is not gaussian) == (name == "ism")


@pytest.mark.parametrize("name", ["perp_neg", "debiased"])
def test_debiased_prompts_are_the_papers_and_one_thing_more(components: dict[str, Any], name: str) -> None:
    paper, more = settings("prompts", "paper").prompts, settings("prompts", name).prompts
    (added,) = set(more) - set(paper)
    assert all(more[key] == paper[key] for key in paper)
    instantiate(more[added])  # the values that it is shipped with are possible
    if name == "perp_neg":
        assert instantiate(more)(Prior(**components)).perp_neg is not None


def test_the_paper_and_tiny_prompts_differ_in_words_only(components: dict[str, Any]) -> None:
    paper, tiny = (settings("prompts", name) for name in ("paper", "tiny"))
    changed = {key for key in paper.prompts if paper.prompts[key] != tiny.prompts[key]}
    assert changed <= {"negative_prompt", "view_text"}
    assert set(tiny.prompts.view_text) == set(VIEWS)
    assert instantiate(tiny.prompts)(Prior(**components)).texts[0] == "a red head, front view"


def test_importing_guidance_leaves_diffusers_alone() -> None:
    code = (
        "import sys, headstudio.guidance.distill, headstudio.guidance.load;"
        "assert not {'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CONF.parent)


def test_the_vocabulary_check_needs_no_torch() -> None:
    code = "import sys, headstudio.guidance.vocabulary, headstudio.guidance.folder; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CONF.parent)
