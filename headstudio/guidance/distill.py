"""Score distillation: from rendered pictures to a loss whose gradient the rule of `sds.py` dictates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstudio.errors import UserError
from headstudio.guidance.prior import Prior
from headstudio.guidance.prompts import PromptEmbeddings, ViewPrompts
from headstudio.guidance.sampling import GuidedNoise, clean_estimate, denoise
from headstudio.guidance.sds import Predictions, Rule, score_distillation_loss
from headstudio.schedule import Schedule, as_schedule
from headstudio.types import Cameras


@dataclass(frozen=True)
class GuidanceResult:
    """A scalar loss that carries the gradient to the pictures, and numbers worth logging.

    The numbers stay where they were computed: reading one waits for the device, so only whoever logs it does.
    """

    loss: Float[Tensor, ""]
    info: dict[str, Float[Tensor, ""]]


@dataclass(frozen=True)
class Snapshot:
    """What the prior makes of the rendered pictures: RGB in [0, 1], and the noise level of each row."""

    noisy: Float[Tensor, "B 3 S S"]
    one_step: Float[Tensor, "B 3 S S"]
    denoised: Float[Tensor, "B 3 S S"]
    timesteps: Int[Tensor, " B"]


class ScoreDistillation:
    """Eq. 1 (SDS), Eq. 11 (F-SDS) and the denoised forms, by `rule` and `use_control`.

    Args:
        prior: frozen diffusion components.
        prompts: embeddings by camera.
        rule: how noise predictions make a gradient, and which of them it needs.
        weighting: w(t) as a function of alpha bar.
        guidance_scale: classifier-free scale by step; 1 is none.
        conditioning_scale: factor on the ControlNet by step.
        min_timestep: lowest noise level drawn, by step, in 0 .. num_timesteps - 1.
        max_timestep: highest noise level drawn, by step, included.
        use_control: whether the landmark map conditions the prior; without it the ControlNet is not run.

    Raises:
        UserError: `use_control` with a prior that has no ControlNet, or timesteps out of range at step 0.
    """

    def __init__(
        self,
        prior: Prior,
        prompts: ViewPrompts,
        *,
        rule: Rule,
        weighting: Callable[[Float[Tensor, " B"]], Float[Tensor, " B"]],
        guidance_scale: float | Schedule,
        conditioning_scale: float | Schedule,
        min_timestep: float | Schedule,
        max_timestep: float | Schedule,
        use_control: bool,
    ) -> None:
        if use_control and prior.controlnet is None:
            raise UserError(
                "prior.controlnet_path=null leaves this guidance without its ControlNet; name one or use guidance=sds."
            )
        self.prior, self.prompts, self.rule, self.weighting = prior, prompts, rule, weighting
        self.guidance_scale, self.conditioning_scale = as_schedule(guidance_scale), as_schedule(conditioning_scale)
        self.min_timestep, self.max_timestep = as_schedule(min_timestep), as_schedule(max_timestep)
        self.use_control = use_control
        self.timestep_range(0)

    def __call__(
        self,
        rgb: Float[Tensor, "B 3 H W"],
        control: Float[Tensor, "B 3 h w"] | None,
        cameras: Cameras,
        step: int,
        generator: torch.Generator,
    ) -> GuidanceResult:
        """One draw of noise levels and noise, one call of the UNet, the loss.

        Args:
            rgb: rendered pictures in [0, 1]; the loss's gradient flows into them.
            control: landmark maps of the same cameras in [0, 1]; may be None only if `use_control` is false.
            cameras: choose the view's prompt.
            step: what the schedules read.
            generator: on the CPU; the only source of randomness.
        """
        latents = self.prior.encode_images(rgb, generator)
        drawn, noise = self._draw(latents, step, generator)
        timesteps = sent(drawn, latents)
        noisy = self.prior.add_noise(latents.detach(), noise, timesteps)
        predictions = self._predict(noisy, drawn, self.prompts(cameras), self._control(control), step)
        weight = self.weighting(self.prior.alphas_cumprod[timesteps])[:, None, None, None]
        gradient = weight * self.rule(predictions, noise, timesteps, self.guidance_scale(step))
        return GuidanceResult(
            loss=score_distillation_loss(latents, gradient),
            info={"timestep": drawn.float().mean(), "gradient_norm": gradient.flatten(1).norm(dim=1).mean()},
        )

    def timestep_range(self, step: int) -> tuple[int, int]:
        """The lowest and highest noise level at `step`, both drawn.

        Raises:
            UserError: not 0 <= min <= max < num_timesteps.
        """
        low, high = round(self.min_timestep(step)), round(self.max_timestep(step))
        if not 0 <= low <= high < self.prior.num_timesteps:
            raise UserError(
                f"guidance.min_timestep={low} and guidance.max_timestep={high} at step {step} must be in this order"
                f" between 0 and {self.prior.num_timesteps - 1}."
            )
        return low, high

    @torch.no_grad()
    def snapshot(
        self,
        rgb: Float[Tensor, "B 3 H W"],
        control: Float[Tensor, "B 3 h w"] | None,
        cameras: Cameras,
        step: int,
        generator: torch.Generator,
        *,
        denoise_steps: int = 10,
    ) -> Snapshot:
        """What guidance would see at this step: the noisy pictures, the one-step guess, and DDIM all the way down.

        Pass a generator of its own, so that looking does not change the run.
        """
        prior, text = self.prior, self.prompts(cameras)
        latents = prior.encode_images(rgb, generator)
        drawn, noise = self._draw(latents, step, generator)
        timesteps = sent(drawn, latents)
        noisy = prior.add_noise(latents, noise, timesteps)
        predict = GuidedNoise(
            prior,
            text.text,
            text.null,
            self._control(control),
            guidance_scale=self.guidance_scale(step),
            conditioning_scale=self.conditioning_scale(step),
        )
        guess = clean_estimate(prior, noisy, predict(noisy, timesteps), timesteps)
        clean = denoise(predict, noisy, timesteps, steps=denoise_steps)
        pictures = prior.decode_latents(torch.cat([noisy, guess, clean])).chunk(3)
        return Snapshot(noisy=pictures[0], one_step=pictures[1], denoised=pictures[2], timesteps=timesteps)

    def _draw(
        self, latents: Float[Tensor, "B C h w"], step: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, " B"], Float[Tensor, "B C h w"]]:
        """Noise levels, still on the CPU, and noise where the latents are; drawn alike whatever that device is."""
        low, high = self.timestep_range(step)
        timesteps = torch.randint(low, high + 1, (latents.shape[0],), generator=generator)
        return timesteps, sent(torch.randn(latents.shape, generator=generator), latents)

    def _control(self, control: Float[Tensor, "B 3 h w"] | None) -> Float[Tensor, "B 3 h w"] | None:
        if self.use_control and control is None:
            raise ValueError("this guidance needs a control map for every picture")
        return control if self.use_control else None

    def _predict(
        self,
        noisy: Float[Tensor, "B C h w"],
        drawn: Int[Tensor, " B"],
        embeddings: PromptEmbeddings,
        control: Float[Tensor, "B 3 h w"] | None,
        step: int,
    ) -> Predictions:
        """Every prediction that the rule needs, in one batch; rows that don't need the negative prompt don't run it.

        Which rows those are is decided from `drawn`, the timesteps on the CPU: deciding on a GPU would wait for it.
        """
        rows = torch.arange(len(noisy))
        some = rows[:0] if embeddings.negative is None else rows[self.rule.needs_negative(drawn)]
        order, negative = sent(torch.cat([rows, rows, some]), noisy), sent(some, noisy)
        texts = [embeddings.text, embeddings.null]
        if embeddings.negative is not None:
            texts.append(embeddings.negative[: len(some)])  # its rows are alike
        predicted = self.prior.predict_noise(
            noisy[order],
            sent(drawn, noisy)[order],
            torch.cat(texts),
            None if control is None else control[order],
            self.conditioning_scale(step),
        )
        e_text, e_null, e_some = predicted.split([len(rows), len(rows), len(some)])
        # An empty negative prompt is the empty text; elsewhere e_null only fills rows that the rule does not read.
        return Predictions(e_text, e_null, e_null.index_copy(0, negative, e_some))


def sent(tensor: Tensor, to: Tensor) -> Tensor:
    """A tensor from the CPU on the device of `to`, floats in its dtype, without waiting for the work queued there."""
    dtype = to.dtype if tensor.is_floating_point() else None
    return (tensor.pin_memory() if to.is_cuda else tensor).to(to.device, dtype, non_blocking=True)
