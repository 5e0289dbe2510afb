"""Every value that no run can use is named with its key and what would be right."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from headstudio.cli import conf_dir
from headstudio.errors import UserError
from headstudio.settings import RULES, check


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def test_the_shipped_settings_are_usable() -> None:
    for scale in ("tiny", "smoke", "paper", "official"):
        check(composed(f"scale={scale}"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.keys[0])
def test_every_rule_is_about_keys_that_exist(rule: Any) -> None:
    configs = composed("logger=wandb"), composed("densify=official")
    for key in rule.keys:
        assert any(OmegaConf.select(config, key) is not None for config in configs)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompt", "'  '"),
        ("seed", "-1"),
        ("seed", "0.5"),
        ("scale.steps", "-3"),
        ("scale.steps", "0"),
        ("scale.steps", "many"),
        ("scale.steps", "true"),
        ("scale.batch_size", "0"),
        ("scale.width", "4"),
        ("scale.fovy_deg_range", "[60,180]"),
        ("scale.fovy_deg_range", "[70,60]"),
        ("scale.fovy_deg_range", "60"),
        ("scale.elevation_deg_range", "[-100,0]"),
        ("scale.distance_range", "[0,1]"),
        ("scale.background", "[1,1,2]"),
        ("scale.background", "[1,1]"),
        ("scale.per_triangle", "0"),
        ("scale.grow.interval", "0"),
        ("scale.prune.first", "soon"),
        ("scale.num_shape", "-1"),
        ("scale.min_timestep", "-1"),
        ("scale.lambda_pos", "-0.1"),
        ("scale.initial_opacity", "1"),
        ("scale.initial_color", "[0.5,0.5,1]"),
        ("scale.initial_color", "null"),
        ("optim.rates.means", "-0.1"),
        ("optim.betas", "[0.9]"),
        ("logger.mode", "on"),
        ("logger.tags", "first"),
        ("logger.tags", "[1]"),
    ],
)
def test_a_bad_value_is_one_sentence_with_its_key_and_value(key: str, value: str) -> None:
    with pytest.raises(UserError) as told:
        check(composed("logger=wandb", f"{key}={value}"))
    assert re.match(rf"{re.escape(key)}=.* must be .*\.$", str(told.value))
    assert "\n" not in str(told.value)


def test_a_background_may_be_random() -> None:
    check(composed("scale.background=null"))


@given(st.integers(1, 10**6), st.integers(0, 2**40))
def test_good_values_pass(steps: int, seed: int) -> None:
    config = OmegaConf.create({"prompt": "a head", "seed": seed, "scale": {"steps": steps}})
    check(config)
