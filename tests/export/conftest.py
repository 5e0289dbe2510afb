"""Avatars on the tiny head, and a run that looks finished to whoever opens it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from export_avatars import gaussians_on
from export_node import node_folder
from omegaconf import OmegaConf

from headstudio.avatar.init import Sparse, SuperResolution
from headstudio.avatar.rigged import RiggedGaussians
from headstudio.avatar.static import StaticGaussians
from headstudio.avatar.textured_mesh import TexturedMesh
from headstudio.export.ply import save_avatar
from headstudio.head.anny import load_anny
from headstudio.head.model import HeadModel
from headstudio.opened import OpenedRun
from headstudio.runstate import RunPaths

__all__ = ["node_folder"]

CONFIG = """\
prompt: a head with a höt
seed: 3
gallery: {_target_: headstudio.export.gallery.Gallery, width: 32, height: 32, seconds: 0.5, fps: 8}
head: {_target_: headstudio.head.anny.load_anny, num_shape: 4}
motion:
  _target_: headstudio.motion.procedural.ProceduralMotion
  _partial_: true
  neutral: 0.3
  talking: 0.6
  expression: 0.4
  blink: 0.25
  glance: 0.5
  turn: 0.4
  wild: 0.2
  gaze_yaw_deg: 25.0
  gaze_pitch_deg: 15.0
  neck_yaw_deg: 20.0
  neck_pitch_deg: 8.0
  neck_roll_deg: 6.0
  flame_count: 10
  flame_sigma: 1.0
"""


@pytest.fixture
def rigged(tiny_head: HeadModel) -> RiggedGaussians:
    return gaussians_on(tiny_head)


@pytest.fixture
def static_avatar(tiny_head: HeadModel) -> StaticGaussians:
    init = Sparse(neighbours=3, distance_power=2)
    start: dict[str, Any] = {"init": init, "initial_color": (0.5, 0.4, 0.3), "initial_opacity": 0.5}
    return StaticGaussians(tiny_head, torch.Generator(), **start, length_unit=0.1)


@pytest.fixture
def painted_mesh(tiny_head: HeadModel) -> TexturedMesh:
    """Three texels along an edge, random colours, displaced by up to a tenth of a unit."""
    init = Sparse(neighbours=3, distance_power=2)
    start: dict[str, Any] = {"init": init, "initial_color": (0.5, 0.4, 0.3), "subdivisions": 3}
    avatar = TexturedMesh(tiny_head, torch.Generator(), **start, length_unit=0.1, lambda_smooth=1.0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        avatar.color_logits += torch.randn(avatar.color_logits.shape, generator=generator)
        avatar.displacement += 0.03 * torch.randn(avatar.displacement.shape, generator=generator)
        avatar.shape += 0.2 * torch.randn(avatar.shape.shape, generator=generator)
    return avatar


@pytest.fixture
def opened_with(tmp_path: Path) -> Callable[[Any], OpenedRun]:
    """An opened run that has this avatar."""

    def make(avatar: Any) -> OpenedRun:
        opened = OpenedRun(RunPaths(tmp_path), OmegaConf.create(CONFIG))  # type: ignore[arg-type]
        vars(opened).update(head=avatar.head, avatar=avatar)
        return opened

    return make


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's directory with the open head, as far as an export needs one. Don't write into it."""
    folder = tmp_path_factory.mktemp("läufe") / "ein Läuf"
    folder.mkdir()
    init = SuperResolution(per_triangle=1, neighbours=3, distance_power=2)
    generator = torch.Generator().manual_seed(0)
    avatar = RiggedGaussians(
        load_anny(num_shape=4), generator, init=init, initial_color=(0.9, 0.2, 0.1), initial_opacity=0.9
    )
    save_avatar(avatar, folder / "avatar.ply", head_name="anny")
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "DONE").write_text("0123456789abcdef", encoding="utf-8")
    return folder
