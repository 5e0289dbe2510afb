"""Score distillation as pure functions of noise predictions: the gradient rules, the weights w(t), the loss.

Names: `e_text`, `e_null`, `e_neg`, `e_plain` are epsilon_phi(x_t; y, C, t) for the view's prompt, for the empty text,
for the negative prompt and for the prompt without a view; `noise` is the epsilon that made x_t. A rule's result still
lacks w(t). With a control map C in the predictions every rule is its FLAME-based form (F-SDS, Eq. 11, section 4.3);
without, it is the plain one.

The classifier-free guidance is that of the official code, null + s (text - null) (controlnet_guidance.py:330), so that
s = 1 is no guidance; threestudio's s is one less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Latents = Float[Tensor, "B C h w"]


def guided(e_text: Latents, e_null: Latents, scale: float) -> Latents:
    """Classifier-free guidance: null + scale (text - null). Source: Ho & Salimans 2022; controlnet_guidance.py:330."""
    return e_null + scale * (e_text - e_null)


def sds(e_text: Latents, e_null: Latents, noise: Latents, *, scale: float) -> Latents:
    """Eq. 1 (section 3) and, with control, Eq. 11 (section 4.3): guided prediction minus the noise that was added."""
    return guided(e_text, e_null, scale) - noise


def denoised(
    e_text: Latents, e_null: Latents, e_neg: Latents, noise: Latents, negative: Bool[Tensor, " B"], *, scale: float
) -> Latents:
    """Section 4.3, "Denoised Score Distillation": Eq. 11 with the noise replaced by `e_neg` where `negative` is true.

    The paper assumes that a picture at t > 200 matches the negative prompt, so that `e_neg` is the undesired part of
    the gradient; elsewhere the noise itself is subtracted, as in Eq. 11.
    """
    return guided(e_text, e_null, scale) - torch.where(_rows(negative), e_neg, noise)


def nfsd(e_text: Latents, e_null: Latents, e_neg: Latents, negative: Bool[Tensor, " B"], *, scale: float) -> Latents:
    """The official code's rule: s (text - null) + (null - neg) where `negative` is true, else s (text - null) + null.

    Source: controlnet_guidance.py:370-384 (`compute_grad_nfsd`), after Katzir et al. 2023, Eq. 6. Unlike `denoised` it
    never subtracts the noise.
    """
    return scale * (e_text - e_null) + e_null - torch.where(_rows(negative), e_neg, 0.0)


def ssd(e_text: Latents, e_neg: Latents, e_plain: Latents, *, scale: float) -> Latents:
    """Self score distillation: the prediction guided by `scale` minus the model's own prediction without guidance.

    Source: Liu et al. 2023 (HeadArtist), the gradient of L_SSD, w(t) (eps(x_t; y, t, c_L) - eps^(x_t; y, t, c_L)); both
    are one frozen ControlNet and the second has a classifier-free weight of 1. As in its code
    (ssd_guidance_head.py, `compute_grad_ssd`), guidance starts from the negative prompt in place of the empty text, and
    only the first prediction is told the view.
    """
    return guided(e_text, e_neg, scale) - e_plain


def _rows(mask: Bool[Tensor, " B"]) -> Bool[Tensor, "B 1 1 1"]:
    return mask[:, None, None, None]


@dataclass(frozen=True)
class Predictions:
    """Noise predictions of one batch; `e_neg` and `e_plain` mean something only where the rule asked for them."""

    e_text: Latents
    e_null: Latents
    e_neg: Latents
    e_plain: Latents


class Rule(Protocol):
    """A gradient rule, and which predictions it reads beyond those for the view's prompt and the empty text."""

    needs_plain: ClassVar[bool]

    def needs_negative(self, timesteps: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """True where the negative prompt must be run through the UNet."""
        ...

    def __call__(self, predictions: Predictions, noise: Latents, timesteps: Int[Tensor, " B"], scale: float) -> Latents:
        """The gradient with respect to the latents, without w(t)."""
        ...


@dataclass(frozen=True)
class Sds:
    """`sds` as a rule; never runs the negative prompt."""

    needs_plain: ClassVar[bool] = False

    def needs_negative(self, timesteps: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        return torch.zeros_like(timesteps, dtype=torch.bool)

    def __call__(self, predictions: Predictions, noise: Latents, timesteps: Int[Tensor, " B"], scale: float) -> Latents:
        return sds(predictions.e_text, predictions.e_null, noise, scale=scale)


@dataclass(frozen=True, kw_only=True)
class Denoised:
    """`denoised` as a rule: the negative prompt replaces the noise at timesteps above `negative_above` (paper 200)."""

    needs_plain: ClassVar[bool] = False
    negative_above: int

    def needs_negative(self, timesteps: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        return timesteps > self.negative_above

    def __call__(self, predictions: Predictions, noise: Latents, timesteps: Int[Tensor, " B"], scale: float) -> Latents:
        p = predictions
        return denoised(p.e_text, p.e_null, p.e_neg, noise, self.needs_negative(timesteps), scale=scale)


@dataclass(frozen=True, kw_only=True)
class Nfsd:
    """`nfsd` as a rule: the negative prompt enters at timesteps from `negative_from` on (official 200)."""

    needs_plain: ClassVar[bool] = False
    negative_from: int

    def needs_negative(self, timesteps: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        return timesteps >= self.negative_from

    def __call__(self, predictions: Predictions, noise: Latents, timesteps: Int[Tensor, " B"], scale: float) -> Latents:
        p = predictions
        return nfsd(p.e_text, p.e_null, p.e_neg, self.needs_negative(timesteps), scale=scale)


@dataclass(frozen=True)
class Ssd:
    """`ssd` as a rule: the negative prompt is run for every row, and so is the prompt without its view."""

    needs_plain: ClassVar[bool] = True

    def needs_negative(self, timesteps: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        return torch.ones_like(timesteps, dtype=torch.bool)

    def __call__(self, predictions: Predictions, noise: Latents, timesteps: Int[Tensor, " B"], scale: float) -> Latents:
        return ssd(predictions.e_text, predictions.e_neg, predictions.e_plain, scale=scale)


def noise_variance(alpha_bar: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """w(t) = 1 - alpha bar = sigma_t^2. Source: Poole et al. 2022; controlnet_guidance.py:333."""
    return 1 - alpha_bar


def uniform(alpha_bar: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """w(t) = 1. Source: threestudio stable_diffusion_guidance.py, weighting strategy "uniform"."""
    return torch.ones_like(alpha_bar)


def signal_times_noise_variance(alpha_bar: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """w(t) = sqrt(alpha bar) (1 - alpha bar). Source: threestudio, weighting strategy "fantasia3d"."""
    return alpha_bar.sqrt() * (1 - alpha_bar)


def score_distillation_loss(latents: Latents, gradient: Latents) -> Float[Tensor, ""]:
    """A scalar whose gradient with respect to `latents` is exactly `gradient / B`; its value is |gradient|^2 / (2 B).

    The value is that of threestudio's reparametrisation, 0.5 mse(latents, (latents - gradient).detach()) summed and
    divided by B (stable_diffusion_guidance.py:443-447, also official); forming the target there loses the gradient's
    low bits, the product with a constant here does not.
    """
    constant = gradient.detach() / latents.shape[0]
    linear = (latents * constant).sum()
    return linear - linear.detach() + 0.5 * (gradient.detach() * constant).sum()
