"""A single `.safetensors` checkpoint in the original format: its settings read off the shapes, its parts loaded.

The file holds the UNet, the VAE and the text encoder. The rest (tokenizer, scheduler) is the same for every model of a
family and is written from `architectures` and `clip_bpe`, so that no hub is asked. Import `load` late: diffusers.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from headstudio.errors import UserError
from headstudio.guidance.architectures import SD15, SD21_BASE, Family
from headstudio.guidance.clip_bpe import write_tokenizer
from headstudio.guidance.weights_file import read_header

log = logging.getLogger(__name__)

_UNET, _VAE = "model.diffusion_model.", "first_stage_model."


def settings_of(file: Path) -> tuple[Family, dict[str, dict[str, Any]]]:
    """The family of a checkpoint, and the settings of its unet, vae, text_encoder and scheduler.

    Heads, activations and noise levels leave no trace in the shapes and are the family's. Stable Diffusion 2.1 is
    taken for its 512-pixel base model, which predicts noise; the 768-pixel one must come as a folder.

    Raises:
        UserError: the shapes are of no known family.
    """
    shapes = read_header(file).shapes
    try:
        stem = shapes[f"{_UNET}input_blocks.0.0.weight"]
        width = shapes[f"{_UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"][1]
        linear = len(shapes[f"{_UNET}input_blocks.1.1.proj_in.weight"]) == 2
        channels = [shapes[f"{_UNET}input_blocks.{i}.0.in_layers.2.weight"][0] for i in (1, 4, 7, 10)]
    except KeyError as error:
        raise UserError(
            f"prior.path={str(file)!r} is no Stable Diffusion 1 or 2 checkpoint (it lacks {error}); name one, or a "
            "folder in diffusers' format."
        ) from error
    family = SD21_BASE if linear else SD15
    unet = {**family.unet, "in_channels": stem[1], "block_out_channels": channels, "cross_attention_dim": width}
    if linear:
        unet["attention_head_dim"] = [max(1, count // 64) for count in channels]
    block = re.compile(r"cond_stage_model\..*\.(?:layers|resblocks)\.(\d+)\.")
    layers = {int(match[1]) for name in shapes if (match := block.match(name))}
    text = {**family.text_encoder, "hidden_size": width, "intermediate_size": 4 * width}
    text |= {"num_attention_heads": max(1, width // 64), "num_hidden_layers": min(len(layers), 23)}
    vae = dict(family.vae)
    if any(name.startswith(_VAE) for name in shapes):
        first = [f"{_VAE}encoder.down.{i}.block.0.conv1.weight" for i in range(4)]
        vae["block_out_channels"] = [shapes[name][0] for name in first if name in shapes]
    scheduler = {"_class_name": family.scheduler_class, **family.scheduler}
    return family, {"unet": unet, "vae": vae, "text_encoder": text, "scheduler": scheduler}


def load(file: Path, names: list[str], dtype: torch.dtype, vae_dtype: torch.dtype) -> dict[str, Any]:
    """The components called `names` (of unet, vae, text_encoder, tokenizer, scheduler) of a checkpoint."""
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel

    family, settings = settings_of(file)
    if family is SD21_BASE:
        log.info("%s is read as the base model of Stable Diffusion 2.1 (512 pixels, predicts noise).", file)
    with tempfile.TemporaryDirectory() as folder:
        _write_settings(Path(folder), family, settings)
        where: dict[str, Any] = {"config": folder, "local_files_only": True}
        unet = UNet2DConditionModel.from_single_file(str(file), subfolder="unet", torch_dtype=dtype, **where)
        if "vae" in names:
            vae = AutoencoderKL.from_single_file(str(file), subfolder="vae", torch_dtype=vae_dtype, **where)
        else:
            vae = AutoencoderKL()  # a few numbers in its place: the file may lack one
        pipeline = StableDiffusionPipeline.from_single_file(
            str(file), unet=unet, vae=vae, safety_checker=None, feature_extractor=None, torch_dtype=dtype, **where
        )
    return {name: pipeline.components[name] for name in names}


def _write_settings(folder: Path, family: Family, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """The folder of settings beside which diffusers reads a single file."""
    classes = {
        "unet": ("diffusers", "UNet2DConditionModel"),
        "vae": ("diffusers", "AutoencoderKL"),
        "text_encoder": ("transformers", "CLIPTextModel"),
        "tokenizer": ("transformers", "CLIPTokenizer"),
        "scheduler": ("diffusers", family.scheduler_class),
    }
    index = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False, **classes}
    index |= {"safety_checker": (None, None), "feature_extractor": (None, None)}
    for name, content in settings.items():
        kind = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}.get(name)
        head = {"_class_name": kind} if kind else {"model_type": "clip_text_model"} if name == "text_encoder" else {}
        (folder / name).mkdir()
        file = folder / name / ("scheduler_config.json" if name == "scheduler" else "config.json")
        file.write_text(json.dumps({**head, **content}), encoding="utf-8")
    write_tokenizer(folder / "tokenizer", pad_token=family.pad_token)
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
