"""The benchmark: what it measures is what it says, and its report can be read by a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from headstudio import bench
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
