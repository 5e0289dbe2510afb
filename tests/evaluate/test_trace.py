"""Scores on the way: they change nothing, survive every way to stop, and add up as written."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from parts import fresh_avatar, metric
from test_trainer import checkpoint, fit, logged, make_parts, make_trainer, same

from headstudio.evaluate import Judgement, Watch, judge, watched
from headstudio.evaluate.trace import Trace
from headstudio.head.model import HeadModel
from headstudio.interrupt import Interrupted
from headstudio.log import read_lines
from headstudio.render.cpu import CpuRenderer

Losses = dict[int, Callable[[torch.Tensor], torch.Tensor]]


def redness(avatar: Any, renderer: Any, prompt: str) -> Judgement:
    """A metric of the unfinished avatar that needs no picture."""
    red, opaque = (float(values.detach().mean()) for values in (avatar.color_logits[:, 0], avatar.opacity_logits))
    return Judgement({"opaque": opaque, **({"red": red} if prompt == "red" else {})})


def make_trace(every_steps: int = 2) -> Trace:
    curves = {"warmth": "red", "density": "opaque"}
    return Trace(every_steps=every_steps, early=0.5, metrics={"a": redness}, curves=curves)


def without_trace(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if not name.startswith("trace/")} for row in rows]


def test_the_mean_of_the_early_points_by_hand() -> None:
    points = {0: {"warmth": 0.0}, 3: {"warmth": 0.5, "density": 1.0}, 6: {"warmth": 1.0}}
    assert make_trace().sum_up(points, steps=12) == {
        "steps": [0, 3, 6],
        "warmth": [0.0, 0.5, 1.0],
        "warmth_early": 0.25,  # 6 is not in the first half
        "density": [None, 1.0, None],
        "density_early": 1.0,
    }
    assert make_trace().sum_up({}, steps=12) == {}


def test_rows_of_other_steps_and_other_entries_are_no_points() -> None:
    rows = [{"step": 0, "trace/warmth": 1.0}, {"step": 1, "loss/total": 9.0}, {"step": 3, "tracer/warmth": 5.0}]
    assert watched({"trace": make_trace(), "a": redness}, rows) == {
        "trace": {"steps": [0], "warmth": [1.0], "warmth_early": 1.0}
    }
    assert watched({"trace": make_trace()}, []) == {}
    assert judge({"trace": make_trace()}, None, None, "red") == {}  # type: ignore[arg-type]


def test_looking_changes_no_byte(tmp_path: Path, tiny_head: HeadModel) -> None:
    """With the shipped judges, not with the stand-in above."""
    shipped = metric("trace", "metrics=ablation", every_steps=1)
    plain, seen = make_parts(tiny_head), make_parts(tiny_head)
    fit(make_trainer(), plain, tmp_path / "plain")
    fit(make_trainer(), seen, tmp_path / "seen", watch=Watch({"trace": shipped}, "a head with green skin"))
    assert same(seen.avatar.state_dict(), plain.avatar.state_dict())
    assert same(checkpoint(tmp_path / "seen"), checkpoint(tmp_path / "plain"))
    assert without_trace(logged(tmp_path / "seen")) == logged(tmp_path / "plain")
    found = watched({"trace": shipped}, logged(tmp_path / "seen"))["trace"]
    assert found["steps"] == [0, 1, 2, 3]
    assert all(0.0 <= value <= 1.0 for value in found["coverage"])
    assert "alignment" not in found  # the world can't paint the tiny head


def test_points_are_taken_where_nothing_else_is_logged(tmp_path: Path, tiny_head: HeadModel) -> None:
    fit(make_trainer(steps=6, log_every_steps=4), make_parts(tiny_head), tmp_path, watch=Watch({"t": make_trace()}, ""))
    rows = logged(tmp_path)
    assert [row["step"] for row in rows] == [0, 2, 4, 5]
    assert [row["step"] for row in rows if "t/density" in row] == [0, 2, 4]
    assert not any("t/warmth" in row for row in rows)  # the metric says nothing for this sentence


@pytest.mark.parametrize("stop", ["interrupted", "killed"])
def test_a_run_that_goes_on_has_the_points_of_one_that_never_stopped(
    tmp_path: Path, tiny_head: HeadModel, stop: str
) -> None:
    def end(loss: torch.Tensor) -> torch.Tensor:
        if stop == "killed":
            raise MemoryError
        os.kill(os.getpid(), signal.SIGINT)
        return loss

    trace = {"trace": make_trace(every_steps=1)}
    watch = Watch(trace, "red")
    fit(make_trainer(), make_parts(tiny_head), tmp_path / "whole", watch=watch)
    with pytest.raises((Interrupted, MemoryError)):
        fit(make_trainer(), make_parts(tiny_head, {3 if stop == "killed" else 1: end}), tmp_path / "parts", watch=watch)
    before = watched(trace, read_lines(tmp_path / "parts" / "metrics.jsonl"))["trace"]["steps"]
    assert before == ([0, 1, 2] if stop == "killed" else [0, 1])  # step 2 was lost with the process
    fit(make_trainer(), make_parts(tiny_head), tmp_path / "parts", watch=watch)
    assert logged(tmp_path / "parts") == logged(tmp_path / "whole")
    assert watched(trace, logged(tmp_path / "parts"))["trace"]["steps"] == [0, 1, 2, 3]


def test_the_shipped_trace_sees_the_colour_of_the_skin() -> None:
    trace, avatar = metric("trace", "metrics=ablation"), fresh_avatar()
    before = trace.see(avatar, CpuRenderer(), "a bald head with green skin")
    assert before["coverage"] > 0.99
    assert before["alignment"] == 0.5  # bald it is, but grey
    with torch.no_grad():
        avatar.color_logits[:] = torch.tensor([-1.0, 0.6, -1.1])
    assert trace.see(avatar, CpuRenderer(), "a bald head with green skin")["alignment"] == 1.0
