"""How much GPU memory the guidance takes, and what makes it take less. Nothing here changes what is computed.

The estimate (10^9 bytes, `needed_gb`):

    1.2 * (weights + activations) + 3

- weights: every parameter at its number format; the text encoder is freed before the first step and not counted.
- UNet and ControlNet, without gradient: 33 * rows * latent height * latent width * channels * bytes; or, if that is
  more, those rows of a student (guidance=vsd) that learn at a time: the same with 412 in the place of 33.
- VAE encoder, with gradient: 24 * pictures * height * width * channels * bytes.
- 1.2 for the allocator's gaps and the libraries' scratch space; 3 for CUDA itself, the renderer (eight views of
  1024 x 1024) and the avatar with its optimiser.

`channels` are those of the first level (320 and 128). The factors 33 and 24 were counted operation by operation for
the networks of SD 1.5 and 2.1 at 512 and 768 pixels (87 MB a row and 1.59 GB a picture in half precision at 512), 412
for SD 1.5 with adapters (1.08 GB a row). The memory is settled before the guidance is known, so that the dearest is
counted: six rows for each picture (ssd with Perp-Neg), and a student.
A VAE that encodes a few pictures at a time forgets them and repeats its work in the backward pass, so that only one
such group is ever held; it and the UNet then need not fit together.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from headstudio.errors import UserError

log = logging.getLogger(__name__)

PRESETS_GB = (12, 16, 24, 48)
"""The options `memory=12gb` and so on."""
LADDER: tuple[tuple[int | None, int | None], ...] = ((None, None), (24, 4), (8, 2), (4, 1))
"""`memory=auto` takes the first that fits: rows per call of the UNet, pictures per call of the VAE."""
ROWS_PER_VIEW = 6
"""The most that any guidance runs: the view's prompt, the empty, the negative and the plain one, and two opposed."""
_UNET_FACTOR, _STUDENT_FACTOR, _VAE_FACTOR, _SLACK, _BESIDES_GB = 33, 412, 24, 1.2, 3.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """What the estimate reads off a prior, before any weight is loaded.

    Attributes:
        weights_gb: of everything that stays on the GPU.
        latent_size: side of the latents.
        picture_size: side of the pictures, pixels.
        unet_channels, vae_channels: of the first level.
        unet_bytes, vae_bytes: per number.
    """

    weights_gb: float
    latent_size: int
    picture_size: int
    unet_channels: int
    vae_channels: int
    unet_bytes: int
    vae_bytes: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What to do for less memory.

    Attributes:
        views: pictures per step; the guidance runs two to six texts for each.
        unet_rows: rows per call of the UNet; None is all at once. A student learns from an eighth as many at a time.
        vae_pictures: pictures per call of the VAE's encoder, which then repeats its work in the backward pass, and one
            at a time when it decodes; None is all at once, remembered.
        text_encoder_on_cpu: the text encoder never goes to the GPU.
        attention_slicing: attention head by head. torch's own attention does not need it; for GPUs without its kernels.
        vae_tiling: pictures larger than those that the VAE was trained on, tile by tile, which shows faintly at the
            seams; the guidance's pictures are not larger.
        channels_last: the memory order in which convolutions are fastest on processors, and in half precision on GPUs.
        compile: torch.compile of the UNet: minutes at the first step, then faster.

    Raises:
        UserError: a number of rows or pictures below 1.
    """

    views: int
    unet_rows: int | None
    vae_pictures: int | None
    text_encoder_on_cpu: bool
    attention_slicing: bool
    vae_tiling: bool
    channels_last: bool
    compile: bool

    def __post_init__(self) -> None:
        for key in ("unet_rows", "vae_pictures"):
            value = getattr(self, key)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UserError(f"memory.{key}={value!r} must be a whole number of at least 1, or null for no limit.")

    @property
    def student_rows(self) -> int | None:
        """Rows per call of a UNet that learns, at least one; None is all at once."""
        return None if self.unet_rows is None else max(1, self.unet_rows // 8)

    def settled(self, size: Size, device: torch.device) -> Memory:
        """Itself, on every device: what the user chose.

        Raises:
            UserError: a GPU that is too small for it.
        """
        total = total_gb(device)
        if total is not None and (needed := self.needed_gb(size)) > total:
            raise UserError(too_little(needed, total, size, self.views))
        return self

    def needed_gb(self, size: Size) -> float:
        """The estimate of the module's text."""
        rows = _at_most(ROWS_PER_VIEW * self.views, self.unet_rows)
        learning, pictures = _at_most(self.views, self.student_rows), _at_most(self.views, self.vae_pictures)
        factor = max(_UNET_FACTOR * rows, _STUDENT_FACTOR * learning)
        unet = factor * size.latent_size**2 * size.unet_channels * size.unet_bytes / 1e9
        vae = _VAE_FACTOR * pictures * size.picture_size**2 * size.vae_channels * size.vae_bytes / 1e9
        activations = unet + vae if self.vae_pictures is None else max(unet, vae)
        return _SLACK * (size.weights_gb + activations) + _BESIDES_GB

    def apply(self, unet: Any, vae: Any, controlnet: Any | None) -> None:
        """Tell diffusers' components. What they lack (our linear codec has no tiles) is left out."""
        nets = [net for net in (unet, controlnet) if net is not None]
        if self.attention_slicing:
            for net in nets:
                net.set_attention_slice("auto")
        if self.vae_tiling and hasattr(vae, "enable_tiling"):
            vae.enable_tiling()
        if self.channels_last:
            for net in (*nets, vae):
                net.to(memory_format=torch.channels_last)
        if self.compile:
            unet.compile()


class Saving(Protocol):
    """What the group `memory` makes: a choice that may depend on the GPU."""

    def settled(self, size: Size, device: torch.device) -> Memory:
        """The choice for a prior of that size on a device, before it is loaded."""
        ...


class AutoMemory:
    """On a GPU the first rung of `LADDER` that fits; on a processor nothing is limited.

    Args:
        views: pictures per step.
    """

    def __init__(self, *, views: int) -> None:
        self._views = views

    def settled(self, size: Size, device: torch.device) -> Memory:
        """The choice for a device.

        Raises:
            UserError: a GPU that is too small for any.
        """
        total = total_gb(device)
        if total is None:
            return replace(unlimited(self._views), channels_last=True)
        chosen = fitting(size, self._views, total)
        if chosen is None:
            needed = rung(LADDER[-1], self._views).needed_gb(size)
            raise UserError(too_little(needed, total, size, self._views))
        log.info(
            "Of %.0f GB of GPU memory the run needs about %.0f: %s rows per call of the UNet, %s pictures of the VAE.",
            total,
            chosen.needed_gb(size),
            chosen.unet_rows or "all",
            chosen.vae_pictures or "all",
        )
        return chosen


def unlimited(views: int = 1) -> Memory:
    """Everything at once and nothing set: diffusers' components as they are loaded."""
    return Memory(
        views=views,
        unet_rows=None,
        vae_pictures=None,
        text_encoder_on_cpu=False,
        attention_slicing=False,
        vae_tiling=False,
        channels_last=False,
        compile=False,
    )


def rung(limits: tuple[int | None, int | None], views: int) -> Memory:
    """One rung of the ladder; only the last keeps the text encoder off the GPU."""
    return replace(
        unlimited(views),
        unet_rows=limits[0],
        vae_pictures=limits[1],
        text_encoder_on_cpu=limits == LADDER[-1],
        channels_last=True,
    )


def fitting(size: Size, views: int, gigabytes: float) -> Memory | None:
    """The first rung that needs no more than so much, or None."""
    rungs = (rung(limits, views) for limits in LADDER)
    return next((memory for memory in rungs if memory.needed_gb(size) <= gigabytes), None)


def total_gb(device: torch.device) -> float | None:
    """The memory of a GPU (10^9 bytes), None for a processor."""
    if device.type == "cpu":
        return None
    return float(torch.cuda.get_device_properties(device).total_memory) / 1e9


def preset_for(gigabytes: float) -> str | None:
    """The option of the group `memory` made for so much, None where it is too little for any.

    A card's "12 GB" are 2^30 bytes each or nearly so, hence the tolerance of a twentieth.
    """
    fits = [preset for preset in PRESETS_GB if preset <= gigabytes * 1.05]
    return f"{fits[-1]}gb" if fits else None


def _at_most(wanted: int, limit: int | None) -> int:
    return wanted if limit is None else min(wanted, limit)


def too_little(needed: float, total: float, size: Size, views: int) -> str:
    """The sentence about a GPU that is too small, with the first thing that would help."""
    told = f"This setting needs about {needed:.0f} GB of GPU memory and the GPU has {total:.0f} GB"
    if fitting(size, views, total):
        return f"{told}; use memory={preset_for(total) or 'auto'}."
    return f"{told}; use a larger GPU, prior.dtype=float16 or prior=tiny."


@contextmanager
def explained_oom(doing: str, device: torch.device | None = None) -> Iterator[None]:
    """Turn the GPU's out-of-memory error into a sentence with a preset that would help: one below the GPU's own.

    Args:
        doing: what was going on, as in "running the UNet".
        device: the GPU; None where none is known.

    Raises:
        UserError: instead of `torch.OutOfMemoryError`.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        total = None if device is None else total_gb(device)
        size = "" if total is None else f"'s {total:.0f} GB"
        own = preset_for(total) if total else None
        below = [f"{preset}gb" for preset in PRESETS_GB if own is not None and preset < int(own.removesuffix("gb"))]
        smaller = f"memory={below[-1] if below else '12gb'}, which does less at a time, or a smaller scale.batch_size"
        raise UserError(f"The GPU{size} of memory were not enough while {doing}; use {smaller}.") from error
