from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstudio.avatar.densify import Change, Densifier, Every, NoDensification, normalised_gradient
from headstudio.avatar.rigged import PER_GAUSSIAN, RiggedGaussians
from headstudio.errors import UserError
from headstudio.types import Render

NEVER = Every(first=0, last=-1, interval=1)
SETTINGS: dict[str, Any] = {
    "grow": Every(first=0, last=100, interval=1),
    "prune": NEVER,
    "gradient_threshold": 1.5,
    "split_scale": 0.05,
    "max_scale": 10.0,
    "min_opacity": 0.01,
    "prune_min_opacity": 0.005,
    "max_gaussians": 100_000,
}


def densifier(**changes: Any) -> Densifier:
    return Densifier(**{**SETTINGS, **changes})


def drawn(gradient: Tensor, visible: Tensor | None = None) -> Render:
    """A render after backward, with this gradient of its 2D means."""
    views, count = gradient.shape[:2]
    means2d = torch.zeros(views, count, 2, requires_grad=True)
    means2d.grad = gradient
    radii = torch.ones(views, count, dtype=torch.int32) if visible is None else visible.int()
    picture = torch.zeros(views, 3, 1, 1)
    return Render(rgb=picture, alpha=picture[:, :1], depth=picture[:, :1], means2d=means2d, radii=radii)


def pulled(count: int, strong: Tensor, force: float = 100.0) -> Render:
    """One view in which the Gaussians `strong` have gradients, the others almost none."""
    gradient = torch.full((1, count, 2), 1e-3)
    gradient[0, strong] = force
    return drawn(gradient)


def adam(avatar: RiggedGaussians) -> torch.optim.Adam:
    return torch.optim.Adam([{"params": [p], "name": n, "lr": 1e-3} for n, p in avatar.named_parameters()])


def after_a_step(avatar: RiggedGaussians) -> torch.optim.Adam:
    """An optimiser that holds different moments for every Gaussian."""
    optimizer = adam(avatar)
    for parameter in avatar.parameters():
        parameter.grad = torch.arange(1.0, parameter.numel() + 1).reshape(parameter.shape)
    optimizer.step()
    return optimizer


def moments(optimizer: torch.optim.Optimizer, avatar: RiggedGaussians, name: str) -> Tensor:
    return optimizer.state[getattr(avatar, name)]["exp_avg"]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def set_scale(avatar: RiggedGaussians, index: Tensor, size: float) -> None:
    """Make the largest world scale of these Gaussians on the resting head `size`."""
    with torch.no_grad():
        avatar.log_scales[index] += torch.log(size / avatar.rest_scales()[index].amax(1, keepdim=True))


def test_clones_copy_and_splits_shrink_and_moments_follow(make_avatar: Any) -> None:
    avatar = make_avatar(jitter=0.1)
    optimizer = after_a_step(avatar)
    small, large = torch.tensor([4, 9]), torch.tensor([20, 77])
    set_scale(avatar, torch.arange(240), 0.02)
    set_scale(avatar, large, 0.2)
    old = {name: value.clone() for name, value in avatar.state_dict().items()}
    old_moments = {name: moments(optimizer, avatar, name).clone() for name in PER_GAUSSIAN}
    strong = torch.cat((small, large))
    change = densifier().step(avatar, optimizer, pulled(240, strong), 0, rng())
    assert change == Change(cloned=2, split=2, pruned=0, count=240 + 2 + 2)
    stays = torch.tensor([index for index in range(240) if index not in (20, 77)])
    source = torch.cat((stays, small, large.repeat_interleave(2)))
    new = avatar.state_dict()
    assert torch.equal(new["triangle"], old["triangle"][source])
    for name in ("quats", "color_logits", "opacity_logits"):
        assert torch.equal(new[name], old[name][source])
    assert torch.equal(new["means"][:240], old["means"][source[:240]])
    assert torch.equal(new["log_scales"][:240], old["log_scales"][source[:240]])
    assert torch.allclose(new["log_scales"][240:].exp(), old["log_scales"][source[240:]].exp() / 1.6)
    assert not torch.equal(new["means"][240], new["means"][241])
    for name in PER_GAUSSIAN:
        parameter, moment = getattr(avatar, name), moments(optimizer, avatar, name)
        assert torch.equal(moment[:238], old_moments[name][stays])
        assert not bool(moment[238:].any())
        assert moment.shape == optimizer.state[parameter]["exp_avg_sq"].shape == parameter.shape
        assert parameter.requires_grad
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in avatar.parameters()}
    assert set(optimizer.state) == set(avatar.parameters())


def test_children_are_drawn_from_their_parent(make_avatar: Any) -> None:
    """Over many splits of needles, the children's spread is the parents' covariance."""
    avatar = make_avatar(per_triangle=10)
    with torch.no_grad():
        avatar.log_scales[:] = torch.tensor([0.5, -4.0, -4.0])
        avatar.quats[:] = torch.tensor([0.5**0.5, 0, 0, 0.5**0.5])  # x becomes y
    means = avatar.means.detach().clone()
    densifier(gradient_threshold=0.5).step(avatar, adam(avatar), drawn(torch.ones(1, 800, 2)), 0, rng())
    spread = (avatar.means.detach() - means.repeat_interleave(2, 0)).std(0)
    assert float(spread[1]) == pytest.approx(torch.tensor(0.5).exp().item(), rel=0.05)
    assert float(spread[[0, 2]].max()) < 0.03


def test_training_goes_on_after_a_change(make_avatar: Any) -> None:
    avatar = make_avatar(jitter=0.1)
    optimizer = after_a_step(avatar)
    kept_alive = avatar.pose(avatar.head.neutral_pose())[2].means.sum()  # an old graph must not get in the way
    kept_alive.backward()
    densifier().step(avatar, optimizer, pulled(240, torch.tensor([3, 5])), 0, rng())
    optimizer.zero_grad()
    before = avatar.means.detach().clone()
    avatar.pose(avatar.head.neutral_pose())[2].means.square().sum().backward()
    optimizer.step()
    assert bool((avatar.means != before).any(1).all())


def test_without_optimiser_state_yet(make_avatar: Any) -> None:
    avatar = make_avatar()
    optimizer = adam(avatar)
    assert densifier().step(avatar, optimizer, pulled(240, torch.tensor([3])), 0, rng()).count == 241
    assert not optimizer.state


def test_transparent_gaussians_go_but_one_per_triangle_stays(make_avatar: Any) -> None:
    avatar = make_avatar(per_triangle=3)
    with torch.no_grad():
        avatar.opacity_logits[:] = -10.0
        avatar.opacity_logits[3:6] = 0.0  # triangle 1 is fine
        avatar.opacity_logits[7] = -9.0  # the best of triangle 2
    change = densifier(gradient_threshold=1e9).step(avatar, adam(avatar), pulled(240, torch.tensor([0])), 0, rng())
    assert change == Change(cloned=0, split=0, pruned=240 - 82, count=82)
    counts = avatar.triangle.bincount(minlength=80)
    assert counts[1] == 3
    assert bool((torch.cat((counts[:1], counts[2:])) == 1).all())
    assert avatar.opacity_logits[avatar.triangle == 2].item() == -9.0


def test_huge_gaussians_go_but_the_smallest_of_a_triangle_stays(make_avatar: Any) -> None:
    avatar = make_avatar(per_triangle=2)
    set_scale(avatar, torch.tensor([0, 2, 3]), 5.0)
    set_scale(avatar, torch.tensor([2]), 4.0)
    settings = {"grow": NEVER, "prune": Every(first=7, last=7, interval=1), "max_scale": 1.0}
    policy = densifier(**settings)
    assert policy.step(avatar, adam(avatar), pulled(160, torch.tensor([0])), 6, rng()) is None
    change = policy.step(avatar, adam(avatar), pulled(160, torch.tensor([0])), 7, rng())
    assert change == Change(cloned=0, split=0, pruned=2, count=158)
    assert float(avatar.rest_scales()[avatar.triangle == 1].max()) == pytest.approx(4.0)


def test_budget_and_one_per_triangle_always_hold(make_avatar: Any) -> None:
    @settings(deadline=None, max_examples=8)
    @given(st.integers(0, 2**31), st.integers(80, 400), st.floats(0.0, 3.0))
    def check(seed: int, budget: int, threshold: float) -> None:
        avatar, generator = make_avatar(per_triangle=1, jitter=0.1), rng(seed)
        policy = densifier(max_gaussians=budget, gradient_threshold=threshold, min_opacity=0.3, max_scale=0.15)
        optimizer = after_a_step(avatar)
        for step in range(4):
            count = avatar.num_gaussians
            with torch.no_grad():
                avatar.opacity_logits += torch.randn(count, generator=generator)
                avatar.log_scales += 0.5 * torch.randn(count, 3, generator=generator)
            policy.step(avatar, optimizer, drawn(torch.randn(2, count, 2, generator=generator)), step, rng())
            assert avatar.num_gaussians <= budget
            assert bool((avatar.triangle.bincount(minlength=80) >= 1).all())
            for name in PER_GAUSSIAN:
                assert moments(optimizer, avatar, name).shape == getattr(avatar, name).shape

    check()


def test_the_budget_goes_to_the_strongest(make_avatar: Any) -> None:
    avatar = make_avatar(per_triangle=1)
    set_scale(avatar, torch.arange(80), 0.01)
    gradient = torch.zeros(1, 80, 2)
    gradient[0, :, 0] = torch.arange(80.0) ** 3
    with torch.no_grad():
        avatar.opacity_logits[:] = torch.arange(80.0) / 80
    densifier(max_gaussians=83).step(avatar, adam(avatar), drawn(gradient), 0, rng())
    assert torch.equal(avatar.opacity_logits[80:].detach(), torch.tensor([77.0, 78, 79]) / 80)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 6), st.floats(1e-6, 1e6))
def test_scores_do_not_drift_with_number_or_size(seed: int, copies: int, factor: float) -> None:
    """Each Gaussian replaced by `copies` that share its gradient, or all gradients scaled: the same scores."""
    generator = rng(seed)
    gradient = torch.randn(3, 50, 2, generator=generator, dtype=torch.float64)
    visible = torch.rand(3, 50, generator=generator) < 0.7
    score, seen = normalised_gradient(gradient, visible)
    more, more_seen = normalised_gradient(factor * gradient.repeat(1, copies, 1) / copies, visible.repeat(1, copies))
    assert torch.allclose(more, score.repeat(copies))
    assert torch.equal(more_seen, seen.repeat(copies))


def test_a_score_is_relative_to_the_picture() -> None:
    gradient = torch.zeros(2, 4, 2)
    gradient[0] = torch.tensor([[3.0, 4], [3, 4], [3, 4], [99, 99]])
    visible = torch.tensor([[True, True, True, False], [True, False, False, False]])
    score, seen = normalised_gradient(gradient, visible)
    assert torch.allclose(score, torch.tensor([1.0, 1, 1, 0]))  # the second picture has no gradient at all
    assert seen.tolist() == [2, 1, 1, 0]


def test_statistics_add_up_over_steps(make_avatar: Any) -> None:
    """Consistent beats strong once: A pulled in all four steps grows, B pulled hard in one does not."""
    avatar = make_avatar(per_triangle=1)
    policy = densifier(grow=Every(first=3, last=3, interval=1), gradient_threshold=3.0)
    for step in range(4):
        gradient = torch.ones(1, 80, 2)
        gradient[0, 11] = 5.0
        gradient[0, 22] = 9.0 if step == 0 else 1.0
        change = policy.step(avatar, adam(avatar), drawn(gradient), step, rng())
    assert change is not None
    assert change.cloned + change.split == 1
    assert int(avatar.triangle[80 - change.split]) == 11


def saved(avatar: RiggedGaussians, optimizer: torch.optim.Optimizer, policy: Densifier) -> dict[str, Any]:
    states = {"avatar": avatar.state_dict(), "optimizer": optimizer.state_dict(), "densify": policy.state_dict()}
    return copy.deepcopy(states)


def test_resumed_equals_uninterrupted(make_avatar: Any) -> None:
    """8 steps with changes at 2, 4 and 6, against 5 steps, a save, fresh objects, and the other 3."""
    policy_settings = {"grow": Every(first=2, last=4, interval=2), "prune": Every(first=6, last=6, interval=1)}

    def run(avatar: Any, optimizer: Any, policy: Densifier, steps: range, generator: torch.Generator) -> None:
        for step in steps:
            noise = torch.randn(2, avatar.num_gaussians, 2, generator=generator)
            optimizer.zero_grad()
            gaussians = avatar.pose(avatar.head.neutral_pose())[2]
            sum(getattr(gaussians, field.name).square().sum() for field in fields(gaussians)).backward()
            optimizer.step()
            policy.step(avatar, optimizer, drawn(noise), step, generator)

    whole, generator, policy = make_avatar(jitter=0.1), rng(5), densifier(**policy_settings)
    whole_optimizer = adam(whole)
    run(whole, whole_optimizer, policy, range(8), generator)

    first, generator, policy = make_avatar(jitter=0.1), rng(5), densifier(**policy_settings)
    optimizer = adam(first)
    run(first, optimizer, policy, range(5), generator)
    state, noise = saved(first, optimizer, policy), generator.get_state()

    second, policy = make_avatar(seed=9), densifier(**policy_settings)
    second.load_state_dict(state["avatar"])
    optimizer = adam(second)
    optimizer.load_state_dict(state["optimizer"])
    policy.load_state_dict(state["densify"])
    generator = rng()
    generator.set_state(noise)
    run(second, optimizer, policy, range(5, 8), generator)
    assert whole.num_gaussians != 240
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    for name in PER_GAUSSIAN:
        assert torch.equal(moments(whole_optimizer, whole, name), moments(optimizer, second, name))


def test_statistics_survive_a_save_between_changes(make_avatar: Any) -> None:
    avatar = make_avatar()
    policy, other = densifier(grow=Every(first=9, last=9, interval=1)), densifier()
    assert policy.state_dict() == {}
    policy.step(avatar, adam(avatar), pulled(240, torch.tensor([3])), 0, rng())
    other.load_state_dict(policy.state_dict())
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in policy.state_dict().items())
    assert len(policy.state_dict()["seen"]) == 240


def test_a_budget_that_cannot_hold_is_named(make_avatar: Any) -> None:
    avatar = make_avatar(per_triangle=2)
    with pytest.raises(UserError, match="max_gaussians=79 is below the head's 80 triangles"):
        densifier(max_gaussians=79).check(avatar)
    with pytest.raises(UserError, match="max_gaussians=100 is below the 160 Gaussians"):
        densifier(max_gaussians=100).step(avatar, adam(avatar), pulled(160, torch.tensor([0])), 50, rng())


def test_misuse_is_refused(make_avatar: Any) -> None:
    avatar = make_avatar()
    render = drawn(torch.zeros(1, 240, 2))
    render.means2d.grad = None
    with pytest.raises(ValueError, match="after backward"):
        densifier().step(avatar, adam(avatar), render, 0, rng())
    nameless = torch.optim.Adam(avatar.parameters())
    with pytest.raises(ValueError, match="no group named"):
        densifier().step(avatar, nameless, pulled(240, torch.tensor([0])), 0, rng())


def test_schedule() -> None:
    every = Every(first=300, last=2100, interval=300)
    assert [step for step in range(3000) if every(step)] == [300, 600, 900, 1200, 1500, 1800, 2100]
    assert not any(NEVER(step) for step in range(10))
    with pytest.raises(UserError, match="interval of 0"):
        Every(first=0, last=1, interval=0)


def test_no_densification_changes_nothing(make_avatar: Any) -> None:
    avatar, policy = make_avatar(), NoDensification()
    means = avatar.means
    policy.check(avatar)
    policy.step(avatar, adam(avatar), pulled(240, torch.tensor([0])), 0, rng())
    policy.load_state_dict(policy.state_dict())
    assert avatar.means is means
