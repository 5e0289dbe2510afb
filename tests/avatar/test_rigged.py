from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstudio.avatar.frames import quaternion_to_matrix, triangle_frames
from headstudio.avatar.init import Seeds, Sparse, SuperResolution
from headstudio.avatar.rigged import RiggedGaussians
from headstudio.errors import UserError
from headstudio.head.model import HeadModel, axis_angle_to_matrix
from headstudio.types import Gaussians, Pose

THREE = st.lists(st.floats(-3, 3), min_size=3, max_size=3)


def covariances(gaussians: Gaussians) -> Tensor:
    root = quaternion_to_matrix(gaussians.quats) * gaussians.scales[..., None, :]
    return root @ root.mT


def moved_rest(arrays: dict[str, Any], rotation: Tensor, size: float, shift: Tensor) -> HeadModel:
    """The tiny head with its rest vertices put through a similarity, in float64."""
    template = size * arrays["v_template"].double() @ rotation.mT + shift
    weights = arrays["weights"].double()  # in float32 their sums are 1 to seven digits, which a shift would show
    return HeadModel(**{**arrays, "v_template": template, "weights": weights / weights.sum(1, keepdim=True)})


def test_gaussians_move_with_the_mesh(tiny_arrays: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    init = SuperResolution(per_triangle=2, neighbours=3, distance_power=2)
    still = moved_rest(tiny_arrays, torch.eye(3, dtype=torch.float64), 1.0, torch.zeros(3, dtype=torch.float64))
    avatar = RiggedGaussians(still, generator, init=init, initial_color=(0.5, 0.5, 0.5), initial_opacity=0.1)
    with torch.no_grad():
        avatar.quats += torch.randn(avatar.quats.shape, generator=generator)
        avatar.log_scales += torch.randn(avatar.log_scales.shape, generator=generator)
    before = avatar.pose(still.neutral_pose())[2]

    @settings(deadline=None, max_examples=25)
    @given(THREE, st.floats(0.1, 10), THREE)
    def check(turn: list[float], size: float, shift: list[float]) -> None:
        rotation = axis_angle_to_matrix(torch.tensor(turn, dtype=torch.float64))
        offset = torch.tensor(shift, dtype=torch.float64)
        moved = moved_rest(tiny_arrays, rotation, size, offset)
        after = RiggedGaussians.from_state(moved, avatar.state_dict()).pose(moved.neutral_pose())[2]
        assert torch.allclose(after.means, size * before.means @ rotation.mT + offset, atol=1e-7)
        turned = rotation @ quaternion_to_matrix(before.quats)
        assert torch.allclose(quaternion_to_matrix(after.quats), turned, atol=1e-7)
        assert torch.allclose(after.scales, size * before.scales)
        assert torch.allclose(covariances(after), size**2 * rotation @ covariances(before) @ rotation.mT, atol=1e-7)

    check()


def test_equations_5_to_7_one_gaussian_at_a_time(make_avatar: Any, random_pose: Pose) -> None:
    avatar = make_avatar(jitter=0.3)
    posed, frames, gaussians = avatar.pose(random_pose)
    expected = triangle_frames(posed.vertices, avatar.head.faces)
    assert torch.equal(frames.rotation, expected.rotation)
    for p in range(3):
        for n in range(0, avatar.num_gaussians, 17):
            t = avatar.triangle[n]
            root, rotation = frames.area[p, t].sqrt(), frames.rotation[p, t]
            mean = root * rotation @ avatar.means[n] + frames.origin[p, t]
            assert torch.allclose(gaussians.means[p, n], mean, atol=1e-5)
            assert torch.allclose(gaussians.scales[p, n], root * avatar.log_scales[n].exp(), rtol=1e-5)
            turned = rotation @ quaternion_to_matrix(avatar.quats[n])
            assert torch.allclose(quaternion_to_matrix(gaussians.quats[p, n]), turned, atol=1e-5)
    assert torch.equal(gaussians.colors, avatar.color_logits.sigmoid())
    assert torch.equal(gaussians.opacities, avatar.opacity_logits.sigmoid())


def test_a_turned_head_turns_its_gaussians(make_avatar: Any) -> None:
    avatar = make_avatar(jitter=0.3)
    turned = avatar.head.neutral_pose()
    turned.joints[0, 0] = torch.tensor([0.2, 0.9, -0.3])  # the root
    posed, _, before = avatar.pose(avatar.head.neutral_pose())
    _, _, after = avatar.pose(turned)
    rotation, pivot = axis_angle_to_matrix(turned.joints[0, 0]), posed.joints[:, :1]
    assert torch.allclose(after.means, (before.means - pivot) @ rotation.mT + pivot, atol=1e-5)
    assert torch.allclose(covariances(after), rotation @ covariances(before) @ rotation.mT, atol=1e-6)


def test_the_start_is_the_seeds_on_the_resting_head(tiny_head: HeadModel) -> None:
    kept: list[Seeds] = []

    class Recorder(SuperResolution):
        def __call__(self, *args: Any) -> Seeds:
            kept.append(super().__call__(*args))
            return kept[0]

    init = Recorder(per_triangle=5, neighbours=3, distance_power=2)
    generator = torch.Generator().manual_seed(0)
    avatar = RiggedGaussians(tiny_head, generator, init=init, initial_color=(0.2, 0.5, 0.9), initial_opacity=0.3)
    _, _, gaussians = avatar.pose(tiny_head.neutral_pose())
    assert torch.allclose(gaussians.means[0], kept[0].points, atol=1e-6)
    assert torch.allclose(gaussians.scales[0], kept[0].scales[:, None].expand(-1, 3), rtol=1e-4)
    assert torch.allclose(avatar.rest_scales(), gaussians.scales[0], rtol=1e-6)
    assert torch.allclose(gaussians.colors, torch.tensor([0.2, 0.5, 0.9]).expand(400, 3), atol=1e-6)
    assert torch.allclose(gaussians.opacities, torch.full((400,), 0.3), atol=1e-6)


def test_gradients_reach_every_parameter_and_are_right(tiny_arrays: dict[str, Any]) -> None:
    tiny_arrays["v_template"] = tiny_arrays["v_template"].double()
    tiny_arrays["faces"], tiny_arrays["face_region"] = tiny_arrays["faces"][:6], tiny_arrays["face_region"][:6]
    tiny_arrays["landmark_faces"] = tiny_arrays["landmark_faces"] % 6
    head = HeadModel(**tiny_arrays)
    generator = torch.Generator().manual_seed(0)
    init = SuperResolution(per_triangle=1, neighbours=2, distance_power=2)
    avatar = RiggedGaussians(head, generator, init=init, initial_color=(0.5, 0.5, 0.5), initial_opacity=0.1)
    pose = Pose(
        torch.rand(2, 6, generator=generator, dtype=torch.float64),
        0.3 * torch.randn(2, 5, 3, generator=generator, dtype=torch.float64),
    )
    names = [name for name, _ in avatar.named_parameters()]

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        out = torch.func.functional_call(_Posed(avatar, pose), dict(zip(names, values, strict=True)))
        return tuple(out)

    assert names == ["means", "log_scales", "quats", "color_logits", "opacity_logits", "shape"]
    values = [p.detach() + 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in avatar.parameters()]
    assert torch.autograd.gradcheck(outputs, tuple(value.requires_grad_() for value in values), fast_mode=True)


class _Posed(torch.nn.Module):
    """Lets `functional_call` put tensors in the place of an avatar's parameters."""

    def __init__(self, avatar: RiggedGaussians, pose: Pose) -> None:
        super().__init__()
        self.avatar, self.animation = avatar, pose

    def forward(self) -> list[Tensor]:
        g = self.avatar.pose(self.animation)[2]
        return [g.means, g.quats, g.scales, g.opacities, g.colors]

    def named_parameters(self, *args: Any, **kwargs: Any) -> Any:
        return self.avatar.named_parameters(*args, **kwargs)


def test_one_evaluation_of_the_head_per_pose(make_avatar: Any, random_pose: Pose) -> None:
    avatar, calls = make_avatar(), []
    avatar.head.register_forward_hook(lambda *_: calls.append(1))
    avatar.pose(random_pose)
    assert len(calls) == 1


def test_a_frozen_shape_keeps_its_value_and_the_rest_learns(make_avatar: Any, random_pose: Pose) -> None:
    avatar = make_avatar(jitter=0.1)
    avatar.shape.requires_grad_(False)
    posed, frames, gaussians = avatar.pose(random_pose)
    assert not posed.vertices.requires_grad
    assert not frames.rotation.requires_grad
    (gaussians.means.sum() + gaussians.scales.sum()).backward()
    assert avatar.shape.grad is None
    assert avatar.means.grad is not None


def test_state_of_another_size_comes_back_whole(make_avatar: Any, random_pose: Pose) -> None:
    big, small = make_avatar(per_triangle=4, jitter=0.2), make_avatar(per_triangle=1)
    state = big.state_dict()
    assert sorted(state) == sorted([*dict(big.named_parameters()), "triangle"])
    small.load_state_dict(state)
    rebuilt = RiggedGaussians.from_state(big.head, state)
    for avatar in (small, rebuilt):
        assert avatar.num_gaussians == 320
        assert [name for name, _ in avatar.named_parameters()] == [name for name, _ in big.named_parameters()]
        assert all(p.requires_grad and p.is_leaf for p in avatar.parameters())
        for name in ("means", "quats", "scales", "opacities", "colors"):
            ours, theirs = getattr(avatar.pose(random_pose)[2], name), getattr(big.pose(random_pose)[2], name)
            assert torch.equal(ours, theirs)
    with torch.no_grad():
        rebuilt.means += 1
    assert not torch.equal(rebuilt.means, big.means)  # values, not the same memory


def test_a_state_that_does_not_fit_is_a_user_error(make_avatar: Any) -> None:
    avatar = make_avatar()
    state = avatar.state_dict()
    with pytest.raises(UserError, match="has \\['color_logits'"):
        avatar.load_state_dict({name: value for name, value in state.items() if name != "means"})
    with pytest.raises(UserError, match="quats has shape"):
        avatar.load_state_dict({**state, "quats": state["quats"][:, :3]})
    with pytest.raises(UserError, match="5 shape values but this head has 4"):
        avatar.load_state_dict({**state, "shape": torch.zeros(5)})
    with pytest.raises(UserError, match="81 triangles but this head has 80"):
        RiggedGaussians.from_state(avatar.head, {**state, "triangle": state["triangle"] + 1})


@pytest.mark.parametrize(
    ("color", "opacity", "message"),
    [((0.5, 0.5, 1.0), 0.1, "initial_color"), ((0.5, 0.5), 0.1, "initial_color"), ((0.5, 0.5, 0.5), 0.0, "opacity=0")],
)
def test_impossible_starting_values(
    tiny_head: HeadModel, generator: torch.Generator, color: Any, opacity: float, message: str
) -> None:
    init = Sparse(neighbours=3, distance_power=2)
    with pytest.raises(UserError, match=message):
        RiggedGaussians(tiny_head, generator, init=init, initial_color=color, initial_opacity=opacity)
