"""The prior's calls against diffusers' pipelines and schedulers over the same random components."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstudio.errors import UserError
from headstudio.guidance.components import save_components
from headstudio.guidance.load import load_prior
from headstudio.guidance.prior import Prior
from headstudio.guidance.sampling import GuidedNoise, denoise

Builder = Callable[..., dict[str, Any]]
LATENTS, TOKENS = 6, 12  # as in conftest.py
PROMPTS = ["a head with green skin", "red hair, side view"]
NEGATIVE = ["blurry head", "blurry"]


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(seed: int = 0, size: int = 64) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def pipeline_of(components: dict[str, Any]) -> Any:
    from diffusers import StableDiffusionControlNetPipeline

    pipe = StableDiffusionControlNetPipeline(
        **components, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("vae", ["linear", "autoencoder"])
def test_two_guided_steps_equal_the_pipeline(build: Builder, prediction_type: str, vae: str) -> None:
    components = build(prediction_type, vae=vae)
    prior, latents, control = Prior(**components), seeded(2, LATENTS, 8, 8), pictures(1)
    with torch.no_grad():
        expected = pipeline_of(components)(
            PROMPTS,
            negative_prompt=NEGATIVE,
            image=control,
            latents=latents,
            num_inference_steps=2,
            guidance_scale=4.0,
            controlnet_conditioning_scale=0.8,
            output_type="latent",
        ).images
        decoded = pipeline_of(components).vae.decode(expected / components["vae"].config.scaling_factor).sample
    text, negative = prior.encode_prompts(PROMPTS), prior.encode_prompts(NEGATIVE)
    predict = GuidedNoise(prior, text, negative, control, guidance_scale=4.0, conditioning_scale=0.8)
    ours = denoise(predict, latents, torch.tensor([999, 999]), steps=2)
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(prior.decode_latents(expected), (decoded / 2 + 0.5).clamp(0, 1))


def test_control_matters_and_its_scale_is_linear_at_zero(prior: Prior) -> None:
    noisy, steps, text = seeded(2, LATENTS, 8, 8), torch.tensor([300, 700]), prior.encode_prompts(PROMPTS)
    without = prior.predict_noise(noisy, steps, text, None, 1.0)
    silenced = prior.predict_noise(noisy, steps, text, pictures(1), 0.0)
    conditioned = prior.predict_noise(noisy, steps, text, pictures(1), 1.0)
    torch.testing.assert_close(silenced, without)
    assert float((conditioned - without).abs().mean()) > 1e-2


@pytest.mark.parametrize("unet_rows", [None, 2])
def test_a_shared_control_picture_counts_as_often_as_it_is_shown(prior: Prior, unet_rows: int | None) -> None:
    """And is embedded once, where all rows fit into one call."""
    shown = torch.tensor([0, 1, 1, 0, 1])
    noisy, steps, text = seeded(5, LATENTS, 8, 8), torch.arange(100, 600, 100), prior.encode_prompts(["red hair"] * 5)
    expected = prior.predict_noise(noisy, steps, text, pictures(1)[shown], 1.0)
    prior.memory, embedded = replace(prior.memory, unet_rows=unet_rows), []
    embedding = prior.controlnet.controlnet_cond_embedding  # type: ignore[union-attr]
    watch = embedding.register_forward_pre_hook(lambda _, given: embedded.append(len(given[0])))
    ours = prior.predict_noise(noisy, steps, text, pictures(1), 1.0, shown)
    assert embedded == ([2] if unet_rows is None else [2, 2, 1])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)
    watch.remove()
    assert not embedding._forward_hooks  # the next call is none the wiser


def test_embeddings_equal_the_pipelines(components: dict[str, Any], prior: Prior) -> None:
    expected, null = pipeline_of(components).encode_prompt(PROMPTS, "cpu", 1, True)
    torch.testing.assert_close(prior.encode_prompts(PROMPTS), expected)
    torch.testing.assert_close(prior.encode_prompts(["", ""]), null)


def test_a_long_prompt_is_cut_and_the_rest_is_named(prior: Prior, caplog: pytest.LogCaptureFixture) -> None:
    long = "a head with green skin, red hair, green hair, red skin, overhead view"
    with caplog.at_level(logging.WARNING):
        embedded = prior.encode_prompts([long])
    assert embedded.shape[1] == TOKENS
    assert "overhead view" in caplog.text
    assert "green skin" not in caplog.text


@given(steps=st.lists(st.integers(0, 999), min_size=2, max_size=2))
@settings(max_examples=20, deadline=None)
def test_noise_is_added_as_the_scheduler_does(components: dict[str, Any], steps: list[int]) -> None:
    prior, clean, noise = Prior(**components), seeded(2, LATENTS, 8, 8), seeded(2, LATENTS, 8, 8, seed=1)
    timesteps = torch.tensor(steps)
    expected = components["scheduler"].add_noise(clean, noise, timesteps)
    torch.testing.assert_close(prior.add_noise(clean, noise, timesteps), expected)


@given(steps=st.lists(st.integers(0, 999), min_size=2, max_size=2))
@settings(max_examples=20, deadline=None)
def test_a_perfect_velocity_gives_back_the_noise(components: dict[str, Any], steps: list[int]) -> None:
    clean, noise, timesteps = seeded(2, LATENTS, 8, 8), seeded(2, LATENTS, 8, 8, seed=1), torch.tensor(steps)
    velocity = components["scheduler"].get_velocity(clean, noise, timesteps)

    class Perfect(torch.nn.Module):
        config, dtype, device = components["unet"].config, torch.float32, torch.device("cpu")

        def forward(self, *_: Any, **__: Any) -> tuple[Tensor]:
            return (velocity,)

    prior = Prior(**{**components, "unet": Perfect()})
    noisy = prior.add_noise(clean, noise, timesteps)
    predicted = prior.predict_noise(noisy, timesteps, torch.zeros(2, TOKENS, 16), None, 1.0)
    torch.testing.assert_close(predicted, noise, atol=1e-5, rtol=1e-4)


def test_images_are_encoded_as_the_pipelines_do(build: Builder) -> None:
    components = build(vae="autoencoder")
    prior, rgb = Prior(**components), pictures()
    posterior = components["vae"].encode(rgb * 2 - 1).latent_dist
    scale = components["vae"].config.scaling_factor
    torch.testing.assert_close(prior.encode_images(rgb), posterior.mode() * scale)
    drawn = prior.encode_images(rgb, torch.Generator().manual_seed(3))
    torch.testing.assert_close(drawn, posterior.sample(torch.Generator().manual_seed(3)) * scale)


def test_a_picture_of_another_size_is_resized_and_keeps_its_gradient(prior: Prior) -> None:
    rgb = pictures(size=128).requires_grad_()
    latents = prior.encode_images(rgb)
    assert latents.shape == (2, LATENTS, 8, 8)
    halved = torch.nn.functional.avg_pool2d(rgb.detach(), 2)  # what bilinear halving means
    torch.testing.assert_close(latents.detach(), prior.encode_images(halved), atol=1e-4, rtol=1e-4)
    (gradient,) = torch.autograd.grad(latents.sum(), rgb)
    assert float(gradient.abs().min()) > 0


def test_nothing_of_the_prior_learns(prior: Prior) -> None:
    parts = (prior.unet, prior.controlnet, prior.vae, prior.text_encoder)
    assert not any(p.requires_grad for part in parts for p in part.parameters())
    assert not any(part.training for part in parts)


@pytest.mark.parametrize("vae", ["linear", "autoencoder"])
def test_a_folder_gives_back_the_same_prior(build: Builder, vae: str, tmp_path: Path) -> None:
    components = build(vae=vae)
    save_components(tmp_path, **components)
    (tmp_path / "vocabulary.txt").write_text("green\nhead\n", encoding="utf-8")
    loaded = load(tmp_path)
    ours, noisy = Prior(**components), seeded(2, LATENTS, 8, 8)
    assert loaded.vocabulary == {"green", "head"}
    assert loaded.picture_size == 64
    arguments = (noisy, torch.tensor([10, 900]), ours.encode_prompts(PROMPTS), pictures(1), 1.0)
    assert torch.equal(loaded.encode_prompts(PROMPTS), arguments[2])
    assert torch.equal(loaded.predict_noise(*arguments), ours.predict_noise(*arguments))
    assert torch.equal(loaded.encode_images(pictures()), ours.encode_images(pictures()))


def test_a_word_level_tokenizer_survives_its_folder(components: dict[str, Any], tmp_path: Path) -> None:
    """Ours loads it, and so does diffusers from what `model_index.json` says."""
    from diffusers import StableDiffusionControlNetPipeline

    from headstudio.synthetic.text import build_encoder, build_tokenizer

    tokenizer = build_tokenizer(TOKENS)
    encoder = build_encoder(tokenizer, width=16, layers=1, heads=2)
    save_components(tmp_path, **{**components, "tokenizer": tokenizer, "text_encoder": encoder})
    expected = tokenizer(PROMPTS).input_ids
    assert load(tmp_path).tokenizer(PROMPTS).input_ids == expected
    pipe = StableDiffusionControlNetPipeline.from_pretrained(tmp_path, vae=components["vae"])
    assert pipe.tokenizer(PROMPTS).input_ids == expected


def test_bfloat16_stays_close_and_repeats_itself(components: dict[str, Any], tmp_path: Path) -> None:
    save_components(tmp_path, **components)
    exact, quick = load(tmp_path), load(tmp_path, dtype="bfloat16")
    noisy, steps = seeded(2, LATENTS, 8, 8), torch.tensor([100, 800])
    expected = exact.predict_noise(noisy, steps, exact.encode_prompts(PROMPTS), pictures(1), 1.0)
    ours = quick.predict_noise(noisy, steps, quick.encode_prompts(PROMPTS), pictures(1), 1.0)
    assert ours.dtype == torch.float32
    assert float((ours - expected).norm() / expected.norm()) < 0.05
    assert torch.equal(ours, quick.predict_noise(noisy, steps, quick.encode_prompts(PROMPTS), pictures(1), 1.0))


@pytest.mark.parametrize("native", [True, False])
def test_auto_takes_bfloat16_only_where_the_processor_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, components: dict[str, Any], native: bool
) -> None:
    save_components(tmp_path, **components)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)
    assert load(tmp_path, dtype="auto").unet.dtype == (torch.bfloat16 if native else torch.float32)


def load(path: Path, dtype: str = "float32") -> Prior:
    nothing_else: dict[str, Any] = {"vae_path": None, "controlnet_path": None, "controlnet_subfolder": None}
    return load_prior(path=str(path), **nothing_else, dtype=dtype, vae_dtype="float32")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prior\.path=.*nowhere.* is no folder"):
        load(tmp_path / "nowhere")


def test_a_folder_without_its_parts_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prior\.path=.* lacks unet/config\.json, .*vae/config\.json"):
        load(tmp_path)


def test_a_vae_of_an_unknown_class_is_named(components: dict[str, Any], tmp_path: Path) -> None:
    save_components(tmp_path, **components)
    config = tmp_path / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "VQModel"}))
    with pytest.raises(UserError, match="VQModel"):
        load(tmp_path)


def test_an_unknown_dtype_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prior\.dtype='half' is unknown; use one of auto, float32"):
        load(tmp_path, dtype="half")


def test_an_unknown_prediction_type_is_named(components: dict[str, Any]) -> None:
    from diffusers import DDIMScheduler

    with pytest.raises(UserError, match="prediction_type='sample'"):
        Prior(**{**components, "scheduler": DDIMScheduler(prediction_type="sample")})
