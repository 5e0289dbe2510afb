"""The W&B workspace and report: complete, valid by W&B's own classes, and of what the runs log."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headstudio import quantities
from headstudio.errors import UserError
from headstudio.report import wandb as report
from headstudio.report.wandb_panels import GRID, MEDIA, SCORES, Axis, arranged, chapters

workspaces = pytest.importorskip("wandb_workspaces.workspaces")

AXES = [Axis.named(name, {"reg", "guidance"}) for name in ("reg", "seed", "scale.guidance_scale")]


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    return parser.parse_args(list(words))


@pytest.fixture(autouse=True)
def _without_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.chdir(tmp_path)


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a specification."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def panels(node: Any, kind: str) -> list[dict[str, Any]]:
    return [found["config"] for found in walk(node) if found.get("viewType") == kind]


@pytest.fixture
def specification(tmp_path: Path) -> dict[str, Any]:
    words = ("heads", "--sweep", "a-sweep", "--by", "reg", "seed", "scale.guidance_scale", "--out", "spec.json")
    assert report.main(arguments(*words)) == 0
    return dict(json.loads((tmp_path / "spec.json").read_text()))


@pytest.mark.parametrize("part", ["workspace", "report"])
def test_every_axis_has_its_bars_and_the_parallel_plot_joins_settings_and_scores(
    specification: dict[str, Any], part: str
) -> None:
    bars = panels(specification[part], "Bar Chart")
    grouped = {(bar["metrics"][0], bar["groupBy"]) for bar in bars if "groupBy" in bar}
    keys = ("options.value.reg", "seed.value", "scale.value.guidance_scale")
    assert grouped == {(name, key) for name in (*SCORES, "seconds") for key in keys}
    (parallel,) = panels(specification[part], "Parallel Coordinates Plot")
    columns = [column["accessor"] for column in parallel["columns"]]
    assert columns == [*(f"config:{key}" for key in keys), *(f"summary:{name}" for name in SCORES)]
    assert {(plot["xAxis"], plot["yAxis"]) for plot in panels(specification[part], "Scatter Plot")} == {
        ("summary:seconds", "summary:clip_score"),
        ("summary:clip_score", "summary:alignment_rest"),
        ("summary:clip_score", "summary:alignment_animation"),
    }
    shown = [key for browser in panels(specification[part], "Media Browser") for key in browser["mediaKeys"]]
    assert shown == [f"pictures/{name}" for name in MEDIA]
    lines = panels(specification[part], "Run History Line Plot")
    patterns = {line["metricRegex"] for line in lines if "metricRegex" in line}
    assert patterns == {f"^{group}/.*" for group in ("loss", "guidance", "schedule", "rate", "seconds")}


def test_only_the_runs_of_the_sweep_are_shown(specification: dict[str, Any]) -> None:
    for part in ("workspace", "report"):
        text = json.dumps(specification[part])
        assert '"value": "a-sweep"' in text or '["a-sweep"]' in text
    assert "a-sweep" not in json.dumps(report.workspace_spec(report.build_workspace("", "p", None, AXES, SCORES)))


def test_wandb_reads_both_back(specification: dict[str, Any]) -> None:
    from wandb_workspaces.reports.v2.internal import Spec
    from wandb_workspaces.workspaces.internal import View, WorkspaceViewspec

    spec = WorkspaceViewspec.model_validate(specification["workspace"])
    view = View(entity="me", project="heads", display_name="Heads", name="", id="", spec=spec)
    sections = [section.name for section in workspaces.Workspace._from_model(view).sections]
    assert sections == [chapter.title for chapter in chapters(AXES, SCORES)]
    assert sections[:4] == ["Scores", "By reg", "By seed", "By scale.guidance_scale"]
    blocks = Spec.model_validate(specification["report"]).blocks
    assert sum(block.type == "panel-grid" for block in blocks) == len(sections)


def test_panels_of_a_report_do_not_overlap() -> None:
    for chapter in chapters(AXES, SCORES):
        taken: set[tuple[int, int]] = set()
        for panel in arranged(chapter.panels):
            spot = panel.layout
            cells = {(x, y) for x in range(spot.x, spot.x + spot.w) for y in range(spot.y, spot.y + spot.h)}
            assert not cells & taken
            assert spot.x + spot.w <= GRID
            taken |= cells


def test_what_is_plotted_is_what_is_logged() -> None:
    """Names in panels that nobody logs would be empty plots."""
    from headstudio.log_bench import _row

    row = _row()
    row(0)
    logged = set(row(10)) | {quantities.GPU_MEMORY}
    spec = report.workspace_spec(report.build_workspace("", "p", None, AXES, SCORES))
    drawn = {name for line in panels(spec, "Run History Line Plot") for name in line.get("metrics", ())}
    assert {quantities.TOTAL, quantities.STEP_SECONDS, quantities.GAUSSIANS} <= drawn <= logged


def test_axes_are_options_then_keys_and_each_is_there_once() -> None:
    def config(reg: str, seed: int, scale: float, lambda_pos: float) -> dict[str, Any]:
        return {
            "options": {"reg": reg, "guidance": "sds"},
            "seed": seed,
            "scale": {"guidance_scale": scale, "steps": 5},
            "guidance": {"guidance_scale": scale},  # repeats scale.guidance_scale
            "reg": {"lambda_pos": lambda_pos},  # is what the option stands for
            "prompt": "a head",
        }

    configs = [config("none", 0, 4.0, 0.0), config("strict", 0, 4.0, 0.1), config("none", 1, 8.0, 0.0)]
    assert report.axes_of([*configs, config("none", 1, 4.0, 0.0)]) == ["reg", "seed", "scale.guidance_scale"]
    assert report.axes_of(configs) == ["reg", "seed"]  # with the seed the scale changes too
    assert report.axes_of(configs[:1]) == []


def test_without_a_key_and_without_a_file_it_says_what_is_needed() -> None:
    with pytest.raises(UserError, match=r"no W&B API key: `wandb login`.*--out FILE"):
        report.main(arguments("heads"))


def test_a_key_of_the_wrong_form_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "abc")
    with pytest.raises(UserError, match=r"^The W&B API key cannot be used \(.*\)\.$"):
        report.main(arguments("heads"))


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install 'wandb-workspaces"):
        report.main(arguments("heads", "--out", "x"))


SAVING = """
import sys
sys.path.insert(0, sys.argv[1])
import json, os
from wandb_server import KEY, SentRun, wandb_server
with wandb_server() as server:
    os.environ |= {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}
    for reg in ("none", "strict"):
        config = {"options": {"value": {"reg": reg}}, "seed": {"value": 0}}
        server.runs[reg] = SentRun({"config": json.dumps(config), "groupName": "a-sweep"})
    from headstudio.report.__main__ import main
    codes = [main(["wandb", "heads", "--sweep", name]) for name in ("a-sweep", "no-sweep")]
    print(codes, [(view["type"], view["projectName"], "options.value.reg" in view["spec"]) for view in server.views])
    print(server.unknown)
"""


@pytest.mark.slow
def test_with_a_key_both_are_saved_by_what_the_runs_differ_in(tmp_path: Path) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", SAVING, tests], check=False, capture_output=True, text=True, env=own, cwd=tmp_path
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Workspace: http://127.0.0.1"), done.stderr
    assert lines[1].startswith("Report: http://127.0.0.1")
    assert lines[2:] == ["[0, 2] [('project-view', 'heads', True), ('runs', 'heads', True)]", "[]"]
    assert "The W&B project heads has no runs in the group no-sweep." in done.stderr
