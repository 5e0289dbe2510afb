from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from headstudio.avatar.frames import Frames
from headstudio.avatar.init import Sparse, SuperResolution
from headstudio.avatar.rigged import RiggedGaussians
from headstudio.errors import UserError
from headstudio.head.model import HeadModel
from headstudio.reg import (
    MeshRegularisation,
    NoRegularisation,
    OfficialRegularisation,
    position_excess,
    scale_excess,
    sparsity,
)
from headstudio.schedule import Piecewise
from headstudio.types import Pose

PAPER: dict[str, Any] = {
    "lambda_pos": 0.1,
    "lambda_scale": 0.1,
    "tolerance_pos": 0.5,
    "tolerance_scale": 0.5,
    "length_unit": 1.0,
}


@pytest.fixture
def avatar(tiny_head: HeadModel, generator: torch.Generator) -> RiggedGaussians:
    init = SuperResolution(per_triangle=4, neighbours=3, distance_power=2)
    made = RiggedGaussians(tiny_head, generator, init=init, initial_color=(0.5, 0.5, 0.5), initial_opacity=0.1)
    with torch.no_grad():
        made.means *= 2
        made.log_scales += torch.randn(made.log_scales.shape, generator=generator)
    return made


@torch.no_grad()
def by_hand(avatar: RiggedGaussians, frames: Frames, vertices: Tensor, *, scaled: bool) -> tuple[float, float]:
    """Eq. 8-10 by the words of the paper, one Gaussian at a time."""
    position = scale = 0.0
    for p in range(len(vertices)):
        for n in range(avatar.num_gaussians):
            t = int(avatar.triangle[n])
            corners = vertices[p, avatar.head.faces[t]]
            tau = max(float((corner - corners.mean(0)).norm()) for corner in corners)
            root = float(frames.area[p, t]) ** 0.5
            far = float((root * frames.rotation[p, t] @ avatar.means[n]).norm())
            big = root * avatar.log_scales[n].exp()
            factor = 0.1 / (root if scaled else 1) / len(vertices)
            position += factor * max(far - 0.5 * tau, 0)
            scale += factor * float((big - 0.5 * tau).clamp_min(0).norm())
    return position, scale


@pytest.mark.parametrize("scaled", [False, True])
def test_equations_8_to_10(avatar: RiggedGaussians, random_pose: Pose, scaled: bool) -> None:
    posed, frames, _ = avatar.pose(random_pose)
    losses = MeshRegularisation(**PAPER, scaled=scaled)(avatar, frames, 0)
    position, scale = by_hand(avatar, frames, posed.vertices, scaled=scaled)
    assert float(losses["reg_position"].detach()) == pytest.approx(position, rel=1e-4)
    assert float(losses["reg_scale"].detach()) == pytest.approx(scale, rel=1e-4)
    assert position > 0
    assert scale > 0


def test_the_gradient_is_that_of_the_papers_maximum_and_zero_within_the_tolerance() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(40, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    root = torch.rand(2, 40, generator=generator, dtype=torch.float64) + 0.1
    tolerance = torch.rand(2, 40, generator=generator, dtype=torch.float64)
    (ours,) = torch.autograd.grad(position_excess(means, root, tolerance).sum(), means)
    (papers,) = torch.autograd.grad(torch.maximum(root * means.norm(dim=-1), tolerance).sum(), means)
    assert torch.allclose(ours, papers)
    inside = (root * means.norm(dim=-1) < tolerance).all(0)
    assert bool(inside.any())
    assert not bool(ours[inside].any())
    assert bool(ours[~inside].any(1).all())


def test_scales_push_only_the_axes_beyond_the_tolerance() -> None:
    scales = torch.tensor([[0.3, 0.1, 0.1], [0.4, 0.5, 0.1], [0.1, 0.1, 0.1]], requires_grad=True)
    excess = scale_excess(scales, torch.ones(1, 3), torch.full((1, 3), 0.2))
    assert torch.allclose(excess[0], torch.tensor([0.1, (0.04 + 0.09) ** 0.5, 0.0]))
    excess.sum().backward()
    assert scales.grad is not None
    assert torch.equal(scales.grad != 0, scales.detach() > 0.2)
    assert bool(torch.isfinite(scales.grad).all())


def test_gradients_against_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(12, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    root, tolerance = torch.full((2, 12), 0.8).double(), torch.full((2, 12), 0.4).double()
    assert torch.autograd.gradcheck(lambda v: position_excess(v, root, tolerance), (values,))
    assert torch.autograd.gradcheck(lambda v: scale_excess(v, root, tolerance), (values,))


def test_the_shape_is_not_taught_to_make_room(avatar: RiggedGaussians, random_pose: Pose) -> None:
    _, frames, _ = avatar.pose(random_pose)
    torch.stack(list(MeshRegularisation(**PAPER, scaled=True)(avatar, frames, 0).values())).sum().backward()
    assert avatar.shape.grad is None
    assert avatar.means.grad is not None
    assert avatar.log_scales.grad is not None
    assert avatar.quats.grad is None


def test_gaussians_in_the_middle_have_finite_gradients(tiny_head: HeadModel, generator: torch.Generator) -> None:
    init = Sparse(neighbours=3, distance_power=2)
    avatar = RiggedGaussians(tiny_head, generator, init=init, initial_color=(0.5, 0.5, 0.5), initial_opacity=0.1)
    with torch.no_grad():
        avatar.means.zero_()
    frames = avatar.pose(tiny_head.neutral_pose())[1]
    losses = MeshRegularisation(**{**PAPER, "tolerance_pos": 0.0}, scaled=True)(avatar, frames, 0)
    losses["reg_position"].backward()
    assert avatar.means.grad is not None
    assert not bool(avatar.means.grad.any())


def test_scaled_frees_large_triangles_relative_to_small_ones(avatar: RiggedGaussians) -> None:
    _, frames, _ = avatar.pose(avatar.head.neutral_pose())
    pulls = {}
    for scaled in (False, True):
        avatar.zero_grad()
        MeshRegularisation(**PAPER, scaled=scaled)(avatar, frames, 0)["reg_position"].backward()
        assert avatar.means.grad is not None
        pulls[scaled] = avatar.means.grad.norm(dim=-1)
    pulling = pulls[True] > 0
    root = frames.area[0].sqrt()[avatar.triangle].detach()
    assert torch.allclose(pulls[False][pulling], (pulls[True] * root)[pulling])


def test_strict_and_scaled_agree_where_the_triangles_side_is_the_unit_of_length(avatar: RiggedGaussians) -> None:
    _, frames, _ = avatar.pose(avatar.head.neutral_pose())
    unit = 0.3
    same = Frames(frames.origin, frames.rotation, torch.full_like(frames.area, unit**2), frames.reach)
    strict, scaled = (
        MeshRegularisation(**{**PAPER, "length_unit": unit}, scaled=scaled)(avatar, same, 0) for scaled in (False, True)
    )
    for name in ("reg_position", "reg_scale"):
        assert torch.allclose(strict[name], scaled[name])
        assert float(scaled[name].detach()) > 0


def test_sparsity_is_the_share_of_the_picture_that_is_covered() -> None:
    alpha = torch.zeros(2, 1, 4, 5)
    alpha[1, 0, :2] = 0.5
    assert float(sparsity(alpha)) == pytest.approx(0.125)


def test_weights_may_be_schedules(avatar: RiggedGaussians) -> None:
    late = Piecewise(values=[0.0, 0.1], steps=[2400])
    _, frames, _ = avatar.pose(avatar.head.neutral_pose())
    reg = MeshRegularisation(**{**PAPER, "lambda_pos": late}, scaled=True)
    always = MeshRegularisation(**PAPER, scaled=True)
    assert float(reg(avatar, frames, 2399)["reg_position"].detach()) == 0
    assert torch.equal(reg(avatar, frames, 2400)["reg_position"], always(avatar, frames, 0)["reg_position"])


OFFICIAL: dict[str, Any] = {
    "lambda_pos": 0.1,
    "lambda_scale": 0.1,
    "tolerance_pos": 0.5,
    "tolerance_scale": 0.5,
    "divide_by_area": True,
    "detach_area": False,
}


@torch.no_grad()
def official_by_hand(avatar: RiggedGaussians, vertices: Tensor, *, divide: bool) -> tuple[float, float]:
    """The released code's losses, one Gaussian and one axis at a time, from the posed corners alone."""
    far, big = [], []
    for corners_of_all in vertices:
        for n in range(avatar.num_gaussians):
            a, b, c = corners_of_all[avatar.head.faces[avatar.triangle[n]]].double()
            area = float(torch.linalg.cross(b - a, c - a).norm()) / 2
            middle = (a + b + c) / 3
            limit = 0.5 * max(float((corner - middle).norm()) for corner in (a, b, c))
            distance = area**0.5 * float(avatar.means[n].double().norm())
            if distance > limit:
                far.append((distance**2 / 2 if distance < 1 else distance - 0.5) / (area if divide else 1))
            sizes = area**0.5 * avatar.log_scales[n].double().exp()
            big += [float(size) / (area if divide else 1) for size in sizes if size > limit]
    assert 0 < len(far) < len(vertices) * avatar.num_gaussians
    assert 0 < len(big) < len(vertices) * avatar.num_gaussians * 3
    return 0.1 * sum(far) / len(far), 0.1 * sum(big) / len(big)


@pytest.mark.parametrize("divide", [False, True])
def test_the_official_losses(avatar: RiggedGaussians, random_pose: Pose, divide: bool) -> None:
    with torch.no_grad():
        avatar.means[::7] *= 20  # some beyond 1, where smooth L1 is straight
    posed, frames, _ = avatar.pose(random_pose)
    losses = OfficialRegularisation(**{**OFFICIAL, "divide_by_area": divide})(avatar, frames, 0)
    position, scale = official_by_hand(avatar, posed.vertices, divide=divide)
    assert float(losses["reg_position"].detach()) == pytest.approx(position, rel=1e-4)
    assert float(losses["reg_scale"].detach()) == pytest.approx(scale, rel=1e-4)


@pytest.mark.parametrize("detach", [False, True])
def test_the_official_losses_teach_the_shape_unless_told_not_to(
    avatar: RiggedGaussians, random_pose: Pose, detach: bool
) -> None:
    _, frames, _ = avatar.pose(random_pose)
    losses = OfficialRegularisation(**{**OFFICIAL, "detach_area": detach})(avatar, frames, 0)
    torch.stack(list(losses.values())).sum().backward()
    assert (avatar.shape.grad is None) == detach
    if avatar.shape.grad is not None:
        assert bool(avatar.shape.grad.any())
        assert bool(torch.isfinite(avatar.shape.grad).all())


def test_the_official_losses_are_zero_where_nothing_is_wrong(avatar: RiggedGaussians) -> None:
    with torch.no_grad():
        avatar.means.zero_()
        avatar.log_scales.fill_(-9.0)
    _, frames, _ = avatar.pose(avatar.head.neutral_pose())
    losses = OfficialRegularisation(**OFFICIAL)(avatar, frames, 0)
    torch.stack(list(losses.values())).sum().backward()
    assert [float(loss.detach()) for loss in losses.values()] == [0.0, 0.0]
    assert avatar.means.grad is not None
    assert not bool(avatar.means.grad.any())


def test_none_and_bad_settings(avatar: RiggedGaussians) -> None:
    _, frames, _ = avatar.pose(avatar.head.neutral_pose())
    assert NoRegularisation()(avatar, frames, 0) == {}
    with pytest.raises(UserError, match=r"reg\.lambda_pos=-1"):
        MeshRegularisation(**{**PAPER, "lambda_pos": -1.0}, scaled=True)
    with pytest.raises(UserError, match=r"reg\.tolerance_pos=-2"):
        OfficialRegularisation(**{**OFFICIAL, "tolerance_pos": -2.0})
    with pytest.raises(UserError, match=r"reg\.length_unit=0 "):
        MeshRegularisation(**{**PAPER, "length_unit": 0.0}, scaled=True)
