"""The loop: same bytes with and without interruption, and every way to stop leaves something to go on from."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from headstudio.avatar.densify import Densifier, Every
from headstudio.avatar.init import SuperResolution
from headstudio.avatar.rigged import RiggedGaussians
from headstudio.camera import CameraSampler
from headstudio.claim import ClaimLost
from headstudio.errors import UserError
from headstudio.evaluate import Watch
from headstudio.guidance.distill import GuidanceResult, Snapshot
from headstudio.head.model import HeadModel
from headstudio.interrupt import Interrupted
from headstudio.log import JsonlLogger
from headstudio.optim import Adam
from headstudio.quantities import repeatable
from headstudio.reg import MeshRegularisation
from headstudio.render.cpu import CpuRenderer
from headstudio.runstate import RunPaths, load_checkpoint
from headstudio.trainer import NOBODY, Parts, Trainer
from headstudio.types import Cameras, Pose, PosedHead

RATES = {"means": 0.02, "log_scales": 0.02, "quats": 0.02, "color_logits": 0.1, "opacity_logits": 0.02, "shape": 0.02}


@dataclass
class RandomPoses:
    head: HeadModel

    def sample(self, count: int, generator: torch.Generator) -> Pose:
        return Pose(
            torch.rand(count, self.head.num_expression, generator=generator),
            0.2 * torch.randn(count, self.head.num_joints, 3, generator=generator),
        )

    def sequence(self, seconds: float, fps: float, generator: torch.Generator) -> Pose:
        return self.sample(round(seconds * fps), generator)


class NoControl:
    def draw(self, posed: PosedHead, head: HeadModel, cameras: Cameras) -> Tensor:
        return torch.zeros(len(cameras), 3, 8, 8)


@dataclass
class PaintGreen:
    """Pulls every picture towards a noisy green; `at` steps may be told to do something else."""

    at: dict[int, Callable[[Tensor], Tensor]]
    use_control = True

    def __call__(self, rgb: Tensor, control: Tensor, cameras: Cameras, step: int, generator: torch.Generator) -> Any:
        noise = 0.1 * torch.randn(rgb.shape, generator=generator)
        target = torch.tensor([0.1, 0.8, 0.2])[:, None, None] + noise
        loss = (rgb - target).square().sum()
        return GuidanceResult(self.at[step](loss) if step in self.at else loss, {"noise": noise.abs().mean()})

    def state_dict(self) -> dict[str, Any]:
        return {}

    def snapshot(self, rgb: Tensor, control: Tensor, cameras: Cameras, step: int, generator: torch.Generator) -> Any:
        noisy = (rgb + 0.3 * torch.randn(rgb.shape, generator=generator)).clamp(0, 1)
        noisy = torch.nn.functional.interpolate(noisy, scale_factor=2.0)  # a prior has a size of its own
        return Snapshot(noisy, noisy, noisy, torch.zeros(len(rgb), dtype=torch.int64))


def make_parts(head: HeadModel, at: dict[int, Callable[[Tensor], Tensor]] | None = None) -> Parts:
    generator = torch.Generator().manual_seed(3)
    init = SuperResolution(per_triangle=2, neighbours=3, distance_power=2)
    avatar = RiggedGaussians(head, generator, init=init, initial_color=(0.5, 0.5, 0.5), initial_opacity=0.5)
    return Parts(
        camera=CameraSampler(
            batch_size=2,
            width=24,
            height=24,
            distance_range=[1.7, 1.8],
            fovy_deg_range=[60, 65],
            elevation_deg_range=[-20, 20],
            narrow_elevation_fraction=0.0,
            azimuth_deg_range=[-180, 180],
            stratified_azimuth=True,
            front_fraction=0.0,
            front_azimuth_deg_range=[-60, 60],
            target=[0.0, 0.0, 0.0],
            target_jitter=0.0,
        ),
        motion=RandomPoses(head),
        avatar=avatar,
        renderer=CpuRenderer(threads=1),
        control=NoControl(),
        guidance=PaintGreen(at or {}),
        reg=MeshRegularisation(
            lambda_pos=0.1, lambda_scale=0.1, tolerance_pos=0.5, tolerance_scale=0.5, length_unit=1.0, scaled=True
        ),
        densify=Densifier(
            grow=Every(first=1, last=4, interval=2),
            prune=Every(first=100, last=100, interval=1),
            gradient_threshold=1.0,
            split_scale=0.05,
            max_scale=10.0,
            min_opacity=0.01,
            prune_min_opacity=0.01,
            max_gaussians=400,
        ),
        optim=Adam(betas=[0.9, 0.99], rates=RATES),
        generator=generator,
        device=torch.device("cpu"),
    )


def make_trainer(steps: int = 4, **changes: Any) -> Trainer:
    settings: dict[str, Any] = {
        "shared_pose": False,
        "background": None,
        "lambda_sparsity": 0.1,
        "shape_freeze_step": 3,
        "log_every_steps": 1,
        "picture_every_steps": 0,
        "snapshot_every_steps": 0,
        "checkpoint_every_steps": 2,
    }
    return Trainer(steps=steps, **{**settings, **changes})


def fit(trainer: Trainer, parts: Parts, root: Path, key: str = "abc", watch: Watch = NOBODY) -> Any:
    root.mkdir(exist_ok=True)
    paths = RunPaths(root)
    saved = load_checkpoint(paths.checkpoint, key) if paths.checkpoint.exists() else None
    return trainer.fit(parts, paths, key, JsonlLogger(root / "metrics.jsonl"), saved, watch)


def logged(root: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    return [repeatable(row) for row in rows]


def same(one: Any, other: Any) -> bool:
    """Bitwise equality of nested states."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def checkpoint(root: Path) -> dict[str, Any]:
    return torch.load(root / "checkpoint", weights_only=True)


def stop_at(step: int) -> dict[int, Callable[[Tensor], Tensor]]:
    """A Ctrl-C in the middle of a step."""

    def press(loss: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        return loss

    return {step: press}


@pytest.mark.parametrize("stopped_in", [0, 1, 2])
def test_interrupted_and_resumed_equals_uninterrupted_bit_by_bit(
    tmp_path: Path, tiny_head: HeadModel, stopped_in: int
) -> None:
    whole = make_parts(tiny_head)
    first_count = whole.avatar.num_gaussians
    fit(make_trainer(), whole, tmp_path / "whole")
    assert whole.avatar.num_gaussians > first_count, "the test must cross a densification"

    with pytest.raises(Interrupted, match=f"after step {stopped_in + 1} of 4.*same command again"):
        fit(make_trainer(), make_parts(tiny_head, stop_at(stopped_in)), tmp_path / "halves")
    resumed = make_parts(tiny_head)
    fit(make_trainer(), resumed, tmp_path / "halves")

    assert same(resumed.avatar.state_dict(), whole.avatar.state_dict())
    assert same(checkpoint(tmp_path / "halves"), checkpoint(tmp_path / "whole"))
    assert logged(tmp_path / "halves") == logged(tmp_path / "whole")


def test_a_kill_loses_only_the_steps_since_the_checkpoint(tmp_path: Path, tiny_head: HeadModel) -> None:
    def die(loss: Tensor) -> Tensor:
        raise MemoryError

    whole = make_parts(tiny_head)
    fit(make_trainer(), whole, tmp_path / "whole")
    with pytest.raises(MemoryError):
        fit(make_trainer(), make_parts(tiny_head, {3: die}), tmp_path / "killed")
    assert checkpoint(tmp_path / "killed")["step"] == 2
    assert len(logged(tmp_path / "killed")) == 3
    resumed = make_parts(tiny_head)
    fit(make_trainer(), resumed, tmp_path / "killed")
    assert same(resumed.avatar.state_dict(), whole.avatar.state_dict())
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")


def test_who_has_lost_the_run_writes_no_checkpoint(tmp_path: Path, tiny_head: HeadModel) -> None:
    """Another process took over while this one slept; only what the new owner saves may lie there."""
    calls = []

    def lose() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise ClaimLost("taken over")

    paths = RunPaths(tmp_path / "run", lose)
    paths.prepare()
    with pytest.raises(ClaimLost):
        make_trainer().fit(make_parts(tiny_head), paths, "s", JsonlLogger(paths.steps), None)
    assert load_checkpoint(paths.checkpoint, "s")["step"] == 2  # the first was still its own
    with pytest.raises(ClaimLost):
        RunPaths(tmp_path / "run", lambda: (_ for _ in ()).throw(ClaimLost("taken over"))).finish("s", {})
    assert not paths.done.exists()


@pytest.mark.parametrize(
    ("factor", "cause"), [(float("nan"), "is not a number"), (float("inf"), "exploded"), (1e12, "exploded")]
)
def test_a_broken_loss_stops_with_step_and_cause(
    tmp_path: Path, tiny_head: HeadModel, factor: float, cause: str
) -> None:
    with pytest.raises(UserError, match=f"step 3 because the guidance loss {cause}.*last good checkpoint is kept"):
        fit(make_trainer(), make_parts(tiny_head, {3: lambda loss: loss * factor}), tmp_path)
    kept = checkpoint(tmp_path)
    assert kept["step"] == 2
    assert all(bool(torch.isfinite(value).all()) for value in kept["avatar"].values())


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_parameters(
    tmp_path: Path, tiny_head: HeadModel
) -> None:
    class Poison(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, loss: Tensor) -> Tensor:
            return loss.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * float("nan")

    parts = make_parts(tiny_head, {1: Poison.apply})
    with pytest.raises(UserError, match=r"step 1 because the gradient of .* is not finite"):
        fit(make_trainer(), parts, tmp_path)
    assert all(bool(torch.isfinite(value).all()) for value in parts.avatar.state_dict().values())


class _Full(torch.autograd.Function):
    """Needs more memory than there is, in the backward pass."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_gpu_that_is_full_in_the_backward_pass_is_told_in_a_sentence(tmp_path: Path, tiny_head: HeadModel) -> None:
    with pytest.raises(UserError, match=r"not enough while training; use memory=12gb.*smaller scale\.batch_size"):
        fit(make_trainer(), make_parts(tiny_head, {1: _Full.apply}), tmp_path)


def test_the_shape_learns_until_its_step_and_not_after(tmp_path: Path, tiny_head: HeadModel) -> None:
    shapes = {}
    for steps in (1, 3, 4):
        parts = make_parts(tiny_head)
        fit(make_trainer(steps, shape_freeze_step=3), parts, tmp_path / str(steps))
        shapes[steps] = parts.avatar.shape.detach().clone()
    assert not torch.equal(shapes[1], shapes[3])
    assert torch.equal(shapes[3], shapes[4])


def test_looking_at_the_guidance_changes_nothing(tmp_path: Path, tiny_head: HeadModel) -> None:
    plain, watched = make_parts(tiny_head), make_parts(tiny_head)
    fit(make_trainer(), plain, tmp_path / "plain")
    fit(make_trainer(snapshot_every_steps=2), watched, tmp_path / "watched")
    assert same(watched.avatar.state_dict(), plain.avatar.state_dict())
    assert [p.name for p in sorted((tmp_path / "watched" / "snapshots").iterdir())] == [
        "step_000000.png",
        "step_000002.png",
    ]


def test_it_learns(tmp_path: Path, tiny_head: HeadModel) -> None:
    fit(make_trainer(steps=25, background=[0.0, 0.0, 0.0]), make_parts(tiny_head), tmp_path)
    rows = logged(tmp_path)
    assert rows[-1]["loss/guidance"] < 0.8 * rows[0]["loss/guidance"]


def test_phases_add_up_to_the_seconds(tmp_path: Path, tiny_head: HeadModel) -> None:
    report = fit(make_trainer(steps=6), make_parts(tiny_head), tmp_path)
    assert list(report.phases) == ["head", "render", "control", "guidance", "backward", "optimiser", "densify"]
    assert 0 < 5 * sum(report.phases.values()) < report.seconds


def test_rates_must_name_the_parameters(tiny_head: HeadModel) -> None:
    with pytest.raises(UserError, match=r"optim\.rates names"):
        Adam(betas=[0.9, 0.99], rates={"means": 0.1})(make_parts(tiny_head).avatar)
