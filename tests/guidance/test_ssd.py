"""Self score distillation against its formula, and where its two predictions differ in nothing or in guidance alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstudio.guidance import sds
from headstudio.guidance.debias import VIEWS
from headstudio.guidance.distill import ScoreDistillation
from headstudio.guidance.prior import Prior
from headstudio.guidance.prompts import ViewPrompts
from headstudio.types import Cameras

BATCH = 3
Maker = Callable[..., ScoreDistillation]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def make(components: dict[str, Any]) -> Maker:
    def make(scale: float, negative_prompt: str, view_text: str) -> ScoreDistillation:
        prior = Prior(**components)
        prompts = ViewPrompts(
            prior,
            prompt="a red head",
            negative_prompt=negative_prompt,
            view_text={view: view_text.replace("{view}", view) for view in VIEWS},
            crop_text={},
            front_within_deg=45.0,
            back_beyond_deg=135.0,
            overhead_above_deg=60.0,
        )
        return ScoreDistillation(
            prior,
            prompts,
            rule=sds.Ssd(),
            weighting=sds.noise_variance,
            guidance_scale=scale,
            conditioning_scale=0.7,
            min_timestep=20,
            max_timestep=980,
            use_control=True,
        )

    return make


def gradient(guidance: ScoreDistillation, rgb: Tensor, control: Tensor, cameras: Cameras, seed: int = 0) -> Tensor:
    return torch.autograd.grad(guidance(rgb, control, cameras, 0, generator(seed)).loss, rgb)[0]


def test_the_rule_reads_what_it_asks_for_and_no_noise() -> None:
    text, null, neg, plain = (torch.full((2, 1, 1, 1), value) for value in (2.0, float("nan"), 5.0, 11.0))
    timesteps = torch.tensor([0, 999])
    assert bool(sds.Ssd().needs_negative(timesteps).all())
    found = sds.Ssd()(sds.Predictions(text, null, neg, plain), null, timesteps, 7.5)
    assert found.flatten().tolist() == [5 + 7.5 * (2 - 5) - 11] * 2


def test_the_gradient_follows_the_formula(
    components: dict[str, Any], make: Maker, rgb: Tensor, control: Tensor, cameras: Cameras
) -> None:
    guidance, seen = make(7.5, "blurry", "{prompt}, {view} view"), []
    hook = guidance.prior.unet.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    found = gradient(guidance, rgb, control, cameras)
    hook.remove()
    assert seen == [4 * BATCH]

    prior, texts, source = guidance.prior, guidance.prompts(cameras), generator()
    timesteps = torch.randint(20, 981, (BATCH,), generator=source)
    latents = prior.encode_images(rgb)
    noisy = prior.add_noise(latents.detach(), torch.randn(latents.shape, generator=source), timesteps)
    plain = Prior(**components).encode_prompts(["a red head"])
    e_text, e_neg, e_plain = (
        prior.predict_noise(noisy, timesteps, text, control, 0.7)
        for text in (texts.text, texts.negative, plain.expand(BATCH, -1, -1))
    )
    weight = (1 - prior.alphas_cumprod[timesteps])[:, None, None, None]
    direction = weight * (e_neg + 7.5 * (e_text - e_neg) - e_plain)
    (expected,) = torch.autograd.grad(latents, rgb, direction / BATCH)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_a_model_that_agrees_with_itself_moves_nothing(
    make: Maker, rgb: Tensor, control: Tensor, cameras: Cameras
) -> None:
    still = gradient(make(1.0, "", "{prompt}"), rgb, control, cameras)
    moved = gradient(make(7.5, "", "{prompt}"), rgb, control, cameras)
    assert float(still.norm()) < 1e-4 * float(moved.norm())


def test_without_views_it_is_guidance_alone(make: Maker, rgb: Tensor, control: Tensor, cameras: Cameras) -> None:
    """text = plain and an empty negative prompt leave (s - 1) (text - null): linear in s - 1."""
    two, five = (gradient(make(scale, "", "{prompt}"), rgb, control, cameras) for scale in (2.0, 5.0))
    torch.testing.assert_close(five, 4 * two, atol=1e-5, rtol=1e-3)
