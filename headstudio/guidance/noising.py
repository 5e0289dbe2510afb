"""How rendered pictures become noisy latents, and what a prediction for them is told beside the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstudio.device import to_device
from headstudio.guidance.prior import Prior
from headstudio.guidance.prompts import PromptEmbeddings
from headstudio.types import Cameras


@dataclass(frozen=True)
class Noised:
    """The pictures of one step as latents (with their gradient), and the same at their noise levels (without)."""

    latents: Float[Tensor, "B C h w"]
    noise: Float[Tensor, "B C h w"]  # what made them noisy, and what a rule subtracts
    noisy: Float[Tensor, "B C h w"]
    timesteps: Int[Tensor, " B"]  # where the latents are
    drawn: Int[Tensor, " B"]  # the same on the CPU: which rows a rule needs is decided there, without waiting


@dataclass(frozen=True)
class Conditions:
    """What a prediction for B pictures is told beside their noise."""

    texts: PromptEmbeddings
    control: Float[Tensor, "B channels h w"] | None
    cameras: Cameras
    conditioning_scale: float


class Noising(Protocol):
    """Takes latents to the noise levels that were drawn for them: `gaussian`, or `ism.DdimInversion`."""

    def __call__(
        self,
        prior: Prior,
        latents: Float[Tensor, "B C h w"],
        drawn: Int[Tensor, " B"],
        given: Conditions,
        generator: torch.Generator,
    ) -> Noised: ...


def gaussian(
    prior: Prior,
    latents: Float[Tensor, "B C h w"],
    drawn: Int[Tensor, " B"],
    given: Conditions,
    generator: torch.Generator,
) -> Noised:
    """Random noise (below Eq. 1), whatever the pictures show."""
    return noised(prior, latents, drawn, generator)


def noised(
    prior: Prior, latents: Float[Tensor, "B C h w"], drawn: Int[Tensor, " B"], generator: torch.Generator
) -> Noised:
    """Noise from the generator, at timesteps drawn on the CPU, put on the latents."""
    noise = to_device(torch.randn(latents.shape, generator=generator), latents.device).to(latents.dtype)
    timesteps = to_device(drawn, latents.device)
    return Noised(latents, noise, prior.add_noise(latents.detach(), noise, timesteps), timesteps, drawn)
