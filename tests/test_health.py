"""Broken steps: told with step and cause wherever they are read, and never saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_trainer import checkpoint, fit, logged, make_parts, make_trainer

from headstudio import trainer as trainer_module
from headstudio.errors import UserError
from headstudio.head.model import HeadModel
from headstudio.health import Health

CPU = torch.device("cpu")
NAN, INF = float("nan"), float("inf")


def later(tmp_path: Path, limit: float = 100.0) -> Health:
    """As on an accelerator: nothing is read before it is asked for."""
    return Health(CPU, loss_limit=limit, checkpoint=tmp_path / "checkpoint", at_once=False)


def told(health: Health) -> str:
    with pytest.raises(UserError) as error:
        health.verify()
    return str(error.value)


def losses(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def model(**gradients: float | None) -> torch.nn.Module:
    parameters = torch.nn.ParameterDict({name: torch.nn.Parameter(torch.zeros(3)) for name in gradients})
    for name, value in gradients.items():
        parameters[name].grad = None if value is None else torch.tensor([0.0, value, 0.0])
    return parameters


def test_a_sound_run_says_nothing(tmp_path: Path) -> None:
    health = later(tmp_path)
    health.verify()
    health.losses(0, losses(guidance=100.0, reg=-100.0))
    health.gradients(0, model(means=1e30, shape=None))
    health.gradients(0, model(shape=None))
    health.verify()


@pytest.mark.parametrize(
    ("value", "cause"),
    [(NAN, "is not a number"), (INF, "exploded to inf"), (-INF, "exploded to -inf"), (101.0, "exploded to 101")],
)
def test_the_first_broken_step_is_told_however_late_it_is_read(tmp_path: Path, value: float, cause: str) -> None:
    health = later(tmp_path)
    health.losses(3, losses(guidance=1.0, reg=2.0))
    health.losses(4, losses(guidance=1.0, reg=value))
    health.losses(5, losses(guidance=NAN, reg=NAN))
    health.losses(6, losses(guidance=1.0, reg=1.0, sparsity=NAN))
    health.losses(7, losses(guidance=1.0, reg=1.0))
    assert told(health).startswith(f"Stopped at step 4 because the reg loss {cause};")


def test_a_step_is_blamed_on_its_loss_before_its_gradients(tmp_path: Path) -> None:
    health = later(tmp_path)
    health.losses(2, losses(guidance=NAN))
    health.gradients(2, model(means=NAN))
    assert "step 2 because the guidance loss is not a number" in told(health)


def test_a_gradient_of_an_earlier_step_comes_first(tmp_path: Path) -> None:
    health = later(tmp_path)
    health.gradients(1, model(means=1.0, quats=INF))
    health.losses(2, losses(guidance=NAN))
    health.gradients(2, model(means=NAN, quats=NAN))
    assert "step 1 because the gradient of quats is not finite" in told(health)


def test_what_is_kept_is_named(tmp_path: Path) -> None:
    health = later(tmp_path)
    health.losses(2, losses(guidance=NAN))
    assert "checkpoint" not in told(health)
    (tmp_path / "checkpoint").touch()
    assert "the last good checkpoint is kept in" in told(health)


def test_where_reading_is_free_it_raises_at_once(tmp_path: Path) -> None:
    health = Health(CPU, loss_limit=100.0, checkpoint=tmp_path / "checkpoint")
    with pytest.raises(UserError, match="step 0"):
        health.losses(0, losses(guidance=NAN))
    health = Health(torch.device("meta"), loss_limit=100.0, checkpoint=tmp_path / "checkpoint")
    health.losses(0, {"guidance": torch.tensor(NAN, device="meta")})


@pytest.fixture
def as_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop believes that reading is dear."""

    def health(*inputs: Any, **settings: Any) -> Health:
        return Health(*inputs, **settings, at_once=False)

    monkeypatch.setattr(trainer_module, "reading_is_free", lambda device: False)
    monkeypatch.setattr(trainer_module, "Health", health)


@pytest.mark.usefixtures("as_on_an_accelerator")
@pytest.mark.parametrize(("broken", "kept"), [(2, 2), (3, 2), (4, 4), (5, 4)])
def test_nothing_broken_is_saved_when_reading_is_dear(
    tmp_path: Path, tiny_head: HeadModel, broken: int, kept: int
) -> None:
    """Steps 0..7, saved after 2, 4, ... and logged at 0 and 7 only: the break is seen at the next save."""
    trainer = make_trainer(8, log_every_steps=7)
    parts = make_parts(tiny_head, {broken: lambda loss: loss * NAN})
    with pytest.raises(UserError, match=rf"step {broken} because the guidance loss is not a number; the last good"):
        fit(trainer, parts, tmp_path)
    state = checkpoint(tmp_path)
    assert state["step"] == kept
    assert all(bool(torch.isfinite(value).all()) for value in state["avatar"].values())
    assert [row["step"] for row in logged(tmp_path)] == [0]


@pytest.mark.usefixtures("as_on_an_accelerator")
def test_a_run_that_reads_seldom_ends_with_the_same_bytes(
    tmp_path: Path, tiny_head: HeadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seldom = make_parts(tiny_head)
    fit(make_trainer(log_every_steps=2), seldom, tmp_path / "seldom")
    monkeypatch.undo()
    often = make_parts(tiny_head)
    fit(make_trainer(log_every_steps=2), often, tmp_path / "often")
    assert (tmp_path / "seldom" / "checkpoint").read_bytes() == (tmp_path / "often" / "checkpoint").read_bytes()
    assert logged(tmp_path / "seldom") == logged(tmp_path / "often")
