"""Distillation against its own formula, computed with one plain call of the prior per prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstudio.errors import UserError
from headstudio.guidance import sds
from headstudio.guidance.distill import ScoreDistillation
from headstudio.guidance.prior import Prior
from headstudio.guidance.prompts import VIEWS, ViewPrompts
from headstudio.schedule import Linear
from headstudio.types import Cameras

BATCH, SCALE, CONDITIONING = 3, 6.0, 0.7
RULES = {"sds": sds.Sds(), "denoised": sds.Denoised(negative_above=200), "nfsd": sds.Nfsd(negative_from=200)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


Maker = Callable[..., ScoreDistillation]


def make_prompts(prior: Prior, negative_prompt: str = "blurry") -> ViewPrompts:
    return ViewPrompts(
        prior,
        prompt="a red head",
        negative_prompt=negative_prompt,
        view_text={view: f"{{prompt}}, {view} view" for view in VIEWS},
        crop_text={},
        front_within_deg=45.0,
        back_beyond_deg=135.0,
        overhead_above_deg=60.0,
    )


@pytest.fixture
def make(prior: Prior) -> Maker:
    prompts = make_prompts(prior)

    def make(**changes: Any) -> ScoreDistillation:
        settings: dict[str, Any] = {
            "rule": sds.Sds(),
            "weighting": sds.noise_variance,
            "guidance_scale": SCALE,
            "conditioning_scale": CONDITIONING,
            "min_timestep": 20,
            "max_timestep": 980,
            "use_control": True,
        }
        return ScoreDistillation(prior, prompts, **{**settings, **changes})

    return make


def draws(low: int, high: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """What a distillation with this generator draws over a deterministic codec: timesteps, then noise."""
    source = generator(seed)
    timesteps = torch.randint(low, high + 1, (BATCH,), generator=source)
    return timesteps, torch.randn(BATCH, 6, 8, 8, generator=source)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("use_control", [True, False])
def test_the_gradient_follows_the_formula(
    make: Maker, cameras: Cameras, rgb: Tensor, control: Tensor, name: str, use_control: bool
) -> None:
    guidance = make(rule=RULES[name], use_control=use_control)
    result = guidance(rgb, control, cameras, 0, generator())
    (found,) = torch.autograd.grad(result.loss, rgb)

    prior, texts = guidance.prior, guidance.prompts(cameras)
    timesteps, noise = draws(20, 980)
    latents = prior.encode_images(rgb)
    alpha_bar = prior.scheduler.alphas_cumprod[timesteps][:, None, None, None]
    noisy = (alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise).detach()
    condition = control if use_control else None
    e_text, e_null, e_neg = (
        prior.predict_noise(noisy, timesteps, embedding, condition, CONDITIONING)
        for embedding in (texts.text, texts.null, texts.negative)
    )
    high = (timesteps >= 200)[:, None, None, None]
    assert bool(high.any())
    assert not bool(high.all())  # both branches of every rule are met
    subtracted = {
        "sds": noise,
        "denoised": torch.where(high, e_neg, noise),
        "nfsd": torch.where(high, e_neg, torch.zeros(())),
    }[name]
    gradient = (1 - alpha_bar) * (e_null + SCALE * (e_text - e_null) - subtracted)
    (expected,) = torch.autograd.grad(latents, rgb, gradient / BATCH)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)
    assert result.loss.item() == pytest.approx(float(gradient.square().sum() / (2 * BATCH)), rel=1e-3)


def test_only_control_tells_fsds_from_sds(make: Maker, cameras: Cameras, rgb: Tensor, control: Tensor) -> None:
    def gradient(guidance: ScoreDistillation, given: Tensor | None) -> Tensor:
        return torch.autograd.grad(guidance(rgb, given, cameras, 0, generator()).loss, rgb)[0]

    plain = gradient(make(use_control=False), None)
    assert torch.equal(plain, gradient(make(use_control=False), control))
    torch.testing.assert_close(plain, gradient(make(conditioning_scale=0.0), control), atol=1e-5, rtol=1e-3)
    assert float((plain - gradient(make(), control)).norm() / plain.norm()) > 1e-2


@pytest.mark.parametrize(("name", "rows"), [("sds", 6), ("denoised", 8), ("nfsd", 8)])
def test_only_needed_rows_are_run(
    make: Maker, cameras: Cameras, rgb: Tensor, control: Tensor, name: str, rows: int
) -> None:
    guidance, seen = make(rule=RULES[name]), []
    assert int((draws(20, 980)[0] >= 200).sum()) == 2  # of three
    hook = guidance.prior.unet.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    guidance(rgb, control, cameras, 0, generator())
    hook.remove()
    assert seen == [rows]


def test_an_empty_negative_prompt_is_the_empty_text_and_costs_nothing(
    components: dict[str, Any], make: Maker, cameras: Cameras, rgb: Tensor, control: Tensor
) -> None:
    guidance, seen = make(rule=RULES["denoised"]), []
    guidance.prompts = make_prompts(Prior(**components), negative_prompt="")
    hook = guidance.prior.unet.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    found = guidance(rgb, control, cameras, 0, generator())
    guidance.prompts._negative = guidance.prompts._null
    spelled_out = guidance(rgb, control, cameras, 0, generator())
    hook.remove()
    assert seen == [6, 8]
    torch.testing.assert_close(found.loss, spelled_out.loss, rtol=1e-4, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_gradient(
    build: Callable[..., dict[str, Any]], make: Maker, cameras: Cameras, rgb: Tensor, control: Tensor
) -> None:
    def gradient(guidance: ScoreDistillation, device: str) -> Tensor:
        picture = rgb.detach().to(device).requires_grad_()
        result = guidance(picture, control.to(device), cameras.to(device), 0, generator())
        return torch.autograd.grad(result.loss, picture)[0].cpu()

    expected = gradient(make(rule=RULES["denoised"]), "cpu")
    prior = Prior(**build()).to("cuda")  # components of its own: the shared ones stay on the CPU
    there = make(rule=RULES["denoised"])
    there.prior, there.prompts = prior, make_prompts(prior)
    torch.testing.assert_close(gradient(there, "cuda"), expected, atol=1e-4, rtol=1e-2)


def test_timesteps_follow_their_schedules(make: Maker, cameras: Cameras, rgb: Tensor, control: Tensor) -> None:
    falling = Linear(start=900, end=400, first_step=0, last_step=10)
    guidance = make(min_timestep=falling, max_timestep=falling)
    seen = [float(guidance(rgb, control, cameras, step, generator()).info["timestep"]) for step in (0, 5, 10, 20)]
    assert seen == [900, 650, 400, 400]
    narrow = make(min_timestep=7, max_timestep=8)
    means = {float(narrow(rgb, control, cameras, 0, generator(seed)).info["timestep"]) for seed in range(12)}
    assert min(means) < 7.5 < max(means)  # both ends are drawn
    assert 7 <= min(means) <= max(means) <= 8


def test_the_same_generator_gives_the_same_bytes(make: Maker, cameras: Cameras, rgb: Tensor, control: Tensor) -> None:
    guidance = make(rule=RULES["denoised"])
    first, again, other = (
        torch.autograd.grad(guidance(rgb, control, cameras, 0, generator(seed)).loss, rgb)[0] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_distillation_moves_latents_towards_the_prompt(
    make: Maker, cameras: Cameras, rgb: Tensor, control: Tensor
) -> None:
    """With a prior that always sees the same clean latents, descending the loss must reach them."""
    guidance = make(guidance_scale=1.0, min_timestep=300, max_timestep=700)
    prior, target = guidance.prior, torch.randn(BATCH, 6, 8, 8, generator=generator(5)) * 0.5

    def oracle(noisy: Tensor, timesteps: Tensor, *_: Any, **__: Any) -> Tensor:
        alpha, sigma = prior.alpha_sigma(timesteps)
        return (noisy - alpha * target.repeat(2, 1, 1, 1)) / sigma

    prior.predict_noise = oracle  # type: ignore[method-assign, assignment]
    picture, source = rgb.detach().clone().requires_grad_(), generator()
    optimizer = torch.optim.Adam([picture], lr=0.02)
    for step in range(150):
        optimizer.zero_grad()
        guidance(picture, control, cameras, step, source).loss.backward()
        optimizer.step()
    before, after = (float((prior.encode_images(p.detach()) - target).norm()) for p in (rgb, picture))
    assert after < 0.1 * before


def test_snapshots_are_pictures(make: Maker, cameras: Cameras, rgb: Tensor, control: Tensor) -> None:
    guidance = make(min_timestep=500, max_timestep=500)
    found = guidance.snapshot(rgb, control, cameras, 0, generator(), denoise_steps=3)
    for pictures in (found.noisy, found.one_step, found.denoised):
        assert pictures.shape == (BATCH, 3, 64, 64)
        assert float(pictures.min()) >= 0
        assert float(pictures.max()) <= 1
    single = guidance.snapshot(rgb, control, cameras, 0, generator(), denoise_steps=1)
    torch.testing.assert_close(single.denoised, single.one_step, atol=1e-4, rtol=1e-4)  # one DDIM step is the guess
    assert found.timesteps.tolist() == [500] * BATCH


@pytest.mark.parametrize(("low", "high"), [(-1, 10), (10, 1000), (500, 400)])
def test_timesteps_out_of_range_are_named(make: Maker, low: int, high: int) -> None:
    with pytest.raises(UserError, match=rf"min_timestep={low} and guidance\.max_timestep={high}"):
        make(min_timestep=low, max_timestep=high)


def test_control_without_a_controlnet_is_named(components: dict[str, Any], make: Maker) -> None:
    bare = Prior(**{**components, "controlnet": None})
    with pytest.raises(UserError, match="ControlNet"):
        ScoreDistillation(
            bare,
            make().prompts,
            rule=sds.Sds(),
            weighting=sds.uniform,
            guidance_scale=1.0,
            conditioning_scale=1.0,
            min_timestep=0,
            max_timestep=1,
            use_control=True,
        )


def test_a_forgotten_control_map_is_an_error(make: Maker, cameras: Cameras, rgb: Tensor) -> None:
    with pytest.raises(ValueError, match="control map"):
        make()(rgb, None, cameras, 0, generator())


def test_the_one_step_estimate_is_of_one_level_of_noise(
    make: Maker, cameras: Cameras, rgb: Tensor, control: Tensor
) -> None:
    """Latents, noise, guided prediction, x_0, decoded: each from its own plain call."""
    guidance, rgb = make(), rgb.detach()
    prior, texts = guidance.prior, guidance.prompts(cameras)
    found = guidance.one_step(rgb, control, cameras, 0, 300, generator())
    source = generator()
    latents = prior.encode_images(rgb, source)
    noise = torch.randn(latents.shape, generator=source)
    level = prior.alphas_cumprod[300]
    noisy = level.sqrt() * latents + (1 - level).sqrt() * noise
    steps = torch.full((BATCH,), 300)
    e_text, e_null = (
        prior.predict_noise(noisy, steps, text, control, CONDITIONING) for text in (texts.text, texts.null)
    )
    clean = (noisy - (1 - level).sqrt() * (e_null + SCALE * (e_text - e_null))) / level.sqrt()
    torch.testing.assert_close(found, prior.decode_latents(clean), atol=1e-4, rtol=1e-3)
    assert not found.requires_grad
