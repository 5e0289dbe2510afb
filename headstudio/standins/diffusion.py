"""Random weights in the folder layouts of the real models: Stable Diffusion, its VAE, ControlNetMediaPipeFace.

A command that works with them works with the real ones: classes, settings, file names and names of weights are the
published ones; only numbers of channels shrink, and only when asked. They draw nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstudio.errors import UserError
from headstudio.guidance.architectures import SD15, SD21, SD21_BASE, Family, controlnet_config
from headstudio.guidance.clip_bpe import write_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

KINDS: Mapping[str, Family] = {"rv51": SD15, "sd15": SD15, "sd21": SD21_BASE, "sd21v": SD21}
FOLDERS = {
    "rv51": "Realistic_Vision_V5.1_noVAE",
    "sd15": "stable-diffusion-v1-5",
    "sd21": "stable-diffusion-2-1-base",
    "sd21v": "stable-diffusion-2-1",
}


@dataclass(frozen=True)
class PriorFiles:
    """Where a stand-in lies, by the keys of the group `prior`."""

    path: Path
    vae_path: Path | None
    controlnet_path: Path
    controlnet_subfolder: str | None

    def overrides(self) -> list[str]:
        """What to write behind `prior=...` on the command line."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return [f"prior.{key}={'null' if value is None else value}" for key, value in said.items()]


def write_prior(
    folder: str | Path,
    kind: str,
    *,
    divisor: int = 10,
    sample_size: int | None = None,
    seed: int = 0,
    variant: str | None = None,
    single_file: bool = False,
) -> PriorFiles:
    """Write the base model, the ControlNet for it and, for rv51, the separate VAE, each as its repository lays it out.

    Args:
        folder: the folders (named like the repositories) are made in here.
        kind: rv51, sd15, sd21 (the 512-pixel base model) or sd21v (the 768-pixel one that predicts velocities).
        divisor: by how much the UNet's channels shrink (1, 5 or 10); 1 is the real size, gigabytes of random numbers.
            The VAE's shrink by at most 4, and the text encoder gets 2 layers.
        sample_size: side of the latents; None keeps the real 64 (sd21v: 96), pictures are 8 times as large.
        seed: of the weights; the same seed writes the same bytes.
        variant: "fp16" writes the weights in half precision as `*.fp16.safetensors`, and no others.
        single_file: the base model is one `.safetensors` file in the original names instead of a folder.

    Raises:
        UserError: an unknown kind, a divisor that the layers do not allow, a sample_size for a single file.
    """
    if kind not in KINDS:
        raise UserError(f"kind={kind!r} is unknown; use one of {', '.join(KINDS)}.")
    if divisor not in (1, 5, 10):
        raise UserError(f"divisor={divisor} does not fit the layers; use 1, 5 or 10.")
    if single_file and sample_size is not None:
        raise UserError("A single file does not say how large its latents are, so sample_size can't be chosen for it.")
    import torch

    family, root = KINDS[kind], Path(folder)
    base, controlnet = root / FOLDERS[kind], root / "ControlNetMediaPipeFace"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = _build(family, divisor, sample_size)
        if single_file:
            base = base.with_name(f"{base.name}.safetensors")
            _write_single_file(base, parts)
        else:
            _write_pipeline(base, family, parts, variant)
        vae_path = None
        if kind == "rv51":
            vae_path = root / "sd-vae-ft-mse"
            _write_model(vae_path, parts["vae"], variant)
        _write_model(controlnet / (family.controlnet_subfolder or ""), parts["controlnet"], variant)
        _write_model(controlnet / "controlnet_normals_regions", parts["controlnet_normals_regions"], variant)
    return PriorFiles(base, vae_path, controlnet, family.controlnet_subfolder)


def shrunk(family: Family, divisor: int, sample_size: int | None) -> dict[str, dict[str, Any]]:
    """The settings of unet, vae, text_encoder and controlnet with channels divided and everything else kept."""
    settings = {
        "unet": dict(family.unet),
        "vae": dict(family.vae),
        "text_encoder": dict(family.text_encoder),
        "controlnet": controlnet_config(family),
    }
    unet, vae, text, controlnet = settings.values()
    if sample_size is not None:
        unet["sample_size"], vae["sample_size"] = sample_size, 8 * sample_size
    if divisor == 1:
        return settings
    width = 64 * max(1, round(family.text_width / divisor / 64))
    for net in (unet, controlnet):
        net["block_out_channels"] = [channels // divisor for channels in net["block_out_channels"]]
        net["cross_attention_dim"] = width
        if isinstance(net["attention_head_dim"], list):  # heads of 64 channels, as many as fit
            net["attention_head_dim"] = [max(1, channels // 64) for channels in net["block_out_channels"]]
    vae["block_out_channels"] = [channels // min(divisor, 4) for channels in vae["block_out_channels"]]
    text.update(hidden_size=width, intermediate_size=4 * width, num_attention_heads=width // 64, num_hidden_layers=2)
    return settings


def _build(family: Family, divisor: int, sample_size: int | None) -> dict[str, Any]:
    import torch
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    settings = shrunk(family, divisor, sample_size)
    net: Any = ControlNetModel(**settings["controlnet"])
    dense: Any = ControlNetModel(**settings["controlnet"], conditioning_channels=6)
    for parameter in (*net.parameters(), *dense.parameters()):  # outputs start at zero; a map must change something
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return {
        "unet": UNet2DConditionModel(**settings["unet"]),
        "vae": AutoencoderKL(**settings["vae"]),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**settings["text_encoder"])),
        "controlnet": net,
        "controlnet_normals_regions": dense,
    }


def _write_pipeline(folder: Path, family: Family, parts: Mapping[str, Any], variant: str | None) -> None:
    for name in ("unet", "vae", "text_encoder"):
        _write_model(folder / name, parts[name], variant)
    write_tokenizer(folder / "tokenizer", pad_token=family.pad_token)
    scheduler = {"_class_name": family.scheduler_class, "_diffusers_version": "0.6.0", **family.scheduler}
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.6.0",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", family.scheduler_class],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    _write_json(folder / "model_index.json", index)


def _write_model(folder: Path, model: Any, variant: str | None) -> None:
    """`config.json` and the weights, under the names that the published files use."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    text = type(model).__name__ == "CLIPTextModel"
    settings = model.config.to_dict() if text else json.loads(model.to_json_string())
    _write_json(folder / "config.json", settings)
    weights = _published_names(model)
    if variant == "fp16":
        weights = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    stem = "model" if text else "diffusion_pytorch_model"
    suffix = f".{variant}" if variant else ""
    save_file(weights, folder / f"{stem}{suffix}.safetensors", metadata={"format": "pt"})


def _published_names(model: Any) -> dict[str, Tensor]:
    """The model's weights; those of the text encoder and of the VAE's attention have older names in the real files."""
    weights = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    kind = type(model).__name__
    if kind == "CLIPTextModel":
        import torch

        older = {key if key.startswith("text_model.") else f"text_model.{key}": v for key, v in weights.items()}
        positions = torch.arange(model.config.max_position_embeddings)[None]  # a buffer that is no longer saved
        return {**older, "text_model.embeddings.position_ids": positions}
    if kind != "AutoencoderKL":
        return weights
    attention = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, old in attention.items():
        weights = {key.replace(f".attentions.0.{new}.", f".attentions.0.{old}."): v for key, v in weights.items()}
    return weights


def _write_single_file(file: Path, parts: Mapping[str, Any]) -> None:
    from safetensors.torch import save_file

    from headstudio.standins.ldm import checkpoint

    text = _published_names(parts["text_encoder"])
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(checkpoint(parts["unet"].state_dict(), parts["vae"].state_dict(), text), file)


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")
