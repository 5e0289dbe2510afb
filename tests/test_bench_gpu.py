"""The GPU's benchmark, its parts run small on a CPU."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from headstudio import bench_gpu
from headstudio.bench import Measurement
from headstudio.render import cuda
from headstudio.render.cpu import CpuRenderer
from headstudio.types import Render


def test_parity_of_a_right_renderer_is_rounding() -> None:
    found = dict(bench_gpu.parity(CpuRenderer(threads=1), count=60, width=24, height=16))
    assert len(found) == 2 * (3 + len(bench_gpu.INPUTS) + 1)
    assert max(found.values()) < 1e-3
    assert min(found.values()) > 0, "float32 is not float64"


def test_parity_of_a_wrong_renderer_is_not() -> None:
    class Dim(CpuRenderer):
        def __call__(self, *inputs: Any) -> Render:
            render = super().__call__(*inputs)
            return dataclasses.replace(render, rgb=0.9 * render.rgb)

    found = dict(bench_gpu.parity(Dim(threads=1), count=60, width=24, height=16))
    assert found["rgb, 1 pose(s)"] > 0.01
    assert found["gradient of colors, 2 pose(s)"] > 0.05
    assert found["depth, 1 pose(s)"] < 1e-3


def test_drawing_and_animating_name_what_they_time() -> None:
    small = {"at_least_s": 0.0}
    rows = list(bench_gpu.drawing(CpuRenderer(threads=1), counts=(50,), sizes=(16, 24), batch=2, **small))
    assert [row.name for row in rows] == [
        "draw 50 Gaussians, 16x16",
        "draw 50 Gaussians, 24x24",
        "  2 views, 24x24, forward",
        "  2 views, 24x24, forward+backward",
    ]
    rows += list(bench_gpu.animating(CpuRenderer(threads=1), per_triangle=1, size=32, **small))
    assert [row.name.split(" 9,206")[0] for row in rows[-3:]] == ["pose", "draw", "pose and draw"]
    assert all(row.seconds > 0 for row in rows)


def test_training_measures_its_steps(tmp_path: Path) -> None:
    options = ("scale=smoke", "metrics=none", "scale.steps=7", "scale.log_every_steps=2", "scale.width=32",
               "scale.height=32", "scale.picture_every_steps=0", "renderer=cpu")  # fmt: skip
    step, *phases, memory = bench_gpu.training(options, tmp_path / "run")
    assert step.name.startswith("training step, 2 views of 32x32, ")
    assert [row.name.strip() for row in phases] == [
        *("head", "render", "control", "guidance", "backward", "optimiser", "densify")
    ]
    assert 0 < step.seconds < memory.seconds
    assert sum(row.seconds for row in phases) < memory.seconds
    assert "peak memory" in memory.name


def test_the_options_of_the_training_loop_compose() -> None:
    from hydra import compose, initialize_config_dir

    from headstudio import run
    from headstudio.cli import conf_dir

    run.register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=list(bench_gpu.TRAINING))
    run.check(config)
    assert (config.scale.batch_size, config.scale.width, config.scale.per_triangle) == (8, 1024, 10)
    assert config.renderer.packed is False


def test_the_report_is_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda, "missing", lambda: "")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    row = Measurement("draw", 0.5, note="2.0 fps")
    monkeypatch.setattr(bench_gpu, "lines", lambda overrides: [(str(overrides), None), (row.line(), row)])
    text, numbers = tmp_path / "bench.txt", tmp_path / "bench.json"
    assert bench_gpu.main(["memory=12gb", "--text", str(text), "--json", str(numbers)]) == 0
    assert text.read_text() == capsys.readouterr().out
    first, options, last = text.read_text().splitlines()
    assert first.startswith("a GPU, ")
    assert options == "['memory=12gb']"
    assert "500.0 ms" in last
    assert json.loads(numbers.read_text())["measurements"][0]["seconds"] == 0.5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_gpu.main([]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("The GPU benchmark needs an NVIDIA GPU")
    assert told.err.count("\n") == 1


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_draws_the_references_picture() -> None:
    for packed in (False, True):
        found = dict(bench_gpu.parity(cuda.CudaRenderer(packed=packed, absgrad=False)))
        assert max(value for name, value in found.items() if not name.startswith("gradient")) < 1e-4
        assert max(value for name, value in found.items() if name.startswith("gradient")) < 1e-3
