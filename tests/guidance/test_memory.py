"""The estimate of the GPU memory against counted bytes, and what is done about too little, with made-up GPUs."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.utils._python_dispatch import TorchDispatchMode

from headstudio.errors import UserError
from headstudio.guidance import memory
from headstudio.guidance.architectures import SD15, controlnet_config
from headstudio.guidance.load import load_prior
from headstudio.guidance.memory import AutoMemory, Memory, Size, explained_oom, unlimited

CONF = Path(__file__).parents[2] / "conf"
GPU, CPU = torch.device("cuda"), torch.device("cpu")
HALF = Size(
    weights_gb=2.61,  # SD 1.5 and its ControlNet in float16, the VAE in bfloat16
    latent_size=64,
    picture_size=512,
    unet_channels=320,
    vae_channels=128,
    unet_bytes=2,
    vae_bytes=2,
)
WHOLE_VAE = replace(HALF, weights_gb=2.78, vae_bytes=4)


def preset(name: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[f"memory={name}", "scale.batch_size=8"])
    return instantiate(config.memory, _convert_="all")


def on_gpu_of(gigabytes: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total_gb", lambda device: None if device.type == "cpu" else gigabytes)


def test_every_preset_fits_its_gpu_with_the_papers_batch() -> None:
    names = {path.stem for path in (CONF / "memory").glob("*.yaml")}
    assert names == {"auto", *(f"{size}gb" for size in memory.PRESETS_GB)}
    for size in memory.PRESETS_GB:
        chosen = preset(f"{size}gb")
        assert chosen.views == 8
        for prior in (HALF, WHOLE_VAE):
            assert chosen.needed_gb(prior) < size


def test_presets_need_more_from_one_to_the_next_and_less_is_slower() -> None:
    needs = [preset(f"{size}gb").needed_gb(HALF) for size in memory.PRESETS_GB]
    assert needs == sorted(needs)
    assert [(m.unet_rows, m.vae_pictures) for m in (preset(f"{s}gb") for s in (48, 24, 16, 12))] == list(memory.LADDER)


def test_the_default_changes_nothing_on_a_processor() -> None:
    assert preset("auto").settled(HALF, CPU) == replace(unlimited(8), channels_last=True)


@pytest.mark.parametrize(
    ("gigabytes", "limits"), [(80, (None, None)), (48, (None, None)), (25, (24, 4)), (12, (8, 2)), (9, (4, 1))]
)
def test_automatic_takes_the_fastest_that_fits(
    gigabytes: float,
    limits: tuple[int | None, int | None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    on_gpu_of(gigabytes, monkeypatch)
    with caplog.at_level(logging.INFO):
        chosen = AutoMemory(views=8).settled(HALF, GPU)
    assert (chosen.unet_rows, chosen.vae_pictures) == limits
    assert chosen.needed_gb(HALF) <= gigabytes
    assert f"Of {gigabytes} GB" in caplog.text


@pytest.mark.parametrize(
    ("name", "gigabytes", "remedy"),
    [
        ("48gb", 23.5, "use memory=24gb."),
        ("24gb", 11.9, "use memory=12gb."),
        ("48gb", 9.0, "use memory=auto."),
        ("12gb", 4.0, "use a larger GPU"),
        ("auto", 4.0, "use a larger GPU"),
    ],
)
def test_too_little_is_told_with_what_would_do(
    name: str, gigabytes: float, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu_of(gigabytes, monkeypatch)
    with pytest.raises(UserError, match=f"needs about .* and the GPU has {gigabytes:.0f} GB; {remedy}"):
        preset(name).settled(HALF, GPU)


def test_nothing_is_loaded_for_a_gpu_that_is_too_small(
    standin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstudio.guidance import components

    def loaded(*_: Any) -> None:
        raise AssertionError("weights were loaded")

    on_gpu_of(2.0, monkeypatch)
    monkeypatch.setattr(components, "load_components", loaded)
    paths = {key: None if value is None else str(value) for key, value in vars(standin("sd15")).items()}
    with pytest.raises(UserError, match="the GPU has 2 GB"):
        load_prior(GPU, preset("12gb"), **paths, dtype="auto", vae_dtype="float32")


def test_the_size_is_read_off_the_files(standin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Size] = []

    class Asked:
        def settled(self, size: Size, device: torch.device) -> Memory:
            seen.append(size)
            return unlimited()

    for options in ({}, {"single_file": True}):
        files = standin("rv51", **options)
        paths = {key: None if value is None else str(value) for key, value in vars(files).items()}
        prior = load_prior("cpu", Asked(), **paths, dtype="float16", vae_dtype="float32")
        parts = [(prior.unet, 2), (prior.controlnet, 2), (prior.vae, 4)]
        if options:  # of one file everything counts, the text encoder and its own VAE too
            parts += [(prior.text_encoder, 2), (prior.vae, 2)]
        bytes_ = sum(p.numel() * size for part, size in parts for p in part.parameters())
        assert seen[-1].weights_gb == pytest.approx(bytes_ / 1e9, rel=1e-3)
        assert seen[-1].picture_size == prior.picture_size
        assert (seen[-1].unet_channels, seen[-1].vae_channels) == (32, 32)


@pytest.mark.parametrize(
    ("gigabytes", "preset"), [(80.0, "24gb"), (47.7, "24gb"), (25.4, "16gb"), (11.9, "12gb"), (8.2, "12gb")]
)
def test_an_exhausted_gpu_becomes_a_sentence(gigabytes: float, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names a preset below the one that is made for this GPU, which was not enough."""
    on_gpu_of(gigabytes, monkeypatch)
    told = rf"The GPU's {gigabytes:.0f} GB of memory were not enough while running the UNet; use memory={preset}, "
    with pytest.raises(UserError, match=told), explained_oom("running the UNet", GPU):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="something else"), explained_oom("running the UNet", GPU):
        raise RuntimeError("something else")


def test_the_priors_calls_explain_an_exhausted_gpu(prior: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(prior.unet, "forward", exhausted)
    text = prior.encode_prompts(["a head"])
    with pytest.raises(UserError, match=r"while running the UNet; use memory=12gb"):
        prior.predict_noise(torch.zeros(1, 6, 8, 8), torch.tensor([5]), text, None, 1.0)
    monkeypatch.setattr(prior.vae, "encode", exhausted)
    with pytest.raises(UserError, match="while encoding the pictures"):
        prior.encode_images(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("key", ["unet_rows", "vae_pictures"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_a_group_has_at_least_one(key: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"memory\.{key}={value} must be a whole number of at least 1, or null"):
        replace(unlimited(), **{key: value})


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {id(t.untyped_storage()) for t in tensors((args, kwargs))}
        for tensor in tensors(result):
            storage = tensor.untyped_storage()
            if id(storage) not in self.seen | given:
                self.seen.add(id(storage))
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.freed, id(storage), storage.nbytes())
        return result

    def freed(self, key: int, size: int) -> None:
        self.now -= size
        self.seen.discard(key)


def tensors(tree: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in torch.utils._pytree.tree_iter(tree) if isinstance(leaf, torch.Tensor))


def test_the_estimates_activations_are_those_that_are_counted() -> None:
    """The real SD 1.5 at 512 pixels in half precision, on tensors without content."""
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from torch._subclasses.fake_tensor import FakeTensorMode

    rows, half = 2, torch.float16
    alone = replace(HALF, weights_gb=0)
    with FakeTensorMode():
        torch.set_default_dtype(half)
        try:
            unet = UNet2DConditionModel(**SD15.unet).requires_grad_(False)
            net = ControlNetModel(**controlnet_config(SD15)).requires_grad_(False)
            vae = AutoencoderKL(**SD15.vae).requires_grad_(False)
        finally:
            torch.set_default_dtype(torch.float32)
        with torch.no_grad(), Live() as live:
            seen = torch.zeros(rows, 4, 64, 64, dtype=half), torch.zeros(rows, dtype=torch.long)
            text, control = torch.zeros(rows, 77, 768, dtype=half), torch.zeros(rows, 3, 512, 512, dtype=half)
            down, middle = net(*seen, encoder_hidden_states=text, controlnet_cond=control, return_dict=False)
            added = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
            unet(*seen, encoder_hidden_states=text, **added)
        with Live() as encoding:
            rgb = torch.zeros(1, 3, 512, 512, dtype=half, requires_grad=True)
            vae.encode(rgb).latent_dist.mode().sum().backward()
    unet_gb = memory._UNET_FACTOR * rows * alone.latent_size**2 * alone.unet_channels * alone.unet_bytes / 1e9
    vae_gb = memory._VAE_FACTOR * alone.picture_size**2 * alone.vae_channels * alone.vae_bytes / 1e9
    assert unet_gb == pytest.approx(live.peak / 1e9, rel=0.05)
    assert vae_gb == pytest.approx(encoding.peak / 1e9, rel=0.05)
    limited = replace(unlimited(views=16), unet_rows=48, vae_pictures=1)  # more rows than six students take
    assert limited.needed_gb(alone) == pytest.approx(1.2 * max(48 / rows * unet_gb, 6 * student_row_gb()) + 3.0)


def student_row_gb() -> float:
    size = HALF.latent_size**2 * HALF.unet_channels * HALF.unet_bytes
    return memory._STUDENT_FACTOR * size / 1e9


def test_what_a_student_needs_is_counted_too() -> None:
    """As above, with adapters and a backward pass; the ControlNet's answers are as large as what they are added to."""
    from diffusers import UNet2DConditionModel
    from torch._subclasses.fake_tensor import FakeTensorMode

    from headstudio.guidance.lora import LoraUnet

    half = torch.float16
    with torch.device("meta"):
        torch.set_default_dtype(half)
        try:
            unet = UNet2DConditionModel(**SD15.unet).requires_grad_(False)
        finally:
            torch.set_default_dtype(torch.float32)
    lora = LoraUnet(unet, rank=4)
    with FakeTensorMode(), Live() as live, lora.active(torch.zeros(1, 4, 4)):
        values = {
            name: torch.empty(value.shape, dtype=value.dtype, requires_grad=name in lora.adapters)
            for name, value in unet.named_parameters()
        }
        lora.camera = torch.nn.Linear(16, 1280)
        weights = live.now
        seen = torch.zeros(1, 4, 64, 64, dtype=half), torch.zeros(1, dtype=torch.long)
        text = {"encoder_hidden_states": torch.zeros(1, 77, 768, dtype=half), "return_dict": False}
        torch.func.functional_call(unet, values, seen, text)[0].float().square().sum().backward()
    assert student_row_gb() == pytest.approx((live.peak - weights) / 1e9, rel=0.1)
    for limited, at_once in ((None, 8), (24, 3), (4, 1)):
        assert replace(unlimited(8), unet_rows=limited).student_rows == (None if limited is None else at_once)
    alone = replace(HALF, weights_gb=0)
    bare = replace(unlimited(8), vae_pictures=1)
    assert bare.needed_gb(alone) == pytest.approx(1.2 * 8 * student_row_gb() + 3.0)
