"""What a step logs: grouped names, and values that are what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from test_trainer import RATES, fit, make_parts, make_trainer

from headstudio import quantities
from headstudio.head.model import HeadModel
from headstudio.log_bench import logging_cost
from headstudio.reg import MeshRegularisation
from headstudio.schedule import Linear


def rows(root: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]


def test_a_row_has_losses_schedules_rates_timings_and_memory(tmp_path: Path, tiny_head: HeadModel) -> None:
    from dataclasses import replace

    falling = Linear(start=0.4, end=0.0, first_step=0, last_step=4)
    reg = MeshRegularisation(
        lambda_pos=falling, lambda_scale=0.1, tolerance_pos=0.5, tolerance_scale=0.5, length_unit=1.0, scaled=True
    )
    parts = replace(make_parts(tiny_head), reg=reg)
    parts.optim.rates["means"] = falling
    fit(make_trainer(), parts, tmp_path)
    first, *_, last = rows(tmp_path)
    losses = ("guidance", "reg_position", "reg_scale", "sparsity")
    for row in (first, last):
        assert row[quantities.TOTAL] == pytest.approx(sum(row[f"loss/{name}"] for name in losses))
    assert [row["schedule/lambda_pos"] for row in rows(tmp_path)] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert [row["rate/means"] for row in rows(tmp_path)] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert {name: last[f"rate/{name}"] for name in RATES} == pytest.approx(RATES | {"means": 0.1})
    assert last[quantities.GAUSSIANS] == parts.avatar.num_gaussians > first[quantities.GAUSSIANS]
    assert "guidance/noise" in last
    phases = [name for name in last if name.startswith("seconds/")]
    assert phases[0] == quantities.STEP_SECONDS
    assert not [name for name in first if name.startswith("seconds/")], "the first step compiles"
    assert sum(last[name] for name in phases[1:]) <= last[quantities.STEP_SECONDS]
    assert 0.05 < last[quantities.MEMORY] < 50


def test_what_two_equal_runs_have_in_common_leaves_out_clock_and_machine() -> None:
    row = {"step": 3, "seconds": 1.5, "seconds/render": 0.1, "machine/memory_gb": 2.0, "loss/total": 4.0}
    assert quantities.repeatable(row) == {"step": 3, "loss/total": 4.0}


def test_every_name_stands_in_the_page() -> None:
    """docs/wandb.md lists what a run logs."""
    from headstudio.log_bench import _row

    page = (Path(__file__).parents[1] / "docs" / "wandb.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([a-z]+/[a-z_]+)`", page))
    row = _row()
    row(0)
    assert set(row(10)) <= listed
    assert {"loss/sparsity", "schedule/lambda_pos", quantities.GPU_MEMORY, "pictures/view", "pictures/grid"} <= listed


@pytest.mark.slow
@pytest.mark.parametrize("wandb", [False, True])
def test_logging_costs_less_than_two_per_cent_of_a_step(wandb: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    torch.rand(1)
    step_s = 0.150  # a step of the default scale on two cores, alone; results/README.md
    best = min(logging_cost(wandb=wandb, rows=40).step_s for _ in range(3))
    assert best < 0.02 * step_s
