"""Gaussians without a rig: they are where the rigged ones begin, stay there, and are cloned and pruned in the world."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from headstudio.avatar.densify import Change, Densifier, Every
from headstudio.avatar.densify_official import OfficialDensifier
from headstudio.avatar.gaussians import PER_GAUSSIAN
from headstudio.avatar.init import SuperResolution
from headstudio.avatar.rigged import RiggedGaussians
from headstudio.avatar.static import StaticGaussians
from headstudio.errors import UserError
from headstudio.head.model import HeadModel
from headstudio.optim import Adam
from headstudio.reg import MeshRegularisation, NoRegularisation
from headstudio.schedule import Linear
from headstudio.types import Pose, Render

START: dict[str, Any] = {
    "init": SuperResolution(per_triangle=3, neighbours=3, distance_power=2),
    "initial_color": (0.5, 0.4, 0.3),
    "initial_opacity": 0.4,
}
RATES: dict[str, Any] = {
    "means": Linear(start=0.03, end=0.01, first_step=0, last_step=10),
    "shape": 0.02,
} | dict.fromkeys(("log_scales", "quats", "color_logits", "opacity_logits"), 0.01)


@pytest.fixture
def avatar(tiny_head: HeadModel) -> StaticGaussians:
    return StaticGaussians(tiny_head, torch.Generator().manual_seed(0), **START, length_unit=0.1)


def drawn(gradient: Tensor) -> Render:
    means2d = torch.zeros_like(gradient).requires_grad_()
    means2d.grad = gradient
    picture = torch.zeros(len(gradient), 3, 1, 1)
    return Render(picture, picture[:, :1], picture[:, :1], means2d, torch.ones(gradient.shape[:2], dtype=torch.int32))


def learning(avatar: StaticGaussians) -> torch.optim.Adam:
    """An optimiser that holds different moments for every Gaussian."""
    optimizer = avatar.optimisation(Adam(betas=[0.9, 0.99], rates=RATES))(avatar)
    for parameter in avatar.parameters():
        parameter.grad = torch.arange(1.0, parameter.numel() + 1).reshape(parameter.shape)
    optimizer.step()
    return optimizer


def densifier(**changes: Any) -> Densifier:
    settings: dict[str, Any] = {
        "grow": Every(first=0, last=100, interval=1),
        "prune": Every(first=0, last=-1, interval=1),
        "gradient_threshold": 1.5,
        "split_scale": 0.05,
        "max_scale": 10.0,
        "min_opacity": 0.01,
        "prune_min_opacity": 0.005,
        "max_gaussians": 1000,
    }
    return Densifier(**{**settings, **changes})


def test_it_begins_as_rigged_gaussians_do(avatar: StaticGaussians, tiny_head: HeadModel) -> None:
    rigged = RiggedGaussians(tiny_head, torch.Generator().manual_seed(0), **START)
    pose = tiny_head.neutral_pose()
    ours, theirs = avatar.pose(pose)[2], rigged.pose(pose)[2]
    for name in ("means", "scales", "opacities", "colors"):
        assert torch.allclose(getattr(ours, name), getattr(theirs, name), atol=1e-6), name


def test_no_pose_moves_it_nor_the_head_that_is_drawn_for_the_guidance(
    avatar: StaticGaussians, random_pose: Pose
) -> None:
    posed, frames, gaussians = avatar.pose(random_pose)
    rest = avatar.pose(avatar.head.neutral_pose())
    assert len(gaussians.means) == len(posed.vertices) == len(frames.origin) == 1
    for name in ("means", "quats", "scales"):
        assert torch.equal(getattr(gaussians, name), getattr(rest[2], name))
    assert torch.equal(posed.vertices, rest[0].vertices)
    assert torch.allclose(posed.vertices[0], avatar.head.v_template, atol=1e-6)


def test_it_learns_five_parameters_and_no_shape(avatar: StaticGaussians) -> None:
    assert [name for name, _ in avatar.named_parameters()] == list(PER_GAUSSIAN)
    assert sorted(avatar.state_dict()) == sorted(PER_GAUSSIAN)
    avatar.shape.requires_grad_(True)  # what the trainer does
    assert not avatar.pose(avatar.head.neutral_pose())[0].vertices.requires_grad
    adam = avatar.optimisation(Adam(betas=[0.9, 0.99], rates=RATES))
    optimizer = adam(avatar)
    adam.set_rates(optimizer, 5)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["means"] == pytest.approx(0.02 * 0.1)  # halfway, in units of 0.1
    assert rates["log_scales"] == 0.01
    assert adam.betas == (0.9, 0.99)


def test_mesh_regularisation_does_not_apply(avatar: StaticGaussians) -> None:
    reg = MeshRegularisation(
        lambda_pos=1, lambda_scale=1, tolerance_pos=0, tolerance_scale=0, length_unit=1, scaled=True
    )
    fitting = avatar.regularisation(reg)
    assert isinstance(fitting, NoRegularisation)
    assert fitting(avatar, avatar.pose(avatar.head.neutral_pose())[1], 0) == {}  # type: ignore[arg-type]


def test_clones_and_children_keep_their_moments_in_line(avatar: StaticGaussians) -> None:
    optimizer = learning(avatar)
    with torch.no_grad():
        avatar.log_scales.fill_(torch.log(torch.tensor(0.02)))
        avatar.log_scales[70] = torch.log(torch.tensor(0.2))
    old = {name: value.clone() for name, value in avatar.state_dict().items()}
    moments = {name: optimizer.state[getattr(avatar, name)]["exp_avg"].clone() for name in PER_GAUSSIAN}
    gradient = torch.full((1, 240, 2), 1e-3)
    gradient[0, [5, 70]] = 100.0
    change = densifier().step(avatar, optimizer, drawn(gradient), 0, torch.Generator().manual_seed(0))
    assert change == Change(cloned=1, split=1, pruned=0, count=242)
    stays = torch.tensor([n for n in range(240) if n != 70])
    assert torch.equal(avatar.means[:240], old["means"][torch.cat((stays, torch.tensor([5])))])
    assert torch.allclose(avatar.log_scales[240:].exp(), torch.tensor(0.2 / 1.6))
    away = (avatar.means[240:] - old["means"][70]).norm(dim=1)
    assert bool((away > 0).all())
    assert bool((away < 5 * 0.2).all())  # drawn from their parent, in world units
    for name in PER_GAUSSIAN:
        parameter = getattr(avatar, name)
        moment = optimizer.state[parameter]["exp_avg"]
        assert torch.equal(moment[:239], moments[name][stays])
        assert not bool(moment[239:].any())
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in avatar.parameters()}


def test_a_triangle_may_lose_all_but_the_avatar_not(avatar: StaticGaussians) -> None:
    optimizer = learning(avatar)
    with torch.no_grad():
        avatar.opacity_logits[:200] = -9.0
    flat = torch.full((1, 240, 2), 1.0)
    densifier(gradient_threshold=9.0).step(avatar, optimizer, drawn(flat), 0, torch.Generator())
    assert avatar.num_gaussians == 40  # fewer than the head has triangles
    with torch.no_grad():
        avatar.opacity_logits.fill_(-9.0)
        avatar.opacity_logits[17] = -8.0
    means = avatar.means.detach().clone()
    densifier(gradient_threshold=9.0).step(avatar, optimizer, drawn(flat[:, :40]), 1, torch.Generator())
    assert torch.equal(avatar.means.detach(), means[17:18])


def test_the_budget_is_its_own(avatar: StaticGaussians) -> None:
    with torch.no_grad():
        avatar.opacity_logits[:200] = -9.0
    densifier(gradient_threshold=9.0).step(avatar, learning(avatar), drawn(torch.ones(1, 240, 2)), 0, torch.Generator())
    densifier(max_gaussians=50).check(avatar)  # 80 triangles
    with pytest.raises(UserError, match="below the 40 Gaussians"):
        densifier(max_gaussians=39).check(avatar)


def test_the_released_codes_densification_works_on_it_too(avatar: StaticGaussians) -> None:
    official = OfficialDensifier(
        grow=Every(first=0, last=0, interval=1),
        prune=Every(first=0, last=-1, interval=1),
        gradient_threshold=0.5,
        split_scale=9.0,
        child_spread=0.01,
        large_after_step=100,
        max_radius_px=1e9,
        max_scale=9.0,
        prune_min_opacity=0.005,
        max_gaussians=1000,
    )
    gradient = torch.zeros(1, 240, 2)
    gradient[0, 7] = 1.0
    change = official.step(avatar, learning(avatar), drawn(gradient), 0, torch.Generator())
    assert change == Change(cloned=1, split=0, pruned=0, count=241)


def test_a_state_of_another_size_comes_back(avatar: StaticGaussians) -> None:
    state = {name: torch.cat((value, value[:10])) for name, value in avatar.state_dict().items()}
    rebuilt = StaticGaussians.from_state(avatar.head, state)
    avatar.load_state_dict(state)
    for one in (avatar, rebuilt):
        assert one.num_gaussians == 250
        assert all(torch.equal(value, state[name]) for name, value in one.state_dict().items())
    with pytest.raises(UserError, match="The saved avatar has"):
        avatar.load_state_dict({**state, "shape": torch.zeros(4)})


@pytest.mark.parametrize(
    ("key", "value"), [("initial_color", (0.0, 0.5, 0.5)), ("initial_opacity", 1.0), ("length_unit", 0.0)]
)
def test_impossible_values(tiny_head: HeadModel, key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"representation\.{key}="):
        StaticGaussians(tiny_head, torch.Generator(), **{**START, "length_unit": 1.0, key: value})
