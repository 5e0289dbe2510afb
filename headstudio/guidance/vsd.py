"""Variational score distillation (Wang et al. 2023, ProlificDreamer): a student that learns how the pictures look.

SDS subtracts the noise that was added. Here a copy of the prior's UNet, adapted by LoRA to the avatar's own pictures as
they are now, predicts that noise, and its prediction is subtracted:

    gradient = w(t) (eps_prior(x_t; y, C, t), guided - eps_student(x_t; y, C, t, camera))
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from headstudio.device import to_device
from headstudio.errors import UserError
from headstudio.guidance.lora import LoraUnet
from headstudio.guidance.memory import explained_oom
from headstudio.guidance.noising import Conditions, Noised, noised
from headstudio.guidance.prior import Prior
from headstudio.guidance.sampling import EPS_SIGNAL


class LoraStudent:
    """The score of the avatar's pictures: a LoRA copy of the prior that is trained by one step for each of theirs.

    It reads the prompt without a view and the camera's extrinsics, and the landmark map where the prior does. As in
    threestudio (stable_diffusion_vsd_guidance.py, `train_lora`) it is trained at all noise levels, whatever those of
    the distillation are, and sometimes without its camera. One avatar is optimised: a single particle of the paper's.

    Args:
        prior: the UNet in it gets the adapters; its own predictions stay what they are.
        rank: of the adapters.
        learning_rate: of their Adam.
        camera_dropout: probability of hiding the camera from the student while it learns, per picture.

    Raises:
        UserError: numbers out of range, or the package peft is missing.
    """

    def __init__(self, prior: Prior, *, rank: int, learning_rate: float, camera_dropout: float) -> None:
        if learning_rate <= 0 or not 0 <= camera_dropout <= 1:
            raise UserError(
                f"guidance.student.learning_rate={learning_rate} must be above 0 and camera_dropout={camera_dropout}"
                " between 0 and 1."
            )
        self.prior, self.camera_dropout = prior, camera_dropout
        self.lora = LoraUnet(prior.unet, rank=rank)
        self._optimizer = torch.optim.Adam(self.lora.parameters(), lr=learning_rate)
        self._begun = False

    def begin(self, generator: torch.Generator) -> None:
        """Draw the first weights, unless they are there already."""
        if not self._begun:
            self.lora.initialise(generator)
            self._begun = True

    @torch.no_grad()
    def predict(self, seen: Noised, given: Conditions) -> Float[Tensor, "B C h w"]:
        """The student's epsilon for noisy pictures."""
        cameras = given.cameras.camera_from_world
        groups = _groups(len(cameras), self.prior.memory.unet_rows)
        return torch.cat([self._predict(seen, given, cameras, rows) for rows in groups])

    def learn(
        self, latents: Float[Tensor, "B C h w"], given: Conditions, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """One step of Adam on the denoising loss of these latents; returns the loss before it.

        The loss is in what the UNet was trained to predict, noise or velocity.
        """
        drawn = torch.randint(0, self.prior.num_timesteps, (len(latents),), generator=generator)
        seen = noised(self.prior, latents.detach(), drawn, generator)
        shown = torch.rand(len(latents), generator=generator) >= self.camera_dropout
        cameras = given.cameras.camera_from_world
        cameras = cameras * to_device(shown.to(cameras.dtype), cameras.device)[:, None, None]
        self._optimizer.zero_grad(set_to_none=True)
        losses, scale = [], self._loss_scale(seen.noise.numel())
        for rows in _groups(len(latents), self.prior.memory.student_rows):
            with torch.enable_grad(), explained_oom("training the student", self.prior.device):
                wrong = self._predict(seen, given, cameras, rows) - seen.noise[rows]
                if self.prior.predicts_velocity:  # eps = alpha v + sigma x_t: an error of v is that of eps over alpha
                    wrong = wrong / self.prior.alpha_sigma(seen.timesteps[rows])[0].clamp_min(EPS_SIGNAL)
                loss = wrong.square().sum() / seen.noise.numel()
                (loss * scale).backward()
            losses.append(loss.detach())
        if scale != 1:
            for value in self.lora.parameters():
                if value.grad is not None:  # whatever did overflow teaches nothing
                    value.grad.div_(scale).nan_to_num_(0.0, 0.0, 0.0)
        self._optimizer.step()
        return torch.stack(losses).sum()

    def _loss_scale(self, numbers: int) -> float:
        """What keeps the gradient of a mean over so many numbers from vanishing in float16; 1 for other formats.

        With it, the gradient begins with the size of the error itself: near 1, in the middle of what float16 holds. A
        power of two rounds nothing. (`torch.amp.GradScaler` finds such a factor by reading the device in each step.)
        """
        return 2.0 ** math.floor(math.log2(numbers)) if self.prior.unet.dtype == torch.float16 else 1.0

    def _predict(
        self, seen: Noised, given: Conditions, cameras: Float[Tensor, "B 4 4"], rows: slice
    ) -> Float[Tensor, "K C h w"]:
        control = None if given.control is None else given.control[rows]
        with self.lora.active(cameras[rows]):
            return self.prior.predict_noise_with_grad(
                seen.noisy[rows], seen.timesteps[rows], given.texts.plain[rows], control, given.conditioning_scale
            )

    def state_dict(self) -> dict[str, Any]:
        """Weights and Adam's moments."""
        return {"lora": self.lora.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there, exactly."""
        self.lora.load_state_dict(state["lora"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._begun = True


def _groups(count: int, group: int | None) -> list[slice]:
    """The pictures in groups of so many, None for all at once; gradients add up over them."""
    group = group or count
    return [slice(first, first + group) for first in range(0, count, group)]
