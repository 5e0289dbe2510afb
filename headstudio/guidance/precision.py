"""In which number format the parts of a prior compute: the settings' words, and what `auto` means on a device."""

from __future__ import annotations

from typing import Any

import torch

from headstudio.errors import UserError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def network_dtype(name: str, device: torch.device) -> torch.dtype:
    """The format of the UNet, the ControlNet and the text encoder.

    `auto` is float16 on an accelerator: the official code's choice, the one in which the weights are published, and
    finer than bfloat16 by three bits, which matter where guidance multiplies the small difference of two predictions.
    On a processor it is bfloat16 where there are instructions for it (about 1.6 times as fast as float32 and within
    about 1 % of its predictions), else float32.

    Raises:
        UserError: an unknown name.
    """
    if name == "auto":
        if device.type != "cpu":
            return torch.float16
        return torch.bfloat16 if has_native_bfloat16() else torch.float32
    return _named("dtype", name)


def vae_dtype(name: str, device: torch.device) -> torch.dtype:
    """The format of the VAE, through which the gradient flows back into the pictures.

    `auto` is bfloat16 on an accelerator that has it, else float32: no gradient can overflow, as it can in float16.
    Against float64, with random weights in the shape of SD 1.5's VAE, bfloat16 turns the gradient by a cosine of
    0.9995 (float16: 0.99999), far less than the noise that score distillation adds to it.

    Raises:
        UserError: an unknown name.
    """
    if name == "auto":
        native = device.type != "cpu" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    return _named("vae_dtype", name)


def has_native_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 numbers by instructions of its own (AVX-512 BF16 or AMX)."""
    told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


def _named(key: str, name: str) -> torch.dtype:
    if name not in DTYPES:
        raise UserError(f"prior.{key}={name!r} is unknown; use one of auto, {', '.join(DTYPES)}.")
    return DTYPES[name]
