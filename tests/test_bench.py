"""The benchmark: what it measures is what it says, and its report can be read by a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from finished_run import finished

from headstudio import bench, bench_animate
from headstudio.cli import conf_dir
from headstudio.errors import UserError
from headstudio.render.reference import project


def test_measure_is_the_median_without_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    durations = iter([100.0, 1.0, 9.0, 2.0])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: now[0])

    def work() -> None:
        now[0] += next(durations)

    assert bench.measure(work) == 2.0


def test_the_scene_is_seen_whole_by_every_camera() -> None:
    gaussians, cameras = bench.covered_ellipsoid(500), bench.turned_cameras(4, 64)
    projected = project(gaussians, cameras)
    assert projected.visible.all()
    assert ((projected.means2d > 0) & (projected.means2d < 64)).all()
    rotation = cameras.camera_from_world[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(4, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(4))


def _one_line() -> Iterator[bench.Measurement]:
    yield bench.Measurement("drawing", 0.5, 2.0, "something slower", "2.0 fps")


def _refuse() -> Iterator[bench.Measurement]:
    raise UserError("The run that the benchmark measures failed: no prior")
    yield


def test_report_as_text_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "PARTS", {"renderer": _one_line, "step": _refuse})
    monkeypatch.setattr(sys, "argv", ["bench", "--json", str(tmp_path / "bench.json")])
    assert bench.main() == 1
    printed = capsys.readouterr()
    assert "500.0 ms" in printed.out
    assert "2.0 x something slower" in printed.out
    assert "no prior" in printed.err
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["measurements"][0]["seconds"] == 0.5
    assert report["machine"]["cores"] >= 1


def test_an_unknown_part_lists_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "rendrer"])
    with pytest.raises(SystemExit) as exit_:
        bench.main()
    assert exit_.value.code == 2
    assert "renderer, step, help, sweep, logging" in capsys.readouterr().err


class Watching:
    """A renderer that draws nothing and remembers what it was given."""

    device = "cpu"

    def __init__(self) -> None:
        self.seen: list[tuple[int, torch.Tensor]] = []

    def __call__(self, scene: Any, cameras: Any, background: torch.Tensor) -> None:
        assert cameras.width == cameras.height
        self.seen.append((cameras.width, scene.means))


def test_animation_is_measured_on_new_poses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved, watching = finished(tmp_path / "run"), Watching()
    procedural = (conf_dir() / "motion" / "procedural.yaml").read_text(encoding="utf-8")
    with (tmp_path / "run" / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("motion:\n" + "".join(f"  {line}\n" for line in procedural.splitlines()))
    monkeypatch.setattr(bench_animate, "renderers", lambda: {"CPU": watching})
    monkeypatch.setattr(bench_animate, "measure", lambda work: [work() for _ in range(30)] and 0.25)
    lines = list(bench_animate.bench_animate(tmp_path / "run"))
    assert lines[0].name == f"CPU: deform {saved.num_gaussians} Gaussians"
    sizes = (256, 512, 1024)
    assert [line.name for line in lines[1:]] == [f"CPU: {what} {s}x{s}" for s in sizes for what in ("draw", "both")]
    assert {line.note for line in lines} == {"4.0 fps"}
    assert [size for size, _ in watching.seen] == [size for size in sizes for _ in range(60)]
    draw, both = watching.seen[:30], watching.seen[30:60]
    assert all(means is draw[0][1] for _, means in draw)
    moves = [float((b - a).abs().max()) for (_, a), (_, b) in pairwise(both)]
    assert sum(move > 1e-5 for move in moves) > 25
