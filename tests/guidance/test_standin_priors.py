"""The stand-ins have the published settings, names and tokens, and come out the same from every form of storage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from headstudio.errors import UserError
from headstudio.guidance.architectures import SD15, SD21, SD21_BASE, controlnet_config
from headstudio.guidance.clip_bpe import byte_letters, write_tokenizer
from headstudio.standins.diffusion import shrunk, write_prior

Standin = Callable[..., Any]
TEXT = "A DSLR portrait of Geralt's head, it's naïve & blue-eyed!! 1234 (red:1.4) in Köln 🙂"


def test_the_real_sizes_have_the_published_numbers_of_parameters() -> None:
    """SD 1.5: 859.5 M in the UNet, 83.7 M in the VAE, 361.3 M in its ControlNet; SD 2.1: 865.9 M and 364.2 M."""
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    def millions(build: Callable[[], Any]) -> float:
        with torch.device("meta"):
            return round(sum(p.numel() for p in build().parameters()) / 1e6, 1)

    for family, unet, controlnet, text in ((SD15, 859.5, 361.3, 123.1), (SD21_BASE, 865.9, 364.2, 340.4)):
        settings = shrunk(family, 1, None)
        assert settings["unet"] == family.unet
        assert millions(lambda s=settings: UNet2DConditionModel(**s["unet"])) == unet
        assert millions(lambda s=settings: AutoencoderKL(**s["vae"])) == 83.7
        assert millions(lambda s=settings: ControlNetModel(**s["controlnet"])) == controlnet
        assert millions(lambda s=settings: CLIPTextModel(CLIPTextConfig(**s["text_encoder"]))) == text


def test_only_widths_shrink() -> None:
    narrow, real = shrunk(SD21, 10, None), shrunk(SD21, 1, None)
    changed = {part: {k for k in real[part] if real[part][k] != narrow[part][k]} for part in real}
    assert (
        changed["unet"] == changed["controlnet"] == {"block_out_channels", "cross_attention_dim", "attention_head_dim"}
    )
    assert changed["vae"] == {"block_out_channels"}
    assert changed["text_encoder"] == {"hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers"}
    assert real["controlnet"] == controlnet_config(SD21)


@pytest.mark.parametrize(("pad_token", "number"), [("<|endoftext|>", 49407), ("!", 0)])
def test_the_tokenizer_gives_clips_own_numbers(tmp_path: Path, pad_token: str, number: int) -> None:
    """SD 2.1 fills up with "!", and so reads no exclamation mark as one; that is the real tokenizer's way too."""
    from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
    from transformers import AutoTokenizer

    write_tokenizer(tmp_path, pad_token=pad_token)
    text = TEXT.replace(pad_token, "")
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), SimpleTokenizer()
    assert byte_letters() == list(bytes_to_unicode().values())
    assert ours(text).input_ids == [49406, *theirs.encode(text), 49407]
    padded = ours("head", padding="max_length", max_length=77).input_ids
    assert padded == [49406, *theirs.encode("head"), 49407, *[number] * 74]
    assert (ours.model_max_length, len(ours)) == (77, 49408)


def test_folders_and_names_are_those_of_the_repositories(standin: Standin) -> None:
    from safetensors import safe_open

    files = standin("rv51")
    assert files.path.name == "Realistic_Vision_V5.1_noVAE"
    names = {str(p.relative_to(files.path)) for p in files.path.rglob("*") if p.is_file()}
    weights = {"unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"}
    assert names >= weights | {"text_encoder/model.safetensors", "tokenizer/merges.txt", "model_index.json"}
    assert (files.controlnet_path / "diffusion_sd15" / "diffusion_pytorch_model.safetensors").is_file()
    assert (standin("sd21").controlnet_path / "diffusion_pytorch_model.safetensors").is_file()
    with safe_open(files.path / "text_encoder" / "model.safetensors", "pt") as text:
        assert all(key.startswith("text_model.") for key in text.keys())  # noqa: SIM118
    with safe_open(files.vae_path / "diffusion_pytorch_model.safetensors", "pt") as vae:
        assert "encoder.mid_block.attentions.0.query.weight" in vae.keys()  # noqa: SIM118
    scheduler = json.loads((files.path / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["_class_name"] == "PNDMScheduler"
    assert "prediction_type" not in scheduler


def test_diffusers_own_pipeline_opens_a_folder(standin: Standin, no_network: list[Any]) -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(standin("sd15").path, local_files_only=True)
    picture = pipe("a head", num_inference_steps=1, output_type="np").images[0]
    assert picture.shape == (64, 64, 3)
    assert not no_network


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    def digest(folder: Path, seed: int) -> str:
        files = write_prior(folder, "sd21", sample_size=8, seed=seed)
        content = b"".join(p.read_bytes() for p in sorted(files.path.parent.rglob("*")) if p.is_file())
        return hashlib.sha256(content).hexdigest()

    state = torch.get_rng_state()
    assert digest(tmp_path / "a", 1) == digest(tmp_path / "b", 1) != digest(tmp_path / "c", 2)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_to_say_on_the_command_line(standin: Standin) -> None:
    files = standin("sd21")
    assert files.overrides()[1:] == [
        "prior.vae_path=null",
        f"prior.controlnet_path={files.controlnet_path}",
        "prior.controlnet_subfolder=null",
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "sdxl"}, "kind='sdxl' is unknown; use one of rv51, sd15, sd21, sd21v"),
        ({"kind": "sd15", "divisor": 7}, "divisor=7 does not fit"),
        ({"kind": "sd15", "single_file": True, "sample_size": 8}, "sample_size can't be chosen"),
    ],
)
def test_what_can_not_be_written_is_refused(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        write_prior(tmp_path, **options)
