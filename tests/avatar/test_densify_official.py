"""The released code's densification against its formulas, written out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from headstudio.avatar.densify import Change, Every
from headstudio.avatar.densify_official import OfficialDensifier, official_gradient
from headstudio.avatar.rigged import PER_GAUSSIAN, RiggedGaussians
from headstudio.errors import UserError
from headstudio.types import Render

NEVER = Every(first=0, last=-1, interval=1)
SETTINGS: dict[str, Any] = {
    "grow": Every(first=0, last=100, interval=1),
    "prune": NEVER,
    "gradient_threshold": 0.2,
    "split_scale": 0.05,
    "child_spread": 0.01,
    "large_after_step": 50,
    "max_radius_px": 60,
    "max_scale": 0.5,
    "prune_min_opacity": 0.005,
    "max_gaussians": 100_000,
}


def densifier(**changes: Any) -> OfficialDensifier:
    return OfficialDensifier(**{**SETTINGS, **changes})


def drawn(gradient: Tensor, radii: Tensor | None = None) -> Render:
    """A render after backward, with this gradient of its 2D means."""
    views, count = gradient.shape[:2]
    means2d = torch.zeros(views, count, 2, requires_grad=True)
    means2d.grad = gradient
    picture = torch.zeros(views, 3, 1, 1)
    radii = torch.ones(views, count, dtype=torch.int32) if radii is None else radii
    return Render(rgb=picture, alpha=picture[:, :1], depth=picture[:, :1], means2d=means2d, radii=radii)


def pulled(count: int, strong: list[int]) -> Render:
    gradient = torch.full((1, count, 2), 1e-6)
    gradient[0, strong] = 1.0
    return drawn(gradient)


def adam(avatar: RiggedGaussians) -> torch.optim.Adam:
    return torch.optim.Adam([{"params": [p], "name": n, "lr": 1e-3} for n, p in avatar.named_parameters()])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def set_scale(avatar: RiggedGaussians, index: list[int], size: float) -> None:
    with torch.no_grad():
        avatar.log_scales[index] += torch.log(size / avatar.rest_scales()[index].amax(1, keepdim=True))


def test_the_gradient_is_that_of_the_released_code() -> None:
    """One Gaussian at a time: views add up as vectors, lengths are divided by the root of their sum of squares."""
    generator = rng()
    gradient = torch.randn(3, 40, 2, generator=generator, dtype=torch.float64)
    visible = torch.rand(3, 40, generator=generator) < 0.4
    gradient[0, 5] = torch.nan
    score, seen = official_gradient(gradient, visible)
    lengths = []
    for n in range(40):
        x = sum(float(g[n, 0]) for g in gradient if not bool(g[n].isnan().any()))
        y = sum(float(g[n, 1]) for g in gradient if not bool(g[n].isnan().any()))
        lengths.append((x * x + y * y) ** 0.5 if bool(visible[:, n].any()) else 0.0)
    root = sum(length**2 for length in lengths) ** 0.5
    assert score.tolist() == pytest.approx([length / root for length in lengths])
    assert seen.tolist() == [float(visible[:, n].any()) for n in range(40)]
    assert 0 < seen.sum() < 40


def test_views_may_cancel_and_a_typical_value_shrinks_with_the_number() -> None:
    gradient = torch.ones(2, 3, 2)
    gradient[1, 0] = -1.0
    score, _ = official_gradient(gradient, torch.ones(2, 3, dtype=torch.bool))
    assert score.tolist() == pytest.approx([0.0, 0.5**0.5, 0.5**0.5])
    many, _ = official_gradient(torch.ones(1, 10_000, 2), torch.ones(1, 10_000, dtype=torch.bool))
    assert many.tolist() == pytest.approx([0.01] * 10_000)


def test_each_gaussian_is_judged_by_its_own_gradient(make_avatar: Any) -> None:
    """Unlike the released code, where Gaussian 0 decides for all whether small ones are cloned."""
    avatar = make_avatar(jitter=0.1)
    set_scale(avatar, list(range(240)), 0.02)
    set_scale(avatar, [20, 77], 0.2)
    old = {name: value.clone() for name, value in avatar.state_dict().items()}
    change = densifier().step(avatar, adam(avatar), pulled(240, [4, 9, 20, 77]), 0, rng())
    assert change == Change(cloned=2, split=2, pruned=0, count=244)
    new = avatar.state_dict()
    stays = torch.tensor([n for n in range(240) if n not in (20, 77)])
    source = torch.cat((stays, torch.tensor([4, 9, 20, 20, 77, 77])))
    assert torch.equal(new["triangle"], old["triangle"][source])
    assert torch.equal(new["means"][:240], old["means"][source[:240]])
    assert torch.allclose(new["log_scales"][240:].exp(), old["log_scales"][source[240:]].exp() / 1.6)


def test_children_lie_within_hundredths_of_their_parents_size(make_avatar: Any) -> None:
    avatar = make_avatar(per_triangle=10)
    with torch.no_grad():
        avatar.log_scales[:] = torch.tensor([0.5, -1.0, -1.0])
    means = avatar.means.detach().clone()
    policy = densifier(gradient_threshold=0.0)
    policy.step(avatar, adam(avatar), drawn(torch.ones(1, 800, 2)), 0, rng())
    spread = (avatar.means.detach() - means.repeat_interleave(2, 0)).std(0)
    assert spread.tolist() == pytest.approx([0.01 * 2.718281828**power for power in (0.5, -1.0, -1.0)], rel=0.1)


def test_growing_prunes_large_gaussians_late_and_transparent_ones_never(make_avatar: Any) -> None:
    def grown(step: int) -> tuple[Change | None, RiggedGaussians]:
        avatar = make_avatar()
        set_scale(avatar, [7], 0.9)
        with torch.no_grad():
            avatar.opacity_logits[100:] = -20.0
        radii = torch.ones(2, 240, dtype=torch.int32)
        radii[1, 30] = 61  # pixels, in one view
        radii[0, 31] = 60
        render = drawn(torch.full((2, 240, 2), 1e-6), radii)
        return densifier(gradient_threshold=0.9).step(avatar, adam(avatar), render, step, rng()), avatar

    assert grown(50)[0] == Change(cloned=0, split=0, pruned=0, count=240)
    change, avatar = grown(51)
    assert change == Change(cloned=0, split=0, pruned=2, count=238)
    assert float(avatar.opacity_logits.detach().min()) == -20.0


def test_the_largest_radius_is_remembered_and_handed_on(make_avatar: Any) -> None:
    avatar = make_avatar()
    set_scale(avatar, list(range(240)), 0.02)
    set_scale(avatar, [20], 0.2)
    policy = densifier(grow=Every(first=1, last=2, interval=1), large_after_step=1)
    radii = torch.full((1, 240), 10, dtype=torch.int32)
    radii[0, [3, 20]] = 80
    gradient = torch.full((1, 240, 2), 1e-6)
    gradient[0, [3, 20]] = 1.0
    optimizer = adam(avatar)
    policy.step(avatar, optimizer, drawn(gradient, radii), 0, rng())
    policy.step(avatar, optimizer, drawn(gradient, torch.ones(1, 240, dtype=torch.int32)), 1, rng())
    radius = policy.state_dict()["radius"]
    assert radius[3] == 80
    assert radius[239:].tolist() == [80, 50, 50]  # the clone as its parent, the children by 1.6 smaller
    assert not bool(policy.state_dict()["seen"].any())


def test_pruning_only_takes_transparent_and_large_ones_even_the_last_of_a_triangle(make_avatar: Any) -> None:
    avatar = make_avatar(per_triangle=2)
    with torch.no_grad():
        avatar.opacity_logits[:4] = torch.logit(torch.tensor(0.004))
        avatar.opacity_logits[4:8] = torch.logit(torch.tensor(0.006))
    set_scale(avatar, [10], 0.9)
    policy = densifier(grow=NEVER, prune=Every(first=7, last=7, interval=1))
    assert policy.step(avatar, adam(avatar), pulled(160, [0]), 6, rng()) is None
    change = policy.step(avatar, adam(avatar), pulled(160, [0]), 7, rng())
    assert change == Change(cloned=0, split=0, pruned=5, count=155)
    assert sorted(set(range(80)) - set(avatar.triangle.tolist())) == [0, 1]
    assert all(len(getattr(avatar, name)) == 155 for name in PER_GAUSSIAN)


def test_nothing_is_left_to_prune(make_avatar: Any) -> None:
    avatar = make_avatar()
    with torch.no_grad():
        avatar.opacity_logits[:] = -20.0
    policy = densifier(grow=NEVER, prune=Every(first=0, last=0, interval=1))
    with pytest.raises(UserError, match="step 0 because densify would remove every Gaussian"):
        policy.step(avatar, adam(avatar), pulled(240, [0]), 0, rng())


def test_the_budget_holds_and_goes_to_the_strongest(make_avatar: Any) -> None:
    avatar = make_avatar()
    gradient = torch.linspace(1, 2, 240)[None, :, None].repeat(1, 1, 2)
    change = densifier(gradient_threshold=0.0, max_gaussians=250).step(avatar, adam(avatar), drawn(gradient), 0, rng())
    assert change is not None
    assert change.count == 250
    with pytest.raises(UserError, match="max_gaussians=100 is below the 240 Gaussians"):
        densifier(max_gaussians=100).check(make_avatar())


def test_statistics_survive_a_save(make_avatar: Any) -> None:
    """A run that is stopped between two changes goes on to the same Gaussians."""
    every = Every(first=3, last=3, interval=1)

    def run(avatar: RiggedGaussians, policy: OfficialDensifier, steps: range) -> None:
        for step in steps:
            gradient = torch.randn(2, avatar.num_gaussians, 2, generator=rng(step))
            policy.step(avatar, adam(avatar), drawn(gradient), step, rng(step))

    whole, policy = make_avatar(), densifier(grow=every, gradient_threshold=0.05)
    assert policy.state_dict() == {}
    run(whole, policy, range(4))
    half, policy = make_avatar(), densifier(grow=every, gradient_threshold=0.05)
    run(half, policy, range(2))
    saved, policy = copy.deepcopy(policy.state_dict()), densifier(grow=every, gradient_threshold=0.05)
    policy.load_state_dict(saved)
    run(half, policy, range(2, 4))
    assert whole.num_gaussians > 240
    for name, value in whole.state_dict().items():
        assert torch.equal(value, half.state_dict()[name])


def test_misuse_is_refused(make_avatar: Any) -> None:
    render = drawn(torch.zeros(1, 240, 2))
    render.means2d.grad = None
    with pytest.raises(ValueError, match="after backward"):
        densifier().step(make_avatar(), torch.optim.Adam([torch.zeros(1)]), render, 0, rng())
