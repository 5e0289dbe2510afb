"""Perp-Neg: its algebra, its weights by azimuth, and that it is what distillation does when it is asked for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstudio.errors import UserError
from headstudio.guidance import sds
from headstudio.guidance.debias import BACK, FRONT, OVERHEAD, SIDE, VIEWS, PerpNeg, perp_neg, perpendicular
from headstudio.guidance.distill import ScoreDistillation
from headstudio.guidance.prior import Prior
from headstudio.guidance.prompts import ViewPrompts
from headstudio.types import Cameras

TRIPLES = {
    "front_in_front": (4, 0.5, -2.426),
    "side_in_front": (4, 0.5, -2.426),
    "side_behind": (1, 0.5, -0.606),
    "front_behind": (1, 0.5, 0.967),
}
AZIMUTHS = [0.0, 45.0, -89.9, 90.0, -135.0, 180.0, 20.0]
ELEVATIONS = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 80.0]
BATCH = len(AZIMUTHS)


def noise(seed: int, batch: int = 3) -> Tensor:
    return torch.randn(batch, 4, 5, 6, generator=torch.Generator().manual_seed(seed))


def test_the_perpendicular_part_is_perpendicular_and_the_rest_is_parallel() -> None:
    x, y = noise(0), noise(1)
    found = perpendicular(x, y)
    torch.testing.assert_close((found * y).sum(dim=(1, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    along = (x - found) / y
    torch.testing.assert_close(along, along.mean(dim=(1, 2, 3), keepdim=True).expand_as(along), atol=1e-3, rtol=1e-3)
    assert torch.equal(perpendicular(x, torch.zeros_like(x)), x)


def test_views_that_pull_with_the_prompt_take_nothing_away() -> None:
    text, null = noise(0), noise(1)
    parallel = [null + 0.4 * (text - null), null - 3.0 * (text - null)]
    found = perp_neg(text, null, parallel, torch.tensor([[-1.0, -2.0]] * 3))
    torch.testing.assert_close(found, text, atol=1e-4, rtol=1e-4)


def test_the_guided_prediction_is_the_formula_of_the_paper() -> None:
    text, null, one, two, scale = noise(0), noise(1), noise(2), noise(3), 7.5
    weights = torch.tensor([[-1.0, -0.5], [0.0, -2.0], [-0.3, 0.0]])
    found = sds.guided(perp_neg(text, null, [one, two], weights), null, scale)
    for row in range(3):
        d = (text - null)[row].flatten().double()
        total = d.clone()
        for k, view in enumerate((one, two)):
            other = (view - null)[row].flatten().double()
            total += float(weights[row, k]) * (other - (other @ d) / (d @ d) * d)
        expected = null[row].flatten().double() + scale * total
        torch.testing.assert_close(found[row].flatten().double(), expected, atol=1e-4, rtol=1e-4)


@given(azimuth=st.floats(-180, 180, exclude_min=True))
def test_weights_and_blending_follow_the_azimuth(azimuth: float) -> None:
    """threestudio's loop over cameras, written out for one."""

    def strength(name: str, r: float) -> float:
        a, b, c = TRIPLES[name]
        return -(a * math.exp(-b * r) + c)

    found = PerpNeg(**TRIPLES)(torch.tensor([azimuth], dtype=torch.float64), torch.tensor([False]))
    mixture = [0.0] * len(VIEWS)
    if abs(azimuth) < 90:
        r = 1 - abs(azimuth) / 90
        mixture[FRONT], mixture[SIDE] = r, 1 - r
        views, weights = [FRONT, SIDE], [strength("front_in_front", r), strength("side_in_front", 1 - r)]
    else:
        r = 2 - abs(azimuth) / 90
        mixture[SIDE], mixture[BACK] = r, 1 - r
        views, weights = [SIDE, FRONT], [strength("side_behind", r), strength("front_behind", r)]
    assert found.views.tolist() == [views]
    assert found.mixture[0].tolist() == pytest.approx(mixture)
    assert found.weights[0].tolist() == pytest.approx(weights)


def test_from_overhead_nothing_is_opposed() -> None:
    found = PerpNeg(**TRIPLES)(torch.tensor([10.0, 170.0]), torch.tensor([True, True]))
    assert found.mixture[:, OVERHEAD].tolist() == [1.0, 1.0]
    assert float(found.mixture.sum()) == 2.0
    assert not found.weights.any()


def test_a_strength_that_is_no_triple_is_named() -> None:
    with pytest.raises(UserError, match=r"prompts\.perp_neg\.side_behind=\[1, 2\]"):
        PerpNeg(**{**TRIPLES, "side_behind": (1, 2)})


@pytest.fixture
def cameras() -> Cameras:
    return Cameras(
        camera_from_world=torch.eye(4).expand(BATCH, 4, 4),
        intrinsics=torch.eye(3).expand(BATCH, 3, 3),
        azimuth_deg=torch.tensor(AZIMUTHS),
        elevation_deg=torch.tensor(ELEVATIONS),
        width=64,
        height=64,
    )


def make_guidance(prior: Prior, opposed: PerpNeg | None) -> ScoreDistillation:
    prompts = ViewPrompts(
        prior,
        prompt="a red head",
        negative_prompt="blurry",
        view_text={view: f"{{prompt}}, {view} view" for view in VIEWS},
        crop_text={},
        front_within_deg=45.0,
        back_beyond_deg=135.0,
        overhead_above_deg=60.0,
        perp_neg=opposed,
    )
    return ScoreDistillation(
        prior,
        prompts,
        rule=sds.Denoised(negative_above=500),
        weighting=sds.uniform,
        guidance_scale=6.0,
        conditioning_scale=0.7,
        min_timestep=20,
        max_timestep=980,
        use_control=True,
    )


def test_distillation_with_perp_neg_follows_the_formula(components: dict[str, Any], cameras: Cameras) -> None:
    guidance = make_guidance(Prior(**components), PerpNeg(**TRIPLES))
    rgb = torch.rand(BATCH, 3, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    control = torch.rand(BATCH, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    seen: list[int] = []
    hook = guidance.prior.unet.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    result = guidance(rgb, control, cameras, 0, torch.Generator().manual_seed(0))
    hook.remove()
    (found,) = torch.autograd.grad(result.loss, rgb)

    prior, source, texts = guidance.prior, torch.Generator().manual_seed(0), guidance.prompts(cameras)
    timesteps = torch.randint(20, 981, (BATCH,), generator=source)
    latents = prior.encode_images(rgb)
    added = torch.randn(latents.shape, generator=source)
    noisy = prior.add_noise(latents.detach(), added, timesteps)

    def predict(text: Tensor) -> Tensor:
        return prior.predict_noise(noisy, timesteps, text, control, 0.7)

    assert texts.opposed is not None
    views, null = guidance.prompts._views, predict(texts.null)
    torch.testing.assert_close(texts.text[0], views[FRONT])
    torch.testing.assert_close(texts.text[1], (views[FRONT] + views[SIDE]) / 2)
    torch.testing.assert_close(texts.text[5], views[BACK])
    torch.testing.assert_close(texts.text[6], views[OVERHEAD])
    opposed = [predict(texts.opposed.texts[:, k]) for k in range(2)]
    text = perp_neg(predict(texts.text), null, opposed, texts.opposed.weights)
    high = timesteps > 500
    assert 0 < int(high.sum()) < BATCH
    assert seen == [BATCH * 4 + int(high.sum())]  # two rows more per picture than without
    gradient = sds.denoised(text, null, predict(texts.negative.expand_as(texts.null)), added, high, scale=6.0)
    (expected,) = torch.autograd.grad(latents, rgb, gradient / BATCH)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_without_it_no_row_more_is_run(components: dict[str, Any], cameras: Cameras) -> None:
    guidance, seen = make_guidance(Prior(**components), None), []
    hook = guidance.prior.unet.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    rgb = torch.rand(BATCH, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    guidance(rgb, rgb, cameras, 0, torch.Generator().manual_seed(0))
    hook.remove()
    timesteps = torch.randint(20, 981, (BATCH,), generator=torch.Generator().manual_seed(0))
    assert seen == [2 * BATCH + int((timesteps > 500).sum())]
