"""Loading the components of a prior through diffusers and transformers. Import late: this pulls in both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import AutoTokenizer, CLIPTextModel
from transformers.utils import logging as transformers_logging

from headstudio.guidance import checkpoint
from headstudio.guidance.layout import Found
from headstudio.guidance.linear_codec import LinearCodec
from headstudio.guidance.sources import Source


def load_components(sources: Sequence[Source], dtype: torch.dtype, vae_dtype: torch.dtype) -> dict[str, Any]:
    """The arguments of `Prior` by name, on the CPU.

    Args:
        sources: ready ones, as `sources.fetch` returns them.
        dtype: of the UNet, the ControlNet and the text encoder.
        vae_dtype: of the VAE.
    """
    with _no_progress_bars():
        components: dict[str, Any] = {"controlnet": None}
        for file in dict.fromkeys(source.file for source in sources if source.file):
            names = [source.component for source in sources if source.file == file]
            components |= checkpoint.load(file, names, dtype, vae_dtype)
        for source in sources:
            if source.found is not None:
                kind = vae_dtype if source.component == "vae" else dtype
                components[source.component] = _load(source.component, source.found, kind)
        # Any scheduler of the family's noise levels will do: only its alphas_cumprod and prediction_type are read.
        if not isinstance(components["scheduler"], DDIMScheduler):
            components["scheduler"] = DDIMScheduler.from_config(components["scheduler"].config)
        return components


def _load(component: str, found: Found, dtype: torch.dtype) -> Any:
    where: dict[str, Any] = {"local_files_only": True}
    if component == "tokenizer":
        return AutoTokenizer.from_pretrained(found.folder, **where)
    if component == "scheduler":
        return DDIMScheduler.from_pretrained(found.folder, **where)
    where |= {"use_safetensors": True, "variant": found.variant}
    if component == "text_encoder":
        return CLIPTextModel.from_pretrained(found.folder, dtype=dtype, **where)
    kinds = {"unet": UNet2DConditionModel, "controlnet": ControlNetModel}
    kind = vae_class(found.folder) if component == "vae" else kinds[component]
    return kind.from_pretrained(found.folder, torch_dtype=dtype, **where)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Loading from a disk needs no bar on the terminal, and what diffusers remarks on the way concerns nobody."""
    shown, verbosity = transformers_logging.is_progress_bar_enabled(), diffusers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(verbosity)
        diffusers_logging.enable_progress_bar()
        if shown:
            transformers_logging.enable_progress_bar()


def vae_class(folder: Path) -> type[AutoencoderKL] | type[LinearCodec]:
    """The class that a VAE's `config.json` names."""
    config = folder / "config.json"
    name = json.loads(config.read_text(encoding="utf-8")).get("_class_name", "AutoencoderKL")
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
