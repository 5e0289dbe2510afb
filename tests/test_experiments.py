"""The named settings: what they choose, that a smaller scale leaves the method alone, and that they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from commands import run
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from headstudio.cli import conf_dir, groups
from headstudio.paper_table import Setting, composed
from headstudio.run import register_resolvers
from headstudio.schedule import as_schedule
from headstudio.settings import check

EXPERIMENTS = sorted(groups()["experiment"])
OPEN = ["head=anny", "prior=tiny", "prompts=tiny", "control=tiny", "motion=procedural", "metrics=none"]
"""The parts that ship with the package, in the place of those that need a licence, a download or a GPU."""


def flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from flat(value, f"{path}.{key}".strip("."))
    else:
        yield path, node


def differences(one: Setting, other: Setting) -> set[str]:
    """The dotted keys whose values differ."""
    first, second = dict(flat(one.values)), dict(flat(other.values))
    return {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}


def sizes() -> set[str]:
    """What a scale is: the keys of conf/scale/tiny.yaml."""
    return {f"scale.{key}" for key, _ in flat(OmegaConf.to_container(OmegaConf.load(conf_dir() / "scale/tiny.yaml")))}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("scale", [None, "smoke", "tiny"])
def test_an_experiment_is_usable_at_every_scale(experiment: str, scale: str | None) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        check(compose("config", overrides=[f"experiment={experiment}", *([f"scale={scale}"] if scale else [])]))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_small_scale_changes_sizes_and_steps_only(experiment: str) -> None:
    whole, small = composed([f"experiment={experiment}"]), composed([f"experiment={experiment}", "scale=smoke"])
    assert {group for group in whole.choices if whole.choices[group] != small.choices.get(group)} == {"scale"}
    changed = differences(whole, small)
    assert small.at("scale.steps") == 12
    assert {key for key in changed if key.startswith("scale.")} <= sizes()
    # every other change is one of those, handed on
    wanted = {str(small.at(key)) for key in sizes()}
    handed = {key for key in changed if not key.startswith("scale.")}
    assert handed >= {"trainer.steps", "camera.width", "densify.grow.first", "gallery.width"}
    assert {str(small.at(key)) for key in handed} <= wanted


def test_a_recipe_and_a_scale_share_no_key() -> None:
    """Else the later one would decide what the earlier one says."""
    for recipe in groups()["recipe"]:
        numbers = OmegaConf.to_container(OmegaConf.load(conf_dir() / f"recipe/{recipe}.yaml"))
        assert isinstance(numbers, dict)
        assert not {f"scale.{key}" for key, _ in flat(numbers)} & sizes()


def test_scale_paper_is_the_papers_numbers_with_the_open_parts() -> None:
    """The scale alone neither asks for FLAME nor for recordings, but its numbers are the experiment's."""
    alone, experiment = composed(["scale=paper"]), composed(["experiment=paper"])
    changed = {group for group in alone.choices if alone.choices[group] != experiment.choices.get(group)}
    assert changed <= {"head", "prior", "motion", "metrics", "experiment"}
    assert {key for key in differences(alone, experiment) if key.startswith("scale.")} == {"scale.num_shape"}


def test_the_command_line_overrules_an_experiment() -> None:
    setting = composed(["experiment=paper", *OPEN, "reg=official", "scale.lambda_pos=0.5", "scale.steps=7"])
    assert (setting.at("choice.head"), setting.at("choice.reg")) == ("anny", "official")
    assert (setting.at("trainer.steps"), setting.at("scale.lambda_pos")) == (7, 0.5)
    assert setting.at("camera.width") == 1024


@pytest.mark.parametrize("group", ["init", "reg", "guidance", "camera", "densify", "optim", "motion", "prompts"])
def test_what_the_released_code_does_differently_is_one_option_each(group: str) -> None:
    official = composed(["experiment=official"]).choices[group]
    mixed = composed(["experiment=paper", f"{group}={official}"])
    paper = composed(["experiment=paper"])
    assert mixed.choices[group] == official != paper.choices[group]
    changed = {key for key in differences(mixed, paper) if not key.startswith("metrics.clip.view_text")}
    assert changed
    assert {key.split(".")[0] for key in changed} == {group}


# The steps of 10000 at which each experiment does something else than before: the paper's section 4.4 with the schedule
# of HumanGaussian, and what the released code's strict inequalities come to (Head3DGSLKs.py:194-299).
PHASES: dict[str, dict[str, Any]] = {
    "paper": {
        "grow": [300, 600, 900, 1200, 1500, 1800, 2100],
        "prune": [2400, 2700, 3000, 3300],
        "learning shape": 8000,
        "lambda_pos": {0: 0.1, 9999: 0.1},
        "rate": {0: 5e-5, 9999: 5e-5},
    },
    "official": {
        "grow": [600, 900, 1200, 1500, 1800],
        "prune": [2700, 3000],
        "learning shape": 7001,
        "lambda_pos": {0: 0.0, 2399: 0.0, 2400: 0.1, 9999: 0.1},
        "rate": {0: 2e-4, 10000: 2e-4 * 0.5 ** (1 / 3), 30000: 1e-4},
    },
}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_phases_of_an_experiment_begin_and_end_where_its_source_says(experiment: str) -> None:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=[f"experiment={experiment}"])
    wanted = PHASES[experiment]
    densify, reg = (instantiate(part, _convert_="all") for part in (config.densify, config.reg))
    steps = range(config.trainer.steps)
    assert len(steps) == 10000
    assert [step for step in steps if densify.grow(step)] == wanted["grow"]
    assert [step for step in steps if densify.prune(step)] == wanted["prune"]
    assert config.trainer.shape_freeze_step == wanted["learning shape"]
    lowest, highest = (instantiate(config.scale[f"{name}_timestep"], _convert_="all") for name in ("min", "max"))
    assert {(lowest(step), highest(step)) for step in range(3001)} == {(50.0, 800.0)}
    assert {(lowest(step), highest(step)) for step in range(3001, 10000)} == {(20.0, 550.0)}
    weight, rate = as_schedule(reg.lambda_pos), instantiate(config.optim, _convert_="all").rates["means"]
    assert {step: weight(step) for step in wanted["lambda_pos"]} == wanted["lambda_pos"]
    assert {step: rate(step) for step in wanted["rate"]} == pytest.approx(wanted["rate"])


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_runs_with_the_parts_that_ship(experiment: str, tmp_path: Path) -> None:
    small = ["scale=smoke", "scale.num_shape=10", "scale.width=64", "scale.height=64", "scale.gallery_size=32"]
    done = run("headstudio.run", f"experiment={experiment}", *OPEN, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Done" in done.stdout
    (folder,) = (tmp_path / "outputs").iterdir()
    assert (folder / "avatar.ply").stat().st_size > 0
