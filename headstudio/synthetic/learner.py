"""The networks of the tiny prior while they learn: UNet and ControlNet, optimiser, moving average, checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from headstudio.guidance.precision import has_native_bfloat16


@dataclass(frozen=True)
class Worker:
    """One of `count` processes that share every batch; each keeps an equal copy of the networks."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that averages, reports and writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> range:
        """The rows of a batch that are this worker's."""
        rows = batch_size // self.count
        return range(self.rank * rows, (self.rank + 1) * rows)

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every worker the mean of all workers' gradients."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


CONTROLNETS = {"controlnet": 3, "controlnet_normals_regions": 6}  # folder and channels of the control picture


def build_models(settings: Any) -> dict[str, Any]:
    """UNet and its ControlNets by the name of their folder, seeded."""
    from diffusers import ControlNetModel, UNet2DConditionModel
    from omegaconf import OmegaConf

    torch.manual_seed(settings.seed)
    shape: dict[str, Any] = OmegaConf.to_container(settings.unet)  # type: ignore[assignment]
    shape = {key: tuple(value) if isinstance(value, list) else value for key, value in shape.items()}
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=settings.codec.latent_channels,
        out_channels=settings.codec.latent_channels,
        cross_attention_dim=settings.text.width,
        **shape,
    )
    channels = tuple(settings.controlnet.conditioning_embedding_out_channels)
    controlnets = {
        name: ControlNetModel.from_unet(
            unet, conditioning_embedding_out_channels=channels, conditioning_channels=conditioning
        )
        for name, conditioning in CONTROLNETS.items()
    }
    return {"unet": unet, **controlnets}


def build_scheduler() -> Any:
    """The noise schedule of Stable Diffusion, predicting v."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def landmark_weight(controls: torch.Tensor, size: int, weight: float) -> torch.Tensor:
    """Weights (B, 1, size, size) of mean 1 that count latents under a landmark line `weight` times.

    Eyes and lips cover a few latents of a picture, and sentences name them. Where each latent's best prediction lies
    does not depend on its weight, only how soon it is learnt.
    """
    drawn = torch.nn.functional.adaptive_max_pool2d(controls.amax(1, keepdim=True), size) > 0.2
    weights = 1 + (weight - 1) * drawn.float()
    return weights / weights.mean()


class Training:
    """UNet, ControlNets, their optimiser and their moving average, with an atomic checkpoint."""

    def __init__(self, settings: Any, codec: Any, encoder: Any, worker: Worker) -> None:
        self.settings, self.codec, self.encoder, self.worker = settings.diffusion, codec, encoder, worker
        self.seed = settings.seed
        self.models = torch.nn.ModuleDict(build_models(settings))
        self.models.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: value.clone() for name, value in self.models.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.models.parameters(), lr=1.0, weight_decay=0.01, betas=(0.9, 0.99), fused=True
        )
        if self.settings.compile:  # fuses the small operations between the convolutions
            for model in self.models.values():
                model.compile()
        self.scheduler = build_scheduler()
        self.step, self.pictures_seen, self.seconds = 0, 0, 0.0

    def rate(self) -> float:
        """Warm-up, plateau, linear fall to zero at the end."""
        s = self.settings
        ramp = min(1.0, (self.step + 1) / s.warmup_steps)
        return float(s.learning_rate * ramp * min(1.0, (s.steps - self.step) / s.decay_steps))

    def update(self, batch: dict[str, torch.Tensor]) -> float:
        """One optimiser step on this worker's pictures, token ids, controls and the mask of controls that are kept."""
        alpha_bar = self.scheduler.alphas_cumprod
        clean = self.codec.encode(batch["pictures"]).latent_dist.mean * self.codec.config.scaling_factor
        t, noise = self._draw(clean)
        alpha, sigma = alpha_bar[t].sqrt()[:, None, None, None], (1 - alpha_bar[t]).sqrt()[:, None, None, None]
        # For sequences this short the plain attention is faster than the fused one. Without instructions of its own
        # bfloat16 is many times slower than float32.
        half = torch.autocast("cpu", torch.bfloat16, enabled=has_native_bfloat16())
        with half, sdpa_kernel(SDPBackend.MATH):
            prediction = self.predict(alpha * clean + sigma * noise, t, batch)
        square = (prediction.float() - (alpha * noise - sigma * clean)).pow(2)
        snr = (alpha_bar / (1 - alpha_bar))[t]
        weight = snr.clamp(max=self.settings.min_snr_gamma) / (snr + 1)
        detail = landmark_weight(batch["controls"], square.shape[-1], self.settings.landmark_weight)
        loss = ((square * detail).mean((1, 2, 3)) * weight).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.worker.average_gradients(self.models.parameters())
        torch.nn.utils.clip_grad_norm_(self.models.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.step()
        if self.worker.leads:
            self._follow()
        self.step += 1
        self.pictures_seen += self.settings.batch_size
        return float(square.mean().detach())

    def _draw(self, clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise levels and noise of this worker's rows, by step number, so that no generator's state need be kept."""
        # Seeds of neighbouring steps must not be neighbours: torch's generators start alike from alike seeds.
        seed = int(np.random.SeedSequence([self.seed, self.step]).generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator().manual_seed(seed)
        rows, size = self.worker.share(self.settings.batch_size), self.settings.batch_size
        t = torch.randint(len(self.scheduler.alphas_cumprod), (size,), generator=generator)
        noise = torch.randn((size, *clean.shape[1:]), generator=generator)
        return t[rows.start : rows.stop], noise[rows.start : rows.stop]

    def predict(self, noisy: torch.Tensor, t: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The UNet's v; pictures whose control is dropped get no residuals, as a run without ControlNet does."""
        with torch.no_grad():
            embeddings = self.encoder(batch["ids"]).last_hidden_state
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        keep = batch["keep_control"].to(noisy.dtype)[:, None, None, None]
        # Each ControlNet guides its half of the rows, so a step costs what it would with one.
        half = len(noisy) // 2
        parts = zip(CONTROLNETS, (slice(half, None), slice(half)), (batch["controls"], batch["surfaces"]), strict=True)
        guided = [
            self.models[name](noisy[rows], t[rows], embeddings[rows], controls[rows], return_dict=False)
            for name, rows, controls in parts
        ]
        (down, middle), (down_surface, middle_surface) = guided
        return self.models["unet"](  # type: ignore[no-any-return]
            noisy,
            t,
            embeddings,
            down_block_additional_residuals=[torch.cat(pair) * keep for pair in zip(down_surface, down, strict=True)],
            mid_block_additional_residual=torch.cat((middle_surface, middle)) * keep,
            return_dict=False,
        )[0]

    @torch.no_grad()
    def _follow(self) -> None:
        # A young average forgets its random start quickly.
        decay = min(self.settings.ema_decay, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(list(self.average.values()), list(self.models.state_dict().values()), 1 - decay)

    def save(self, path: Path) -> None:
        """Write the whole state in one move."""
        state = {
            "models": self.models.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "pictures_seen": self.pictures_seen,
            "seconds": self.seconds,
        }
        torch.save(state, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)

    def load_weights(self, folder: Path) -> None:
        """Start from the networks of a finished prior instead of random ones.

        A ControlNet that it lacks starts as the landmarks' one, but for the layer that reads the control picture.
        """
        from diffusers import ControlNetModel, UNet2DConditionModel

        kinds = {"unet": UNet2DConditionModel} | dict.fromkeys(CONTROLNETS, ControlNetModel)
        for name, kind in kinds.items():
            source = name if (folder / name).is_dir() else "controlnet"
            weights = kind.from_pretrained(folder, subfolder=source, torch_dtype=torch.float32).state_dict()
            if source != name:
                del weights["controlnet_cond_embedding.conv_in.weight"]
            self.models[name].load_state_dict(weights, strict=source == name)
        self.average = {name: value.clone() for name, value in self.models.state_dict().items()}

    def load(self, path: Path) -> None:
        """Go on where `save` stopped."""
        state = torch.load(path, weights_only=True)
        self.models.load_state_dict(state["models"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.pictures_seen, self.seconds = state["step"], state["pictures_seen"], state["seconds"]
