"""Prior from files: the target of every option of the group `prior`."""

from __future__ import annotations

from pathlib import Path

import torch

from headstudio.errors import UserError
from headstudio.guidance import precision
from headstudio.guidance.fit import look, require_fit, settings_of, size_of
from headstudio.guidance.memory import Saving, explained_oom, unlimited
from headstudio.guidance.precision import network_dtype
from headstudio.guidance.prior import Prior
from headstudio.guidance.sources import fetch
from headstudio.guidance.vocabulary import VOCABULARY_FILE, load_colors, load_vocabulary


def load_prior(
    device: torch.device | str = "cpu",
    memory: Saving | None = None,
    *,
    path: str,
    vae_path: str | None,
    controlnet_path: str | None,
    controlnet_subfolder: str | None,
    dtype: str,
    vae_dtype: str,
) -> Prior:
    """A prior on a device; the one loader for every model. What is not on this disk is downloaded first, and said so.

    A path is a folder in diffusers' format, one `.safetensors` file in the original format (`path` only), or the id
    `owner/name` of a repository on the Hugging Face hub. Pickled weights are never read.

    Args:
        device: where it will work; `auto` formats and the check of the memory depend on it.
        memory: how to take less memory; None takes all that it wants.
        path: holds `unet`, `vae` (`AutoencoderKL` or our `LinearCodec`), `text_encoder`, `tokenizer`, `scheduler`; may
            hold `vocabulary.txt`, the words it knows, and `colors.json`, the colours that it knows of a thing.
        vae_path: another VAE than the model's own, or None.
        controlnet_path: the ControlNet; None takes `<path>/<controlnet_subfolder>` or `<path>/controlnet`, if there.
        controlnet_subfolder: folder inside `controlnet_path`, or None.
        dtype: float32, float16 or bfloat16, of the UNet, the ControlNet and the text encoder; or auto, see
            `precision.network_dtype`.
        vae_dtype: the same for the VAE, through which gradients flow, see `precision.vae_dtype`.

    Raises:
        UserError: a component that is missing, damaged or belongs to another model, an unknown dtype, a GPU too small.
    """
    device = torch.device(device)
    formats = network_dtype(dtype, device), precision.vae_dtype(vae_dtype, device)
    sources = fetch(
        path=path, vae_path=vae_path, controlnet_path=controlnet_path, controlnet_subfolder=controlnet_subfolder
    )
    settings = settings_of(sources)
    require_fit(settings, {source.component: source.named for source in sources})
    chosen = memory.settled(size_of(sources, settings, *formats), device) if memory else unlimited()
    from headstudio.guidance.components import load_components

    try:
        components = load_components(sources, *formats)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"prior.path={path!r} can't be loaded as a diffusers folder: {reason}") from error
    local = Path(path).is_dir()
    with explained_oom("moving the prior to it", device):
        return Prior(
            **components,
            vocabulary=load_vocabulary(path) if local else None,
            vocabulary_file=str(Path(path) / VOCABULARY_FILE),
            colors=load_colors(path) if local else None,
            memory=chosen,
        ).to(device)


load_prior.look = look  # type: ignore[attr-defined]
