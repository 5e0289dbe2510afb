"""Cleaning up: what floats beside the head goes, the head stays bit for bit, and who cannot tell removes nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from headstudio.avatar.init import SuperResolution
from headstudio.avatar.rigged import RiggedGaussians
from headstudio.camera import cameras_from_orbit
from headstudio.cleanup import NoCleanup, PriorCleanup, blending_weights
from headstudio.head.model import HeadModel
from headstudio.render.cpu import CpuRenderer
from headstudio.trainer import Parts
from headstudio.types import Cameras, Pose, PosedHead

GREY = (0.5, 0.5, 0.5)
FLOATERS = 6


@dataclass
class Still:
    head: HeadModel

    def sample(self, count: int, generator: torch.Generator) -> Pose:
        pose = self.head.neutral_pose()
        return Pose(*(part.expand(count, *part.shape[1:]) for part in (pose.expression, pose.joints)))


class NoControl:
    def draw(self, posed: PosedHead, head: HeadModel, cameras: Cameras) -> Tensor:
        return torch.zeros(len(cameras), 3, 8, 8)


def floating(avatar: RiggedGaussians, count: int = FLOATERS) -> Tensor:
    """(N,) bool: the highest Gaussians; above the head none hides behind it or shows before it."""
    with torch.no_grad():
        height = avatar.pose(avatar.head.neutral_pose())[2].means[0, :, 1]
    return height >= height.topk(count).values[-1]


class Knowing:
    """Believes in the avatar without its highest Gaussians, on whatever colour the picture's corner has."""

    use_control = True

    def __init__(self, avatar: RiggedGaussians, *, unknown: int) -> None:
        self.avatar = avatar
        self.known = ~floating(avatar, unknown) if unknown else torch.ones(avatar.num_gaussians)
        self.asked: list[tuple[int, int]] = []

    def one_step(
        self, rgb: Tensor, control: Tensor, cameras: Cameras, step: int, timestep: int, generator: torch.Generator
    ) -> Tensor:
        self.asked.append((step, timestep))
        gaussians = self.avatar.pose(self.avatar.head.neutral_pose())[2]
        clean = replace(gaussians, opacities=gaussians.opacities * self.known)
        picture = CpuRenderer(threads=1)(clean, cameras, rgb[:, :, 0, 0]).rgb
        return torch.nn.functional.interpolate(picture, scale_factor=2.0)  # a prior has a size of its own


@pytest.fixture
def avatar(tiny_head: HeadModel) -> RiggedGaussians:
    """A red head; its highest Gaussians float above it."""
    generator = torch.Generator().manual_seed(3)
    init = SuperResolution(per_triangle=2, neighbours=3, distance_power=2)
    avatar = RiggedGaussians(tiny_head, generator, init=init, initial_color=(0.9, 0.1, 0.1), initial_opacity=0.9)
    up = slice(-FLOATERS, None)
    with torch.no_grad():
        places = torch.stack(
            (torch.linspace(-0.3, 0.3, FLOATERS), torch.full((FLOATERS,), 1.3), torch.zeros(FLOATERS)), 1
        )
        place(avatar, up, places, size=0.03, color=(0.4, 0.8, 0.9))
    return avatar


@torch.no_grad()
def place(avatar: RiggedGaussians, part: slice, where: Tensor, *, size: float, color: tuple[float, ...]) -> None:
    """Put some Gaussians at places in the world, on the head at rest."""
    frames, triangle = avatar.pose(avatar.head.neutral_pose())[1], avatar.triangle[part]
    unit = frames.area[0, triangle].sqrt()[:, None]
    away = where - frames.origin[0, triangle]
    avatar.means[part] = (frames.rotation[0, triangle].mT @ away[..., None])[..., 0] / unit  # the inverse of Eq. 6
    avatar.log_scales[part] = (size / unit).log()
    avatar.color_logits[part] = torch.tensor(color).logit()


def looking_from(azimuths_deg: list[float]) -> Cameras:
    return cameras_from_orbit(azimuths_deg, 10.0, 2.5, 62.0, 48, 48, (0.0, 0.0, 0.0))


def around(step: int, generator: torch.Generator) -> Cameras:
    return looking_from([45.0 * index for index in range(8)])


def anywhere(step: int, generator: torch.Generator) -> Cameras:
    return looking_from((360 * torch.rand(8, generator=generator)).tolist())


def make_parts(avatar: Any, *, unknown: int = FLOATERS, camera: Any = around) -> Parts:
    nothing: Any = None
    return Parts(
        camera=camera,
        motion=Still(avatar.head),
        avatar=avatar,
        renderer=CpuRenderer(threads=1),
        control=NoControl(),
        guidance=Knowing(avatar, unknown=unknown),  # type: ignore[arg-type]
        reg=nothing,
        densify=nothing,
        optim=nothing,
        generator=torch.Generator(),
        device=torch.device("cpu"),
    )


def make(background: Any = GREY, views: int = 32, **changes: Any) -> PriorCleanup:
    settings = {"timestep": 200, "tolerance": 0.08, "max_background_share": 0.6} | changes
    return PriorCleanup(background=background, views=views, **settings)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("background", [GREY, None])
def test_what_floats_beside_the_head_goes_and_the_rest_stays_as_it_is(avatar: RiggedGaussians, background: Any) -> None:
    before = {name: value.clone() for name, value in avatar.state_dict().items()}
    parts, gone = make_parts(avatar), floating(avatar)
    assert make(background)(parts, 7, generator()) == FLOATERS
    for name, value in avatar.state_dict().items():
        whole = name == "shape" or name.startswith("head.")
        assert torch.equal(value, before[name] if whole else before[name][~gone]), name
    assert set(parts.guidance.asked) == {(7, 200)}  # type: ignore[attr-defined]
    assert len(parts.guidance.asked) == 4  # type: ignore[attr-defined]  # 32 views, eight at a time


def test_a_prior_that_believes_everything_removes_nothing(avatar: RiggedGaussians) -> None:
    before = avatar.num_gaussians
    assert make()(make_parts(avatar, unknown=0), 7, generator()) == 0
    assert avatar.num_gaussians == before


def test_a_head_that_the_prior_does_not_see_is_left_as_it_is(
    avatar: RiggedGaussians, caplog: pytest.LogCaptureFixture
) -> None:
    before = avatar.num_gaussians
    with caplog.at_level(logging.WARNING):
        assert make()(make_parts(avatar, unknown=before), 7, generator()) == 0
    assert avatar.num_gaussians == before
    assert "none is removed" in caplog.text


def test_the_same_generator_removes_the_same(avatar: RiggedGaussians) -> None:
    shares = [make().background_share(make_parts(avatar, camera=anywhere), 7, generator()) for _ in range(2)]
    assert torch.equal(*shares)
    assert bool((shares[0] >= 0).all())
    assert bool((shares[0] <= 1 + 1e-5).all())
    other = make().background_share(make_parts(avatar, camera=anywhere), 7, torch.Generator().manual_seed(1))
    assert not torch.equal(shares[0], other)


def test_weights_are_what_colours_are_summed_with(avatar: RiggedGaussians) -> None:
    with torch.no_grad():
        gaussians = avatar.pose(avatar.head.neutral_pose())[2]
    cameras, draw = make_parts(avatar).camera(0, generator()), CpuRenderer(threads=1)
    mask = torch.rand(len(cameras), 48, 48, generator=generator()) < 0.3
    weights = blending_weights(gaussians, cameras, draw, mask)
    colors = torch.rand(len(gaussians.colors), 3, generator=generator())
    rgb = draw(gaussians.painted(colors), cameras, torch.zeros(3)).rgb
    summed = torch.stack(((rgb[:, 0] * mask).sum(), rgb[:, 0].sum()))
    torch.testing.assert_close(weights.T @ colors[:, 0], summed, rtol=1e-4, atol=0.0)


def test_other_avatars_and_no_cleanup_change_nothing(avatar: RiggedGaussians) -> None:
    parts = replace(make_parts(avatar), avatar=object())  # type: ignore[arg-type]
    assert make()(parts, 7, generator()) == 0
    before = {name: value.clone() for name, value in avatar.state_dict().items()}
    assert NoCleanup()(make_parts(avatar), 7, generator()) == 0
    assert all(torch.equal(value, before[name]) for name, value in avatar.state_dict().items())


@pytest.mark.slow
def test_the_shipped_prior_knows_a_painted_head_from_what_floats_beside_it() -> None:
    parts = painted_by_the_world("a bald man with green skin and red lips")
    avatar: Any = parts.avatar
    floating = torch.arange(avatar.num_gaussians) >= avatar.num_gaussians - 40
    before = avatar.means.detach().clone()
    cleanup = make((0.5, 0.5, 0.5), views=24)
    assert cleanup(parts, 299, generator()) >= 40
    left = {tuple(row) for row in avatar.means.tolist()}
    kept = torch.tensor([tuple(row) in left for row in before.tolist()])
    assert not bool((kept & floating).any())
    assert float(kept[~floating].float().mean()) > 0.99


def painted_by_the_world(sentence: str) -> Parts:
    """The parts of a default run whose Gaussians have the colours of the world's head, but for 40 beside it."""
    from hydra import compose, initialize_config_dir

    from headstudio.cli import conf_dir
    from headstudio.run import build, register_resolvers
    from headstudio.synthetic.reading import parse
    from headstudio.synthetic.world import World

    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        parts = build(compose("config", [f"prompt={sentence}", "prior.dtype=float32"]))
    avatar: Any = parts.avatar
    world, pose = World(avatar.head, background=GREY), avatar.head.neutral_pose()
    cameras = cameras_from_orbit([0.0, 60.0, 120.0, 180.0, 240.0, 300.0], 5.0, 1.75, 54.0, 64, 64, (0.0, 0.12, 0.0))
    wanted = world.render(parse(sentence).attributes, avatar.shape.detach(), pose, cameras).rgb
    with torch.no_grad():
        avatar.opacity_logits.fill_(3.0)
        avatar.log_scales -= 0.5  # as wide as they begin, they would blur the outline
        beside = torch.linspace(-0.3, 0.7, 20)
        places = torch.stack((torch.full_like(beside, 0.8), beside, torch.zeros(20)), 1)
        places = torch.cat((places, places * torch.tensor([-1.0, 1.0, 1.0])))
        place(avatar, slice(-40, None), places, size=0.02, color=(0.6, 0.6, 0.55))
    paint = torch.optim.Adam([avatar.color_logits], lr=0.3)
    for _ in range(40):
        rgb = parts.renderer(avatar.pose(pose)[2], cameras, torch.tensor(GREY)).rgb
        paint.zero_grad()
        (rgb - wanted).square().mean().backward()
        avatar.color_logits.grad[-40:] = 0.0
        paint.step()
    return parts
