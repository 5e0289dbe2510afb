"""The published models' shapes through `Prior`, against diffusers' own pipelines over the same random weights."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from headstudio.guidance import precision
from headstudio.guidance.load import load_prior
from headstudio.guidance.memory import AutoMemory, Memory, unlimited
from headstudio.guidance.prior import Prior
from headstudio.guidance.sampling import GuidedNoise, denoise

Standin = Callable[..., Any]
PROMPTS, NEGATIVE = ["a DSLR portrait of a man, red hair", "a head"], ["blurry", "unrealistic, low quality"]


def load(files: Any, device: str = "cpu", memory: Any = None, **changed: Any) -> Prior:
    said = {key: None if value is None else str(value) for key, value in vars(files).items()}
    return load_prior(device, memory, **{"dtype": "float32", "vae_dtype": "float32", **said, **changed})


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(count: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["sd15", "sd21"])
def test_prompts_are_read_as_the_pipeline_reads_them(standin: Standin, kind: str) -> None:
    from diffusers import StableDiffusionPipeline

    files = standin(kind)
    pipe = StableDiffusionPipeline.from_pretrained(files.path, local_files_only=True)
    expected, null = pipe.encode_prompt(PROMPTS, "cpu", 1, True)
    prior = load(files)
    assert expected.shape[1] == 77
    torch.testing.assert_close(prior.encode_prompts(PROMPTS), expected)
    torch.testing.assert_close(prior.encode_prompts(["", ""]), null)


def test_of_a_long_prompt_the_part_beyond_77_tokens_is_named(
    standin: Standin, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load(standin("sd15")).encode_prompts(["red " * 74 + "hat", "red " * 75 + "hat"])
    (told,) = caplog.messages
    assert "77 tokens" in told
    assert told.endswith("'hat'")


@pytest.mark.parametrize(("kind", "velocity"), [("sd15", False), ("sd21", False), ("sd21v", True)])
def test_two_guided_steps_equal_the_controlnet_pipeline(standin: Standin, kind: str, velocity: bool) -> None:
    from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline

    files = standin(kind)
    net = ControlNetModel.from_pretrained(files.controlnet_path / (files.controlnet_subfolder or ""))
    pipe = StableDiffusionControlNetPipeline.from_pretrained(files.path, controlnet=net, local_files_only=True)
    # Our ladder of noise levels: equal parts down to a clean end.
    settings = {"timestep_spacing": "trailing", "set_alpha_to_one": True, "clip_sample": False}
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, **settings)
    pipe.set_progress_bar_config(disable=True)
    latents, control, prior = seeded(2, 4, 8, 8), pictures(seed=1), load(files)
    with torch.no_grad():
        expected = pipe(
            PROMPTS,
            negative_prompt=NEGATIVE,
            image=control,
            latents=latents,
            num_inference_steps=2,
            guidance_scale=7.5,
            controlnet_conditioning_scale=1.5,
            output_type="latent",
        ).images
    text, negative = prior.encode_prompts(PROMPTS), prior.encode_prompts(NEGATIVE)
    predict = GuidedNoise(prior, text, negative, control, guidance_scale=7.5, conditioning_scale=1.5)
    ours = denoise(predict, latents, torch.tensor([999, 999]), steps=2)
    assert prior.predicts_velocity is velocity
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=1e-3)


def gradient(prior: Prior, direction: Tensor) -> Tensor:
    rgb = pictures().requires_grad_()
    latents = prior.encode_images(rgb, torch.Generator().manual_seed(3))
    (found,) = torch.autograd.grad((latents * direction).sum(), rgb)
    return found


def test_the_gradient_through_the_vae_is_autograds_and_keeps_its_direction_in_half_precision(standin: Standin) -> None:
    files, direction = standin("rv51"), seeded(2, 4, 8, 8)
    exact = load(files)
    exact.vae.double()
    rgb = pictures().requires_grad_()
    moments = exact.vae.encode(rgb.double() * 2 - 1).latent_dist
    noise = torch.randn(moments.mean.shape, generator=torch.Generator().manual_seed(3)).double()
    latents = (moments.mean + moments.std * noise) * exact.vae.config.scaling_factor
    (expected,) = torch.autograd.grad((latents * direction).sum(), rgb)
    exact.vae.float()
    torch.testing.assert_close(gradient(exact, direction), expected, atol=1e-5, rtol=1e-3)
    exact.vae.bfloat16()
    found = gradient(exact, direction)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    # It draws other numbers for the posterior, whose spread hardly matters to the gradient.
    assert float(torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0)) > 0.99


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_predicts_in_the_callers_format_with_full_noise_levels(standin: Standin, dtype: str) -> None:
    whole, half = load(standin("sd15")), load(standin("sd15"), dtype=dtype)
    text, noisy, steps = whole.encode_prompts(PROMPTS), seeded(2, 4, 8, 8), torch.tensor([20, 900])
    expected = whole.predict_noise(noisy, steps, text, pictures(), 1.0)
    ours = half.predict_noise(noisy, steps, text, pictures(), 1.0)
    assert (half.unet.dtype, ours.dtype) == (precision.DTYPES[dtype], torch.float32)
    assert half.alphas_cumprod.dtype == torch.float32
    assert torch.equal(half.alphas_cumprod, whole.alphas_cumprod)
    assert float((ours - expected).norm() / expected.norm()) < (0.01 if dtype == "float16" else 0.05)


CHANGES: list[dict[str, Any]] = [
    {"unet_rows": 2},
    {"vae_pictures": 1},
    {"attention_slicing": True},
    {"vae_tiling": True},
    {"channels_last": True},
    {"text_encoder_on_cpu": True},
    {"unet_rows": 2, "vae_pictures": 1, "channels_last": True, "attention_slicing": True},
]


class Chosen:
    """The setting itself, whatever the device."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def settled(self, *_: Any) -> Memory:
        return self.memory


def answers(prior: Prior) -> list[Tensor]:
    """What the guidance asks of a prior: texts, predictions with and without control, latents, a gradient, pictures."""
    count = 3  # no multiple of two: the last group is smaller
    text, noise = prior.encode_prompts([*PROMPTS, ""]), seeded(count, 4, 8, 8)
    arguments = (noise, torch.tensor([20, 400, 900]), text)
    predictions = [prior.predict_noise(*arguments, control, 1.5) for control in (pictures(count, seed=1), None)]
    rgb = pictures(count).requires_grad_()
    latents = prior.encode_images(rgb, torch.Generator().manual_seed(1))
    (slope,) = torch.autograd.grad((latents * noise).sum(), rgb)
    return [text, *predictions, latents.detach(), slope, prior.decode_latents(latents.detach())]


@pytest.fixture(scope="module")
def expected(standin: Standin) -> list[Tensor]:
    return answers(load(standin("sd15")))


@pytest.mark.parametrize("changes", CHANGES, ids=lambda c: ",".join(f"{k}={v}" for k, v in c.items()))
def test_less_memory_gives_the_same_numbers(standin: Standin, expected: list[Tensor], changes: dict[str, Any]) -> None:
    saving = load(standin("sd15"), memory=Chosen(replace(unlimited(), **changes)))
    for ours, theirs in zip(answers(saving), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_groups_are_what_the_networks_see(standin: Standin) -> None:
    prior = load(standin("sd15"), memory=Chosen(replace(unlimited(), unet_rows=2, vae_pictures=1)))
    seen: dict[str, list[int]] = {"unet": [], "controlnet": [], "encoder": [], "decoder": []}

    def count(name: str) -> Callable[..., None]:
        return lambda module, arguments: seen[name].append(len(arguments[0]))

    parts = {"unet": prior.unet, "controlnet": prior.controlnet}
    parts |= {"encoder": prior.vae.encoder, "decoder": prior.vae.decoder}
    for name, part in parts.items():
        part.register_forward_pre_hook(count(name))
    text = prior.encode_prompts(["", "", "", "", ""])
    prior.predict_noise(seeded(5, 4, 8, 8), torch.arange(5), text, pictures(5), 1.0)
    rgb = pictures(3).requires_grad_()
    latents = prior.encode_images(rgb)
    assert seen["encoder"] == [1, 1, 1]
    latents.sum().backward()
    assert seen["encoder"] == [1] * 6  # once more in the backward pass: nothing was remembered
    prior.decode_latents(latents.detach())
    assert (seen["unet"], seen["controlnet"], seen["decoder"]) == ([2, 2, 1], [2, 2, 1], [1, 1, 1])


def test_automatic_formats_follow_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert precision.network_dtype("auto", gpu) is torch.float16
    assert precision.network_dtype("bfloat16", gpu) is torch.bfloat16
    assert precision.vae_dtype("auto", cpu) is torch.float32
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has)
        assert precision.vae_dtype("auto", gpu) is expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_answers_as_the_processor_does(standin: Standin) -> None:
    files = standin("sd15")
    cpu, gpu = load(files), load(files, "cuda", dtype="auto", vae_dtype="auto")
    assert (gpu.unet.dtype, gpu.alphas_cumprod.dtype, gpu.device.type) == (torch.float16, torch.float32, "cuda")
    text, noisy, steps = cpu.encode_prompts(PROMPTS), seeded(2, 4, 8, 8), torch.tensor([20, 900])
    expected = cpu.predict_noise(noisy, steps, text, pictures(), 1.0)
    ours = gpu.predict_noise(noisy.cuda(), steps.cuda(), gpu.encode_prompts(PROMPTS), pictures().cuda(), 1.0)
    assert float((ours.cpu() - expected).norm() / expected.norm()) < 0.02
    torch.testing.assert_close(
        gpu.encode_images(pictures().cuda()).cpu(), cpu.encode_images(pictures()), atol=0.05, rtol=0.05
    )


@pytest.mark.parametrize("kind", ["rv51", "sd15", "sd21"])
def test_the_shipped_settings_read_their_folders_from_the_environment(
    standin: Standin, kind: str, monkeypatch: pytest.MonkeyPatch, no_network: list[Any]
) -> None:
    files = standin(kind)
    monkeypatch.setenv(f"HEADSTUDIO_{kind.upper()}", str(files.path))
    monkeypatch.setenv("HEADSTUDIO_CONTROLNET", str(files.controlnet_path))
    if files.vae_path:
        monkeypatch.setenv(f"HEADSTUDIO_{kind.upper()}_VAE", str(files.vae_path))
    settings = OmegaConf.load(Path(__file__).parents[2] / "conf" / "prior" / f"{kind}.yaml")
    prior = instantiate(settings, dtype="float32")("cpu", AutoMemory(views=2))
    expected = load(files)
    assert torch.equal(prior.vae.quant_conv.weight, expected.vae.quant_conv.weight)
    assert torch.equal(prior.controlnet.conv_in.weight, expected.controlnet.conv_in.weight)
    assert prior.vae.dtype == torch.float32
    assert not no_network
