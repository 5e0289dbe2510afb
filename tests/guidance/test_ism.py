"""Interval score matching: diffusers' inversion step by step, its formula, and pictures that nothing is wrong with."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstudio.errors import UserError
from headstudio.guidance import sds
from headstudio.guidance.debias import VIEWS
from headstudio.guidance.distill import ScoreDistillation
from headstudio.guidance.ism import DdimInversion
from headstudio.guidance.noising import Conditions
from headstudio.guidance.prior import Prior
from headstudio.guidance.prompts import ViewPrompts
from headstudio.guidance.sampling import follow
from headstudio.types import Cameras

BATCH, SCALE, CONDITIONING = 3, 6.0, 0.7
SETTINGS = {"delta_t": 100, "delta_s": 100, "inversion_steps": 10}
Predict = Callable[..., Tensor]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(components: dict[str, Any], **changes: Any) -> ScoreDistillation:
    prior = Prior(**components)
    prompts = ViewPrompts(
        prior,
        prompt="a red head",
        negative_prompt="",
        view_text={view: f"{{prompt}}, {view} view" for view in VIEWS},
        crop_text={},
        front_within_deg=45.0,
        back_beyond_deg=135.0,
        overhead_above_deg=60.0,
    )
    settings: dict[str, Any] = {
        "rule": sds.Sds(),
        "noising": DdimInversion(**SETTINGS),
        "weighting": sds.noise_variance,
        "guidance_scale": SCALE,
        "conditioning_scale": CONDITIONING,
        "min_timestep": 20,
        "max_timestep": 980,
        "use_control": True,
    }
    return ScoreDistillation(prior, prompts, **{**settings, **changes})


def gradient(guidance: ScoreDistillation, rgb: Tensor, control: Tensor, cameras: Cameras, seed: int = 0) -> Tensor:
    return torch.autograd.grad(guidance(rgb, control, cameras, 0, generator(seed)).loss, rgb)[0]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_way_up_is_that_of_diffusers(
    build: Callable[..., dict[str, Any]], control: Tensor, cameras: Cameras, prediction_type: str
) -> None:
    """Every raw answer of the UNet, stepped by diffusers' inverse scheduler, gives what the UNet is asked next."""
    from diffusers import DDIMInverseScheduler

    guidance, asked, answers = make(build(prediction_type)), [], []
    prior = guidance.prior

    def listen(_: Any, call: Any, answer: Any) -> None:
        asked.append(call)
        answers.append(answer[0])

    prior.unet.register_forward_hook(listen)
    inverse = DDIMInverseScheduler.from_config(prior.scheduler.config, set_alpha_to_one=True)
    inverse.set_timesteps(10)  # steps of 100
    given = Conditions(guidance.prompts(cameras), control, cameras, CONDITIONING)
    latents = torch.randn(BATCH, 6, 8, 8, generator=generator(3))
    found = DdimInversion(**SETTINGS)(prior, latents, torch.tensor([399, 199, 99]), given, generator())
    levels = [[-1, -1, -1], [99, -1, -1], [199, -1, -1], [299, 99, -1], [399, 199, 99]]
    noisy = latents.clone()
    for (before, after), call, answer in zip(itertools.pairwise(levels), asked, answers, strict=True):
        assert call[1].tolist() == [max(t, 0) for t in before]
        torch.testing.assert_close(call[0], noisy, atol=1e-5, rtol=1e-5)
        for row in range(BATCH):
            if after[row] >= 0:  # the others still wait
                output = answer[row]
                if prediction_type == "v_prediction" and before[row] < 0:  # v is about timestep 0, its noise as it is
                    alpha, sigma = (float(factor) for factor in prior.alpha_sigma(torch.tensor([0])))
                    output = alpha * output + sigma * noisy[row]
                noisy[row] = inverse.step(output, after[row], noisy[row]).prev_sample
    torch.testing.assert_close(found.noisy, noisy, atol=1e-5, rtol=1e-5)
    assert found.timesteps.tolist() == [399, 199, 99]
    assert found.latents is latents


def test_down_the_way_it_came_it_finds_the_picture(prior: Prior) -> None:
    """Exact for a prior whose answer is linear in the noise alone: the same one at every level."""
    latents, fixed = (torch.randn(BATCH, 6, 8, 8, generator=generator(seed)) for seed in (4, 5))
    rungs = DdimInversion(**SETTINGS).rungs(torch.tensor([399, 250, 30]))
    up, noise = follow(lambda *_: fixed, prior, latents, rungs.unbind())
    torch.testing.assert_close(up, prior.add_noise(latents, fixed, rungs[-1]), atol=1e-5, rtol=1e-5)
    assert torch.equal(noise, fixed)
    down, _ = follow(lambda *_: fixed, prior, up, rungs.flip(0).unbind())
    torch.testing.assert_close(down, latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("use_control", [True, False])
def test_the_gradient_follows_the_formula(
    components: dict[str, Any], rgb: Tensor, control: Tensor, cameras: Cameras, use_control: bool
) -> None:
    """With one plain call of the prior per row and prediction."""
    guidance = make(components, use_control=use_control, min_timestep=150, max_timestep=500)
    found = gradient(guidance, rgb, control, cameras)
    prior, texts = guidance.prior, guidance.prompts(cameras)
    timesteps = torch.randint(150, 501, (BATCH,), generator=generator())
    latents, wanted = prior.encode_images(rgb), []
    for row, t in enumerate(timesteps.tolist()):

        def predicted(noisy: Tensor, t: int, text: Tensor, row: int = row) -> Tensor:
            shown = control[row : row + 1] if use_control else None
            return prior.predict_noise(noisy, torch.tensor([t]), text[row : row + 1], shown, CONDITIONING)

        levels = [max(s, -1) for s in range(t - 600, t + 1, 100)]
        noisy, noise = latents[row : row + 1].detach(), torch.zeros(())
        for before, after in itertools.pairwise(levels):
            alpha, sigma = prior.alpha_sigma(torch.tensor([before]))
            noise = predicted(noisy, max(before, 0), texts.null)
            clean = (noisy - sigma * noise) / alpha
            alpha, sigma = prior.alpha_sigma(torch.tensor([after]))
            noisy = alpha * clean + sigma * noise
        e_text, e_null = predicted(noisy, t, texts.text), predicted(noisy, t, texts.null)
        wanted.append((1 - prior.alphas_cumprod[t]) * (e_null + SCALE * (e_text - e_null) - noise))
    (expected,) = torch.autograd.grad(latents, rgb, torch.cat(wanted) / BATCH)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def towards(prior: Prior, target: Tensor, noise: Tensor) -> Predict:
    """A prior that sees `target` with any text, and one fixed noise, whatever the picture, with none."""

    def predict(noisy: Tensor, timesteps: Tensor, texts: Tensor, *_: Any, **__: Any) -> Tensor:
        alpha, sigma = prior.alpha_sigma(timesteps)
        times = len(noisy) // BATCH
        told = (noisy - alpha * target.repeat(times, 1, 1, 1)) / sigma
        empty = (texts == texts[-1]).flatten(1).all(1)[:, None, None, None]  # the empty text comes last
        return torch.where(empty, noise.repeat(times, 1, 1, 1), told)

    return predict


def test_a_perfect_picture_stays_and_another_is_drawn_straight_to_it(
    components: dict[str, Any], rgb: Tensor, control: Tensor, cameras: Cameras
) -> None:
    """There x_t = alpha x_0 + sigma noise, so that the two scores differ by alpha / sigma (x_0 - target)."""
    guidance = make(components, guidance_scale=1.0)
    prior, noise = guidance.prior, torch.randn(BATCH, 6, 8, 8, generator=generator(6))
    latents = prior.encode_images(rgb)
    prior.predict_noise = towards(prior, latents.detach(), noise)  # type: ignore[method-assign, assignment]
    assert float(gradient(guidance, rgb, control, cameras).abs().max()) < 1e-5
    target = torch.randn(BATCH, 6, 8, 8, generator=generator(7))
    prior.predict_noise = towards(prior, target, noise)  # type: ignore[method-assign, assignment]
    found = gradient(guidance, rgb, control, cameras)
    alpha, sigma = prior.alpha_sigma(torch.randint(20, 981, (BATCH,), generator=generator()))
    wanted = sigma**2 * alpha / sigma * (latents - target).detach()
    (expected,) = torch.autograd.grad(latents, rgb, wanted / BATCH)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_nothing_is_random_unless_the_steps_do_not_reach_the_picture(
    components: dict[str, Any], rgb: Tensor, control: Tensor, cameras: Cameras
) -> None:
    whole = make(components, min_timestep=400, max_timestep=400)
    assert torch.equal(*(gradient(whole, rgb, control, cameras, seed) for seed in (0, 1)))
    part = DdimInversion(delta_t=80, delta_s=50, inversion_steps=2)
    assert part.rungs(torch.tensor([400, 100])).tolist() == [[220, -1], [270, -1], [320, 20], [400, 100]]
    short = make(components, min_timestep=400, max_timestep=400, noising=part)
    first, other = (gradient(short, rgb, control, cameras, seed) for seed in (0, 1))
    assert not torch.equal(first, other)
    assert torch.equal(first, gradient(short, rgb, control, cameras))


@pytest.mark.parametrize(("drawn", "calls"), [(50, 1), (99, 1), (100, 2), (499, 5), (980, 10)])
def test_no_step_more_than_needed(
    components: dict[str, Any], rgb: Tensor, control: Tensor, cameras: Cameras, drawn: int, calls: int
) -> None:
    """Each is one call for all rows; the last call is that of the rule, with and without text."""
    guidance, seen = make(components, min_timestep=drawn, max_timestep=drawn), []
    hook = guidance.prior.unet.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    guidance(rgb, control, cameras, 0, generator())
    hook.remove()
    assert seen == [BATCH] * calls + [2 * BATCH]


def test_a_snapshot_shows_the_inverted_picture(
    components: dict[str, Any], rgb: Tensor, control: Tensor, cameras: Cameras
) -> None:
    guidance = make(components, min_timestep=400, max_timestep=400)
    shown = [guidance.snapshot(rgb, control, cameras, 0, generator(seed), denoise_steps=1).noisy for seed in (0, 1)]
    assert torch.equal(*shown)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("value", [0, 1.5])
def test_impossible_settings_are_named(name: str, value: float) -> None:
    settings: dict[str, Any] = {**SETTINGS, name: value}
    with pytest.raises(UserError, match=rf"guidance\.noising\.{name}={value}"):
        DdimInversion(**settings)
