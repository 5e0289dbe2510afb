"""Whether the components of a prior belong together and how large they are, told before a weight is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from headstudio.errors import UserError
from headstudio.findings import Finding, State
from headstudio.guidance import checkpoint
from headstudio.guidance.architectures import CONTROLNET, family_of_width
from headstudio.guidance.layout import read_json
from headstudio.guidance.memory import Size
from headstudio.guidance.sources import Source, locate
from headstudio.guidance.sources import look as sources_look
from headstudio.guidance.weights_file import read_header

Settings = Mapping[str, Any]
_BETAS = ("beta_start", "beta_end", "beta_schedule")


def settings_of(sources: Sequence[Source]) -> dict[str, dict[str, Any]]:
    """Each component's settings (`config.json`; scheduler: `scheduler_config.json`); of a single file, its family's.

    Raises:
        UserError: a file that can't be read.
    """
    settings: dict[str, dict[str, Any]] = {}
    for source in sources:
        if source.file is not None:
            settings.setdefault(source.component, checkpoint.settings_of(source.file)[1].get(source.component, {}))
        elif source.found is not None:
            settings[source.component] = read_json(source.found.settings[0])
    return settings


def size_of(
    sources: Sequence[Source], settings: Mapping[str, Settings], dtype: torch.dtype, vae_dtype: torch.dtype
) -> Size:
    """What the estimate of the memory needs: parameters from the files' headers, shapes from the settings."""
    unet, vae = settings["unet"], settings["vae"]
    channels = vae.get("block_out_channels", [128] * 4)
    latent = int(unet.get("sample_size") or 64)
    weights = 0
    for source in sources:
        if source.found and source.component in ("unet", "vae", "controlnet"):
            weights += source.found.parameters() * (vae_dtype if source.component == "vae" else dtype).itemsize
    for file in {source.file for source in sources if source.file}:
        weights += read_header(file).parameters * dtype.itemsize
    return Size(
        weights_gb=weights / 1e9,
        latent_size=latent,
        picture_size=latent * 2 ** (len(channels) - 1),
        unet_channels=int(unet.get("block_out_channels", [320])[0]),
        vae_channels=int(channels[0]),
        unet_bytes=dtype.itemsize,
        vae_bytes=vae_dtype.itemsize,
    )


def look(**arguments: Any) -> Iterator[Finding]:
    """`sources.look` of the same arguments, and, once everything is here, what does not belong together."""
    yield from sources_look(**arguments)
    paths = {key: arguments[key] for key in ("path", "vae_path", "controlnet_path", "controlnet_subfolder")}
    found = locate(**paths)
    if not all(source.ready for source in found):
        return
    try:
        require_fit(settings_of(found), {source.component: source.named for source in found})
    except UserError as problem:
        yield Finding(what="The prior's parts", state=State.BROKEN, detail=str(problem).rstrip("."))


def require_fit(settings: Mapping[str, Settings], names: Mapping[str, str]) -> None:
    """Refuse components that can't work together.

    Args:
        settings: the content of each component's `config.json` (scheduler: `scheduler_config.json`).
        names: what the user named for each component, for the messages.

    Raises:
        UserError: a UNet for another task, a text encoder or a ControlNet for another model, a foreign scheduler.
    """
    unet, vae, text = settings["unet"], settings["vae"], settings["text_encoder"]
    _require_unet(unet, vae, names["unet"])
    width, reads = text.get("hidden_size"), unet.get("cross_attention_dim")
    if isinstance(width, int) and isinstance(reads, int) and width != reads:
        raise UserError(
            f"prior.path={names['unet']!r} has a text encoder of width {width} ({_family(width)}), and a UNet that "
            f"reads {reads} ({_family(reads)}); take all components from one model."
        )
    _require_scheduler(settings["scheduler"], names["scheduler"])
    if "controlnet" in settings:
        _require_controlnet(settings["controlnet"], unet, names)


def require_channels(controlnet: Any | None, control: Any) -> None:
    """Refuse control pictures that a loaded ControlNet does not read.

    Args:
        controlnet: a diffusers ControlNetModel, or None.
        control: draws pictures of `channels` channels.

    Raises:
        UserError: it was trained on another number of channels.
    """
    reads = control.channels if controlnet is None else controlnet.config.conditioning_channels
    if reads != control.channels:
        raise UserError(
            f"control draws {control.channels} channels ({type(control).__name__}), but the prior's ControlNet reads "
            f"{reads}; name one that was trained on such pictures (prior.controlnet_path, prior.controlnet_subfolder)."
        )


def _require_unet(unet: Settings, vae: Settings, name: str) -> None:
    takes, latent = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if takes != latent:
        what = {9: " (an inpainting model)", 5: " (a depth model)", 8: " (a picture-editing model)"}.get(takes, "")
        raise UserError(
            f"prior.path={name!r} has a UNet of {takes} input channels{what} for latents of {latent}; name a "
            "text-to-image model."
        )
    if unet.get("addition_embed_type") not in (None, "text"):  # "text" reads the same embeddings once more
        raise UserError(
            f"prior.path={name!r} is of another generation (its UNet wants {unet['addition_embed_type']!r} "
            "embeddings, as SDXL does); name a model of the Stable Diffusion 1 or 2 family."
        )


def _require_scheduler(scheduler: Settings, name: str) -> None:
    lacking = [] if scheduler.get("num_train_timesteps") else ["num_train_timesteps"]
    if scheduler.get("trained_betas") is None:
        lacking += [key for key in _BETAS if scheduler.get(key) is None]
    if lacking:
        raise UserError(
            f"The scheduler of prior.path={name!r} ({scheduler.get('_class_name', 'no class')}) lacks "
            f"{', '.join(lacking)}, from which the noise levels are computed; name a model with a DDPM-like scheduler."
        )


def _require_controlnet(controlnet: Settings, unet: Settings, names: Mapping[str, str]) -> None:
    has, needs = controlnet.get("cross_attention_dim"), unet.get("cross_attention_dim")
    if has != needs:
        raise UserError(
            f"prior.controlnet_path={names['controlnet']!r} holds a ControlNet for {_family(has)} (text width {has}), "
            f"but prior.path={names['unet']!r} is {_family(needs)} ({needs}){_remedy(needs)}."
        )
    if list(controlnet.get("block_out_channels", [])) != list(unet.get("block_out_channels", [])):
        raise UserError(
            f"prior.controlnet_path={names['controlnet']!r} has channels {controlnet.get('block_out_channels')} and "
            f"the UNet of prior.path={names['unet']!r} has {unet.get('block_out_channels')}; a ControlNet must be a "
            "copy of its UNet's encoder."
        )


def _family(width: Any) -> str:
    family = family_of_width(width) if isinstance(width, int) else None
    return family.name if family else "another model"


def _remedy(width: Any) -> str:
    family = family_of_width(width) if isinstance(width, int) else None
    if family is None:
        return "; name the ControlNet that was trained with this model"
    where = family.controlnet_subfolder
    kept = f"prior.controlnet_subfolder={where}" if where else "its root, prior.controlnet_subfolder=null"
    return f"; {CONTROLNET} keeps the one that fits in {kept}"
