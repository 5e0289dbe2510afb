"""The commands of the README are commands: each composes, or parses, as it stands there."""

from __future__ import annotations

import shlex
from importlib import import_module
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.types import RunMode

from headstudio import ablation, cli
from headstudio.drivers import DRIVERS
from headstudio.export.formats import FORMATS
from headstudio.prompts import expand
from headstudio.report.__main__ import parser as report_parser
from headstudio.run import register_resolvers
from headstudio.settings import check
from headstudio.sweep.__main__ import parser
from headstudio.sweep.compose import Composer

ROOT = Path(__file__).parents[1]
LINES = [
    line.strip().partition("  #")[0] for line in (ROOT / "README.md").read_text().splitlines() if line[:4] == "    "
]
RUNS = [line for line in LINES if line.startswith("python -m headstudio.run ") and "+ablation=" not in line]
ABLATIONS = [line for line in LINES if "+ablation=" in line]
REPORTS = [line for line in LINES if line.startswith("python -m headstudio.report ")]
HEADS = {
    name: [line for line in LINES if line.startswith(f"python -m headstudio.{name} RUN")]
    for name in ("animate", "view", "export")
}
SWEEPS = [line for line in LINES if line.startswith("python -m headstudio.sweep ")]


def test_there_is_something_to_test() -> None:
    assert len(RUNS) >= 8
    assert {line.split()[3] for line in REPORTS} == {"html", "sheet", "wandb"}
    assert {line.split()[3] for line in SWEEPS} == {
        *("status", "watch", "logs", "cancel", "retry", "show", "repeat", "clean")
    }


def test_commands_for_finished_heads_parse() -> None:
    for name, lines in HEADS.items():
        module = import_module(f"headstudio.{name}" if name == "animate" else f"headstudio.{name}.__main__")
        assert len(lines) >= 2
        for line in lines:
            module.parser().parse_args(shlex.split(line)[3:])
    drivers = {line.split()[4].removeprefix("--") for line in HEADS["animate"]}
    assert drivers == set(DRIVERS)
    assert {shlex.split(line)[5] for line in HEADS["export"]} <= set(FORMATS)


@pytest.mark.parametrize("line", RUNS)
def test_a_run_composes(line: str) -> None:
    words = [word for word in expand(cli.quote_prompts(shlex.split(line)[3:])) if "=" in word]
    GlobalHydra.instance().clear()
    try:
        register_resolvers()
        setup_globals()
        search_path = create_automatic_config_search_path("x.py", None, str(cli.conf_dir()))
        hydra = Hydra.create_main_hydra2("test", search_path)
        swept = [word for word in words if not word.startswith(("hydra.", "hydra/"))]
        own = [word for word in words if word not in swept]
        master = hydra.compose_config("config", ["hydra.sweep.dir=x", *own], RunMode.MULTIRUN, False)
        (batch,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(swept), None)
        composer = Composer(hydra.config_loader, master)
        for number, overrides in enumerate(batch):
            check(composer.compose(overrides, number).config)
    finally:
        GlobalHydra.instance().clear()


def test_every_ablation_is_there_and_can_be_run() -> None:
    """Whether their arms compose: tests/test_ablation_arms.py."""
    assert {name for line in ABLATIONS for name in ablation.named(line.split())} == set(ablation.files())
    for line in ABLATIONS:
        ablation.check(line.split())


@pytest.mark.parametrize("line", REPORTS)
def test_a_report_command_is_understood(line: str) -> None:
    words = line.split()[3:]
    arguments = report_parser(words[0]).parse_args(words)
    assert arguments.action == words[0]


@pytest.mark.parametrize("line", SWEEPS)
def test_a_sweep_command_is_understood(line: str) -> None:
    words = line.replace("[", "").replace("]", "").split()[3:]
    arguments = parser().parse_args(words)
    assert str(getattr(arguments, "sweep", "SWEEP")) == "SWEEP"
