"""Interval score matching (Liang et al. 2023, LucidDreamer, section 3.2, Eq. 14-17): pictures are inverted, not noised.

SDS puts random noise on a picture, other noise each time. Here DDIM inversion with the empty text takes the picture to
x_s and one interval further to x_t, always the same way, and the noise that the prior saw in x_s is subtracted:

    gradient = w(t) (eps(x_t; y, C, t), guided - eps(x_s; empty, C, s)),  s = t - delta_t
    x_t = alpha_t x_0(x_s) + sigma_t eps(x_s; empty, C, s)

So the rule is SDS's (`sds.Sds`), with eps(x_s) for the noise: it is what made x_t.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstudio.device import to_device
from headstudio.errors import UserError
from headstudio.guidance.noising import Conditions, Noised, noised
from headstudio.guidance.prior import Prior
from headstudio.guidance.sampling import follow


@dataclass(frozen=True, kw_only=True)
class DdimInversion:
    """A `distill.Noising` that inverts; in the result `noise` is eps(x_s; empty, C, s).

    The way to s is walked in steps of `delta_s`, so that each row has noise levels of its own. Where
    `inversion_steps` of them reach back to the clean picture, nothing is random; where they do not, random noise takes
    the picture to where they begin (AnimPortrait3D, `GSAvatar/helper.py`, `ism_step`: three steps of 50).

    Args:
        delta_t: timesteps from x_s to x_t; a t that is smaller begins at the clean picture.
        delta_s: timesteps of each step on the way to x_s.
        inversion_steps: how many of these steps at most; each is a prediction for every picture.

    Raises:
        UserError: one that is no whole number of at least 1.
    """

    delta_t: int
    delta_s: int
    inversion_steps: int

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(f"guidance.noising.{name}={value!r} must be a whole number of at least 1.")

    def __call__(
        self,
        prior: Prior,
        latents: Float[Tensor, "B C h w"],
        drawn: Int[Tensor, " B"],
        given: Conditions,
        generator: torch.Generator,
    ) -> Noised:
        """Up to the timesteps `drawn`; rows that begin later than others stay as they are until then."""

        def predict(noisy: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"]) -> Float[Tensor, "B C h w"]:
            return prior.predict_noise(noisy, timesteps, given.texts.null, given.control, given.conditioning_scale)

        rungs = self.rungs(drawn)
        start = noised(prior, latents, rungs[0], generator)
        there = to_device(rungs, latents.device).unbind()
        noisy, noise = follow(predict, prior, start.noisy, there)
        return Noised(latents, noise, noisy, there[-1], drawn)

    def rungs(self, drawn: Int[Tensor, " B"]) -> Int[Tensor, "R B"]:
        """The noise levels on the way up by row, s and t last, -1 for clean; no more than the highest row needs."""
        before = drawn - self.delta_t
        needed = -(-(int(before.max()) + 1) // self.delta_s)
        back = torch.arange(max(0, min(self.inversion_steps, needed)), -1, -1) * self.delta_s
        return torch.cat([(before - back[:, None]).clamp_min(-1), drawn[None]])
