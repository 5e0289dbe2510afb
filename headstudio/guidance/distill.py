"""Score distillation: from rendered pictures to a loss whose gradient the rule of `sds.py` dictates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstudio.device import to_device
from headstudio.errors import UserError
from headstudio.guidance.debias import clipped, perp_neg
from headstudio.guidance.noising import Conditions, Noised, Noising, gaussian, noised
from headstudio.guidance.prior import Prior
from headstudio.guidance.prompts import ViewPrompts
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


class Student(Protocol):
    """Learns how the avatar's own pictures look, and predicts the noise in them (`vsd.LoraStudent`)."""

    def begin(self, generator: torch.Generator) -> None: ...

    def predict(self, seen: Noised, given: Conditions) -> Float[Tensor, "B C h w"]: ...

    def learn(
        self, latents: Float[Tensor, "B C h w"], given: Conditions, generator: torch.Generator
    ) -> Float[Tensor, ""]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class ScoreDistillation:
    """Eq. 1 (SDS), Eq. 11 (F-SDS), the denoised forms and self score distillation, by `rule` and `use_control`.

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
        noising: how pictures become noisy, and what noise is for `rule`.
        clip: bound on every number of the gradient, by step (`debias.clipped`); None is no bound.
        student: makes whose prediction takes the place of the noise (variational score distillation); None is nobody.

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
        noising: Noising = gaussian,
        clip: float | Schedule | None = None,
        student: Callable[[Prior], Student] | None = None,
    ) -> None:
        if use_control and prior.controlnet is None:
            raise UserError(
                "prior.controlnet_path=null leaves this guidance without its ControlNet; name one or use guidance=sds."
            )
        self.prior, self.prompts, self.rule, self.weighting = prior, prompts, rule, weighting
        self.guidance_scale, self.conditioning_scale = as_schedule(guidance_scale), as_schedule(conditioning_scale)
        self.min_timestep, self.max_timestep = as_schedule(min_timestep), as_schedule(max_timestep)
        self.use_control, self.noising = use_control, noising
        self.clip = None if clip is None else as_schedule(clip)
        self.timestep_range(0)
        self.student = None if student is None else student(prior)

    def __call__(
        self,
        rgb: Float[Tensor, "B 3 H W"],
        control: Float[Tensor, "B channels h w"] | None,
        cameras: Cameras,
        step: int,
        generator: torch.Generator,
    ) -> GuidanceResult:
        """One draw of noise levels and noise, one call of the UNet for all that the rule reads, the loss.

        Args:
            rgb: rendered pictures in [0, 1]; the loss's gradient flows into them.
            control: control pictures of the same cameras in [0, 1]; may be None only if `use_control` is false.
            cameras: choose the view's prompt.
            step: what the schedules read.
            generator: on the CPU; the only source of randomness.
        """
        seen, given = self._seen(rgb, control, cameras, step, generator)
        predictions, noise = self._predict(seen, given), seen.noise
        if self.student is not None:
            self.student.begin(generator)
            noise = self.student.predict(seen, given)
        result = self._result(seen, self.rule(predictions, noise, seen.timesteps, self.guidance_scale(step)), step)
        if self.student is not None:
            result.info["student_loss"] = self.student.learn(seen.latents, given, generator)
        return result

    def state_dict(self) -> dict[str, Any]:
        """What has been learnt on the way and belongs into a checkpoint; empty without a student."""
        return {} if self.student is None else self.student.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        if self.student is not None:
            self.student.load_state_dict(state)

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
        control: Float[Tensor, "B channels h w"] | None,
        cameras: Cameras,
        step: int,
        generator: torch.Generator,
        *,
        denoise_steps: int = 10,
    ) -> Snapshot:
        """What guidance would see at this step: the noisy pictures, the one-step guess, and DDIM all the way down.

        Pass a generator of its own, so that looking does not change the run.
        """
        seen, given = self._seen(rgb, control, cameras, step, generator)
        prior, noisy, timesteps, predict = self.prior, seen.noisy, seen.timesteps, self._guided(given, step)
        guess = clean_estimate(prior, noisy, predict(noisy, timesteps), timesteps)
        clean = denoise(predict, noisy, timesteps, steps=denoise_steps)
        pictures = prior.decode_latents(torch.cat([noisy, guess, clean])).chunk(3)
        return Snapshot(noisy=pictures[0], one_step=pictures[1], denoised=pictures[2], timesteps=timesteps)

    @torch.no_grad()
    def one_step(
        self,
        rgb: Float[Tensor, "B 3 H W"],
        control: Float[Tensor, "B channels h w"] | None,
        cameras: Cameras,
        step: int,
        timestep: int,
        generator: torch.Generator,
    ) -> Float[Tensor, "B 3 S S"]:
        """The guided one-step estimate of the pictures behind noise of one level: RGB in [0, 1]."""
        given = Conditions(self.prompts(cameras), self._control(control), cameras, self.conditioning_scale(step))
        latents = self.prior.encode_images(rgb, generator)
        seen = noised(self.prior, latents, torch.full((len(latents),), timestep), generator)
        noise = self._guided(given, step)(seen.noisy, seen.timesteps)
        return self.prior.decode_latents(clean_estimate(self.prior, seen.noisy, noise, seen.timesteps))

    def _guided(self, given: Conditions, step: int) -> GuidedNoise:
        """Plain classifier-free guidance, whatever the rule."""
        return GuidedNoise(
            self.prior,
            given.texts.text,
            given.texts.null,
            given.control,
            guidance_scale=self.guidance_scale(step),
            conditioning_scale=given.conditioning_scale,
        )

    def _seen(
        self,
        rgb: Float[Tensor, "B 3 H W"],
        control: Float[Tensor, "B channels h w"] | None,
        cameras: Cameras,
        step: int,
        generator: torch.Generator,
    ) -> tuple[Noised, Conditions]:
        """Latents of the pictures and a draw of timesteps, then noise, on the CPU: every device sees the same."""
        given = Conditions(self.prompts(cameras), self._control(control), cameras, self.conditioning_scale(step))
        latents = self.prior.encode_images(rgb, generator)
        low, high = self.timestep_range(step)
        drawn = torch.randint(low, high + 1, (latents.shape[0],), generator=generator)
        return self.noising(self.prior, latents, drawn, given, generator), given

    def _result(self, seen: Noised, direction: Float[Tensor, "B C h w"], step: int) -> GuidanceResult:
        """The loss whose gradient is w(t) times a rule's direction."""
        gradient = self.weighting(self.prior.alphas_cumprod[seen.timesteps])[:, None, None, None] * direction
        if self.clip is not None:
            gradient = clipped(gradient, self.clip(step))
        return GuidanceResult(
            loss=score_distillation_loss(seen.latents, gradient),
            info={"timestep": seen.drawn.float().mean(), "gradient_norm": gradient.flatten(1).norm(dim=1).mean()},
        )

    def _control(self, control: Float[Tensor, "B channels h w"] | None) -> Float[Tensor, "B channels h w"] | None:
        if self.use_control and control is None:
            raise ValueError("this guidance needs a control map for every picture")
        return control if self.use_control else None

    def _predict(self, seen: Noised, given: Conditions) -> Predictions:
        """Every prediction that the rule needs, in one batch; rows that don't need the negative prompt don't run it."""
        texts, rows, device = given.texts, torch.arange(len(seen.noisy)), seen.noisy.device
        some = rows[:0] if texts.negative is None else rows[self.rule.needs_negative(seen.drawn)]
        asked = [(rows, texts.text), (rows, texts.null)]
        if texts.negative is not None:
            asked.append((some, texts.negative[: len(some)]))  # its rows are alike
        if self.rule.needs_plain:
            asked.append((rows, texts.plain))
        if texts.opposed is not None:
            asked += [(rows, text) for text in texts.opposed.texts.unbind(1)]
        order = to_device(torch.cat([which for which, _ in asked]), device)
        predicted = self.prior.predict_noise(
            seen.noisy[order],
            seen.timesteps[order],
            torch.cat([text for _, text in asked]),
            given.control,
            given.conditioning_scale,
            shown=order,
        )
        answers = iter(predicted.split([len(which) for which, _ in asked]))
        e_text, e_null = next(answers), next(answers)
        # An empty negative prompt is the empty text; elsewhere e_null only fills rows that the rule does not read.
        e_neg = e_null if texts.negative is None else e_null.index_copy(0, to_device(some, device), next(answers))
        e_plain = next(answers) if self.rule.needs_plain else e_null
        if texts.opposed is not None:
            e_text = perp_neg(e_text, e_null, list(answers), texts.opposed.weights)
        return Predictions(e_text, e_null, e_neg, e_plain)
