"""Every representation goes through the same loop and setting: it learns, resumes bit by bit, and fits each recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from test_trainer import RATES, RandomPoses, checkpoint, fit, logged, make_parts, make_trainer, same, stop_at
from torch import Tensor

from headstudio.avatar.densify import Densifier, NoDensification
from headstudio.avatar.densify_official import OfficialDensifier
from headstudio.avatar.gaussians import GaussianAvatar
from headstudio.avatar.init import SuperResolution
from headstudio.avatar.representation import Representation
from headstudio.avatar.static import StaticGaussians
from headstudio.avatar.textured_mesh import TexturedMesh
from headstudio.cli import conf_dir
from headstudio.export.gallery import Gallery
from headstudio.head.model import HeadModel
from headstudio.interrupt import Interrupted
from headstudio.optim import Adam
from headstudio.run import fitting, make, register_resolvers
from headstudio.runstate import RunPaths
from headstudio.trainer import Parts

INIT = SuperResolution(per_triangle=2, neighbours=3, distance_power=2)
START: dict[str, Any] = {"init": INIT, "initial_color": (0.5, 0.5, 0.5), "length_unit": 0.5}


def static(head: HeadModel) -> StaticGaussians:
    return StaticGaussians(head, torch.Generator().manual_seed(3), **START, initial_opacity=0.5)


def mesh(head: HeadModel) -> TexturedMesh:
    return TexturedMesh(head, torch.Generator(), **START, subdivisions=2, lambda_smooth=0.01)


def parts_of(
    make_avatar: Callable[[HeadModel], Representation],
    head: HeadModel,
    at: dict[int, Callable[[Tensor], Tensor]] | None = None,
) -> Parts:
    """The parts of the loop's own tests around another representation, fitted as run.py does it."""
    parts = make_parts(head, at)
    avatar = make_avatar(head)
    reg, densify, optim = fitting(avatar, parts.reg, parts.densify, Adam(betas=[0.9, 0.99], rates=RATES))
    renderer = avatar.renderer(parts.renderer)  # type: ignore[arg-type]
    return replace(parts, avatar=avatar, renderer=renderer, reg=reg, densify=densify, optim=optim)


@pytest.mark.parametrize("make_avatar", [static, mesh])
@pytest.mark.parametrize("stopped_in", [0, 1, 2])
def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path: Path, tiny_head: HeadModel, make_avatar: Any, stopped_in: int
) -> None:
    whole = parts_of(make_avatar, tiny_head)
    before = {name: value.clone() for name, value in whole.avatar.state_dict().items()}
    count = whole.avatar.num_gaussians
    fit(make_trainer(), whole, tmp_path / "whole")
    if isinstance(whole.avatar, GaussianAvatar):
        assert whole.avatar.num_gaussians > count, "the test must cross a densification"
    else:
        assert not any(torch.equal(value, before[name]) for name, value in whole.avatar.state_dict().items())

    with pytest.raises(Interrupted, match=f"after step {stopped_in + 1} of 4"):
        fit(make_trainer(), parts_of(make_avatar, tiny_head, stop_at(stopped_in)), tmp_path / "halves")
    resumed = parts_of(make_avatar, tiny_head)
    fit(make_trainer(), resumed, tmp_path / "halves")

    assert same(resumed.avatar.state_dict(), whole.avatar.state_dict())
    assert same(checkpoint(tmp_path / "halves"), checkpoint(tmp_path / "whole"))
    assert logged(tmp_path / "halves") == logged(tmp_path / "whole")


@pytest.mark.parametrize("make_avatar", [static, mesh])
def test_the_loop_paints_it(tmp_path: Path, tiny_head: HeadModel, make_avatar: Any) -> None:
    """The guidance of the loop's tests wants green."""
    parts = parts_of(make_avatar, tiny_head)
    fit(make_trainer(steps=12), parts, tmp_path / "run")
    rows = logged(tmp_path / "run")
    assert rows[-1]["loss/guidance"] < 0.8 * rows[0]["loss/guidance"]
    assert ("loss/reg_smooth" in rows[0]) == (make_avatar is mesh)
    assert "loss/reg_position" not in rows[0]


@pytest.mark.parametrize("make_avatar", [static, mesh])
def test_its_pictures_can_be_shown(tmp_path: Path, tiny_head: HeadModel, make_avatar: Any) -> None:
    parts = parts_of(make_avatar, tiny_head)
    gallery = Gallery(width=24, height=24, seconds=0.2, fps=10)
    files = gallery(parts.avatar, parts.renderer, RandomPoses(tiny_head), RunPaths(tmp_path), torch.Generator())
    assert all(file.stat().st_size > 0 for file in files.values())


KINDS = {"f3dgs": "RiggedGaussians", "static_gaussians": "StaticGaussians", "textured_mesh": "TexturedMesh"}


@pytest.mark.parametrize("setting", [[], ["scale=paper"], ["experiment=paper"], ["experiment=official"]])
@pytest.mark.parametrize("name", ["f3dgs", "static_gaussians", "textured_mesh"])
def test_every_recipe_fits_every_representation(tiny_head: HeadModel, setting: list[str], name: str) -> None:
    """One command compares them: what does not apply is replaced, and each parameter finds its rate."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=[f"representation={name}", "densify.max_gaussians=100000", *setting])
    assert config.representation._target_.rsplit(".", 1)[-1] == KINDS[name]
    avatar = make(config.representation)(tiny_head, torch.Generator().manual_seed(0), init=INIT)
    given = make(config.reg), make(config.densify), make(config.optim)
    reg, densify, optim = fitting(avatar, *given)
    optimizer = optim(avatar)
    optim.set_rates(optimizer, 100)
    assert all(group["lr"] > 0 for group in optimizer.param_groups)
    densify.check(avatar)
    assert isinstance(densify, NoDensification if name == "textured_mesh" else type(given[1]))
    if name == "f3dgs":
        assert (reg, densify, optim) == given
        assert isinstance(densify, Densifier | OfficialDensifier)
