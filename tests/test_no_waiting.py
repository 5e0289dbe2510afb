"""A training step lets the host run ahead: on an accelerator nothing in it waits for a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from no_waiting import Waits, no_waiting
from omegaconf import DictConfig
from torch import Tensor

from headstudio.camera import project
from headstudio.cli import conf_dir
from headstudio.device import to_device
from headstudio.guidance import memory
from headstudio.health import Health
from headstudio.run import build, make, register_resolvers
from headstudio.runstate import RunPaths
from headstudio.standins.diffusion import PriorFiles, write_prior
from headstudio.timer import PhaseTimer
from headstudio.trainer import Trainer
from headstudio.types import Cameras, Gaussians, Render

META = torch.device("meta")

WAITING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "bool": lambda x: bool((x > 0).all()),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "cpu": lambda x: x.cpu(),
    "to cpu": lambda x: x.to("cpu", non_blocking=True),
    "nonzero": lambda x: torch.nonzero(x),
    "mask": lambda x: x[x > 0],
    "mask assigned a tensor": lambda x: x.index_put_((x > 0,), x[:1]),
    "masked_select": lambda x: torch.masked_select(x, x > 0),
    "index from the host": lambda x: x[torch.tensor([0, 1])],
    "list as index": lambda x: x[[0, 2]],
    "blocking copy": lambda x: torch.zeros(3).to(x.device),
    "blocking copy_": lambda x: x.copy_(torch.zeros(3)),
    "tensor of numbers": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "new_tensor of numbers": lambda x: x.new_tensor([1.0, 2.0]),
    "number into a place": lambda x: x.__setitem__(0, 1.0),
    "inverse": lambda x: torch.linalg.inv(torch.eye(3, device=x.device)),
    "repeat_interleave": lambda x: torch.repeat_interleave(x, torch.ones(3, dtype=torch.int64, device=x.device)),
}

FREE: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda x: torch.where(x > 0, x * 2, 1.0).sum(),
    "a number where a mask says": lambda x: x.__setitem__(x > 0, 1.0),
    "a number into a slice": lambda x: x.__setitem__(slice(1), 1.0),
    "copy that does not block": lambda x: torch.zeros(3).to(x.device, non_blocking=True),
    "to_device": lambda x: x + to_device(torch.zeros(3), x.device),
    "index from the device": lambda x: x[torch.zeros(2, dtype=torch.int64, device=x.device)],
    "filled there": lambda x: torch.full((3,), 2.0, device=x.device) + torch.eye(3, device=x.device)[0],
    "work on the host": lambda x: torch.tensor([1.0, 2.0])[torch.tensor([True, False])].tolist(),
}


@pytest.mark.parametrize("name", WAITING)
def test_the_watch_sees(name: str) -> None:
    with no_waiting(), pytest.raises((Waits, RuntimeError, TypeError)):
        WAITING[name](torch.zeros(3, device=META))


@pytest.mark.parametrize("name", FREE)
def test_the_watch_lets_pass(name: str) -> None:
    with no_waiting():
        FREE[name](torch.zeros(3, device=META))


class BlindRenderer:
    """Stands for gsplat on the stand-in device: right shapes, gradients to all inputs, no picture."""

    device = "meta"

    def __call__(self, gaussians: Gaussians, cameras: Cameras, background: Tensor) -> Render:
        assert not any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))
        assert {gaussians.means.dtype, gaussians.quats.dtype, gaussians.scales.dtype} == {torch.float32}
        means2d, _ = project(gaussians.means, cameras)
        means2d.retain_grad()
        count, size = means2d.shape[:2]
        shade = (gaussians.opacities[:, None] * gaussians.colors).mean(0)
        shade = shade + means2d.mean(1).mean(-1, keepdim=True) + (gaussians.quats.sum() + gaussians.scales.sum())
        rgb = (shade + background)[..., None, None].expand(count, 3, cameras.height, cameras.width)
        radii = torch.ones(count, size, dtype=torch.int32, device=means2d.device)
        return Render(rgb, rgb[:, :1], rgb[:, :1], means2d, radii)


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, PriorFiles]:
    """Stable Diffusion's and the ControlNet's real layers, a tenth as wide, with a VAE that draws its latents."""
    folder = tmp_path_factory.mktemp("priors")
    return {kind: write_prior(folder / kind, kind, sample_size=8) for kind in ("rv51", "sd15")}


def composed(*overrides: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=["scale=smoke", *overrides])


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("guidance=sds", "reg=strict", "scale.shared_pose=true"),
        ("guidance=fsds", "reg=none", "scale.lambda_sparsity=0"),
        ("guidance=nfsd", "scale.background=null"),
        ("guidance=clipped", "prompts=perp_neg", "densify=official"),
        ("guidance=ssd", "reg=official"),
        ("guidance=ism", "motion=expressive"),
        pytest.param(("guidance=vsd",), marks=pytest.mark.slow),
        pytest.param(("recipe=paper", "prior=rv51", "prompts=paper"), marks=pytest.mark.slow),
        pytest.param(
            ("recipe=paper", "prior=sd15", "memory=12gb", "guidance=fsds", "camera=official"), marks=pytest.mark.slow
        ),
    ],
    ids=lambda options: ",".join(options) or "default",
)
def test_a_step_waits_for_nothing(
    options: tuple[str, ...], tmp_path: Any, stand_ins: Mapping[str, PriorFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "total_gb", lambda device: None)  # the stand-in device has no memory to measure
    kind = next((option.removeprefix("prior=") for option in options if option.startswith("prior=")), None)
    config = composed(*options, *(stand_ins[kind].overrides() if kind else ()))
    config.renderer = {"_target_": f"{__name__}.BlindRenderer"}
    parts = build(config)
    assert parts.device == META
    trainer: Trainer = make(config.trainer)
    optimizer, timer = parts.optim(parts.avatar), PhaseTimer(parts.device)
    health = Health(parts.device, loss_limit=1e8, checkpoint=RunPaths(tmp_path).checkpoint)
    trainer._step(0, parts, optimizer, timer, health)  # constants are moved and kept on the first step
    for step in (1, 2):
        with no_waiting():
            result = trainer._step(step, parts, optimizer, timer, health)
    assert result.render.means2d.grad is not None
    gradients = [parameter.grad for parameter in parts.avatar.parameters()]
    assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in gradients)
    with no_waiting(), pytest.raises((Waits, RuntimeError)):
        health.verify()  # the loop's own reading is what it is


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_on_the_gpu_waits_for_nothing_but_gsplat(tmp_path: Any) -> None:
    config = composed("renderer=cuda")
    parts = build(config)
    inner = parts.renderer

    class Excused:
        """gsplat looks once at how many tiles it has to sort."""

        device = inner.device

        def __call__(self, *inputs: Any) -> Render:
            torch.cuda.set_sync_debug_mode("default")
            try:
                return inner(*inputs)
            finally:
                torch.cuda.set_sync_debug_mode("error")

    parts = replace(parts, renderer=Excused())
    trainer: Trainer = make(config.trainer)
    optimizer, timer = parts.optim(parts.avatar), PhaseTimer(parts.device)
    health = Health(parts.device, loss_limit=1e8, checkpoint=RunPaths(tmp_path).checkpoint)
    for step in range(3):
        trainer._step(step, parts, optimizer, timer, health)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(3, 6):
            trainer._step(step, parts, optimizer, timer, health)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    health.verify()
    assert all(bool(torch.isfinite(value).all()) for value in parts.avatar.state_dict().values())
