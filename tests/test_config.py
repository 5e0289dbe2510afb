"""conf/ and the code agree: every option composes, every `_target_` fits its signature, every file explains itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from headstudio.cli import conf_dir, groups
from headstudio.run import register_resolvers
from headstudio.runstate import config_signature

AT_RUN_TIME = {"init", "directory", "signature", "name", "group", "config"}
"""Keyword-only arguments that run.py adds to what the YAML calls `_partial_`; it adds the positional ones too."""

FORWARDS = {"headstudio.motion.procedural.ProceduralMotion": "headstudio.motion.procedural.MotionSettings"}
"""Targets that pass all their keywords on, and to whom."""

OPTIONS = [(group, option) for group, options in groups().items() for option in options]


def composed(*overrides: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def targets(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node with a `_target_`, as (dotted path, plain values)."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from targets(value, f"{path}.{key}".strip("."))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from targets(value, f"{path}[{index}]")


def mistakes(node: dict[str, Any]) -> list[str]:
    """How the keys of one node differ from its target's signature: unknown, missing, or a default said twice."""
    given = {key: value for key, value in node.items() if key not in ("_target_", "_partial_")}
    parameters = inspect.signature(get_object(node["_target_"])).parameters
    if node["_target_"] in FORWARDS:
        parameters = inspect.signature(get_object(FORWARDS[node["_target_"]])).parameters
    named = {name: p for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    required = {name for name, p in named.items() if p.default is p.empty}
    if node.get("_partial_"):
        required -= AT_RUN_TIME | {name for name, p in named.items() if p.kind is not p.KEYWORD_ONLY}
    found = [f"unknown key {key}" for key in given if key not in named]
    found += [f"missing key {key}" for key in sorted(required - set(given))]
    for key, value in given.items():
        if key in named and named[key].default is not named[key].empty and named[key].default == value:
            found.append(f"{key}={value!r} only repeats the default of the signature")
    return found


def a_part(late: int, *, init: int, size: int, eps: float = 1e-8) -> None:
    """What the next test describes in YAML."""


def test_the_check_itself_finds_every_kind_of_mistake() -> None:
    node = {"_target_": f"{__name__}.a_part", "init": 1, "size": 2}
    assert mistakes(node) == ["missing key late"]
    assert mistakes({**node, "_partial_": True}) == []
    assert mistakes({**node, "late": 0, "eps": 1e-8}) == ["eps=1e-08 only repeats the default of the signature"]
    assert mistakes({**node, "late": 0, "siez": 3}) == ["unknown key siez"]
    del node["size"]
    assert mistakes({**node, "_partial_": True}) == ["missing key size"]


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: str(value))
def test_every_option_composes_and_fits_its_signature(group: str, option: str) -> None:
    plain = OmegaConf.to_container(composed(f"{group}={option}"), resolve=True)
    wrong = {path: found for path, node in targets(plain) if (found := mistakes(node))}
    assert not wrong


@pytest.mark.parametrize("file", sorted(conf_dir().rglob("*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_file_begins_with_its_help_text(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("# ")


def test_every_default_is_an_option() -> None:
    config = OmegaConf.load(conf_dir() / "config.yaml")
    for entry in config.defaults:
        if entry != "_self_" and not any(word in str(entry) for word in ("experiment", "override hydra")):
            ((group, option),) = entry.items()
            assert option in groups()[group]


def test_every_group_has_a_default() -> None:
    defaults = [str(entry) for entry in OmegaConf.load(conf_dir() / "config.yaml").defaults]
    for group in groups():
        assert any(f"'{group}'" in entry or f"optional {group}" in entry for entry in defaults), group


def test_a_scale_chooses_its_groups_and_the_command_line_overrules_it() -> None:
    paper = composed("scale=paper")
    assert (paper.trainer.steps, paper.optim.rates.means, paper.init.per_triangle) == (10000, 5.0e-5, 10)
    assert composed("scale=paper", "optim=tiny").optim.rates.means != 5.0e-5


def test_the_paper_is_the_default_where_the_scale_does_not_say_otherwise() -> None:
    """Section 4.2-4.4 and 5.1 of the paper, number by number."""
    paper = OmegaConf.to_container(composed("scale=paper"), resolve=True)
    assert isinstance(paper, dict)
    assert paper["optim"]["betas"] == [0.9, 0.99]
    assert list(paper["optim"]["rates"].values()) == [5e-5, 1e-3, 1e-2, 1.25e-2, 1e-2, 1e-3]
    assert paper["trainer"]["shape_freeze_step"] == 8000
    assert (paper["camera"]["batch_size"], paper["camera"]["width"], paper["camera"]["height"]) == (8, 1024, 1024)
    assert paper["camera"]["distance_range"] == [1.5, 2.0]
    assert paper["camera"]["fovy_deg_range"] == [40, 70]
    assert paper["camera"]["elevation_deg_range"] == [-30, 30]
    assert paper["camera"]["azimuth_deg_range"] == [-180, 180]
    assert (paper["reg"]["lambda_pos"], paper["reg"]["lambda_scale"], paper["reg"]["scaled"]) == (0.1, 0.1, True)
    assert (paper["reg"]["tolerance_pos"], paper["reg"]["tolerance_scale"]) == (0.5, 0.5)


@pytest.mark.parametrize("override", ["logger=wandb", "renderer=cpu"])
def test_where_and_how_it_is_shown_is_no_other_run(override: str) -> None:
    assert config_signature(composed(override)) == config_signature(composed())


@pytest.mark.parametrize(
    "override", ["seed=1", "reg=none", "prompt=x", "scale.steps=2", "optim.rates.means=1", "motion=none"]
)
def test_what_can_change_the_result_is_another_run(override: str) -> None:
    assert config_signature(composed(override)) != config_signature(composed())
