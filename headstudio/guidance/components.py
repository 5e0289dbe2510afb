"""Loading the components of a prior through diffusers and transformers. Import late: this pulls in both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from transformers import AutoTokenizer, CLIPTextModel
from transformers.utils import logging as transformers_logging

from headstudio.guidance.linear_codec import LinearCodec


def load_components(
    path: str,
    controlnet_path: str | None,
    controlnet_subfolder: str | None,
    dtype: torch.dtype,
    vae_dtype: torch.dtype,
) -> dict[str, Any]:
    """The arguments of `Prior` by name, each from its subfolder of `path` (a folder or a hub id)."""
    with _no_progress_bars():
        return {
            "unet": UNet2DConditionModel.from_pretrained(path, subfolder="unet", torch_dtype=dtype),
            "vae": vae_class(path).from_pretrained(path, subfolder="vae", torch_dtype=vae_dtype),
            "text_encoder": CLIPTextModel.from_pretrained(path, subfolder="text_encoder", dtype=dtype),
            "tokenizer": AutoTokenizer.from_pretrained(path, subfolder="tokenizer"),
            "scheduler": DDIMScheduler.from_pretrained(path, subfolder="scheduler"),
            "controlnet": load_controlnet(controlnet_path, controlnet_subfolder, dtype),
        }


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Loading a few megabytes needs no bar on the terminal."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def load_controlnet(path: str | None, subfolder: str | None, dtype: torch.dtype) -> ControlNetModel | None:
    """The ControlNet, or None where no path is given."""
    if path is None:
        return None
    where = {"subfolder": subfolder} if subfolder else {}
    return ControlNetModel.from_pretrained(path, torch_dtype=dtype, **where)


def vae_class(path: str) -> type[AutoencoderKL] | type[LinearCodec]:
    """The class that `<path>/vae/config.json` names; a hub id always holds diffusers' own."""
    config = Path(path) / "vae" / "config.json"
    if not Path(path).is_dir():
        return AutoencoderKL
    name = json.loads(config.read_text(encoding="utf-8"))["_class_name"]
    classes = {"AutoencoderKL": AutoencoderKL, "LinearCodec": LinearCodec}
    if name not in classes:
        raise ValueError(f"{config} names the class {name}, which is none of {', '.join(classes)}.")
    return classes[name]


def save_components(path: Path, **components: Any) -> None:
    """Write components (unet, vae, text_encoder, tokenizer, scheduler, controlnet) as a diffusers pipeline folder.

    `model_index.json` is written by hand, because diffusers would record `LinearCodec` under this package's top level.
    """
    index: dict[str, Any] = {"_class_name": "StableDiffusionControlNetPipeline", "requires_safety_checker": False}
    for name, component in components.items():
        with _no_progress_bars():
            component.save_pretrained(path / name)
        kind = type(component)
        library = "headstudio.guidance.linear_codec" if kind is LinearCodec else kind.__module__.split(".")[0]
        index[name] = [library, kind.__name__]
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "image_encoder": [None, None]}
    (path / "model_index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
