"""DDIM over a `Prior`: between noise levels, and full denoising, for snapshots and for judging a prior."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstudio.guidance.prior import Prior
from headstudio.guidance.sds import guided

EPS_SIGNAL = 1e-3  # a scheduler with zero terminal SNR has no signal to divide by at its last step


@dataclass(frozen=True)
class GuidedNoise:
    """Classifier-free guided predictions for fixed texts and control maps, both branches in one call of the UNet.

    `null` is the embedding of the empty text, or of a negative prompt; texts and maps have one row per picture.
    """

    prior: Prior
    text: Float[Tensor, "B T D"]
    null: Float[Tensor, "B T D"]
    control: Float[Tensor, "B 3 H W"] | None
    _: KW_ONLY
    guidance_scale: float
    conditioning_scale: float

    def __call__(self, noisy: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"]) -> Float[Tensor, "B C h w"]:
        """The guided noise in `noisy`."""
        both = self.prior.predict_noise(
            noisy.repeat(2, 1, 1, 1),
            timesteps.repeat(2),
            torch.cat([self.null, self.text]),
            self.control,
            self.conditioning_scale,
            shown=torch.arange(len(noisy), device=noisy.device).repeat(2),
        )
        e_null, e_text = both.chunk(2)
        return guided(e_text, e_null, self.guidance_scale)


def clean_estimate(
    prior: Prior, noisy: Float[Tensor, "B C h w"], noise: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"]
) -> Float[Tensor, "B C h w"]:
    """x_0 = (x_t - sigma_t noise) / alpha_t."""
    alpha, sigma = prior.alpha_sigma(timesteps)
    return (noisy - sigma * noise) / alpha.clamp_min(EPS_SIGNAL)


@torch.no_grad()
def follow(
    predict: Callable[[Float[Tensor, "B C h w"], Int[Tensor, " B"]], Float[Tensor, "B C h w"]],
    prior: Prior,
    latents: Float[Tensor, "B C h w"],
    rungs: Sequence[Int[Tensor, " B"]],
) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B C h w"]]:
    """Deterministic DDIM (Song et al. 2021, Eq. 12, eta = 0) from noise level to noise level, down or up (inversion).

    Args:
        predict: the noise in latents at their timesteps; of clean latents it is asked at timestep 0.
        prior: whose noise levels they are.
        latents: at the first of `rungs`.
        rungs: at least two timesteps per row; -1 is clean.

    Returns:
        The latents at the last rung, and the noise in those at the rung before it.
    """
    noise = torch.zeros_like(latents)
    for now, after in itertools.pairwise(rungs):
        noise = predict(latents, now.clamp_min(0))
        latents = prior.add_noise(clean_estimate(prior, latents, noise, now), noise, after)
    return latents, noise


def denoise(
    predict: GuidedNoise, noisy: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], *, steps: int
) -> Float[Tensor, "B C h w"]:
    """`follow` from each row's own timestep down to clean latents.

    The noise levels are equal parts of the way down, ending at the clean end: diffusers' "trailing" spacing when a
    row starts at the last timestep. To draw a picture from nothing, pass noise at `num_timesteps - 1`.
    """
    rungs = [_rung(timesteps, index, steps) for index in range(steps + 1)]
    return follow(predict, predict.prior, noisy, rungs)[0]


def _rung(start: Int[Tensor, " B"], index: int, steps: int) -> Int[Tensor, " B"]:
    """The timestep of rung `index` of the ladder from `start` (index 0) to -1, clean (index `steps`)."""
    return ((start + 1) * (steps - index) / steps).round().long() - 1
