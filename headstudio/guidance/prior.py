"""The diffusion prior: diffusers components, frozen, behind the few calls that distillation needs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from headstudio.device import to_device
from headstudio.errors import UserError
from headstudio.guidance.memory import Memory, explained_oom, unlimited
from headstudio.guidance.vocabulary import VOCABULARY_FILE

log = logging.getLogger(__name__)


class Prior:
    """A latent diffusion model (UNet, VAE, text encoder, scheduler) with an optional ControlNet, all frozen.

    Pictures are RGB in [0, 1]; latents are what the UNet sees (the VAE's times its `scaling_factor`). Every
    prediction is returned as noise (epsilon), whatever the UNet was trained to predict.

    Attributes:
        picture_size: side in pixels of the pictures that the UNet was trained on.
        alphas_cumprod: (T,) float32, the scheduler's alpha bar.
        vocabulary: the words that the prior knows, or None where it takes any.
        vocabulary_file: where they are listed, for messages.
        colors: which it knows of a thing ("hair"); things that are not in it may have any.
        memory: what is done for less memory; changes no result beyond rounding.
    """

    def __init__(
        self,
        *,
        unet: Any,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        scheduler: Any,
        controlnet: Any | None,
        vocabulary: frozenset[str] | None = None,
        vocabulary_file: str = VOCABULARY_FILE,
        colors: Mapping[str, Collection[str]] | None = None,
        memory: Memory | None = None,
    ) -> None:
        kind = getattr(scheduler.config, "prediction_type", "epsilon")
        if kind not in ("epsilon", "v_prediction"):
            raise UserError(f"prior: scheduler prediction_type={kind!r} is not supported; use epsilon or v_prediction.")
        if not hasattr(scheduler, "alphas_cumprod"):
            raise UserError(
                f"prior: the scheduler {type(scheduler).__name__} has no alphas_cumprod; use a DDPM-like one."
            )
        self.unet, self.vae, self.text_encoder, self.controlnet = unet, vae, text_encoder, controlnet
        self.tokenizer, self.scheduler = tokenizer, scheduler
        self.vocabulary, self.vocabulary_file, self.colors = vocabulary, vocabulary_file, colors or {}
        self.predicts_velocity = kind == "v_prediction"
        self.alphas_cumprod = scheduler.alphas_cumprod.float()
        self.picture_size = int(unet.config.sample_size) * 2 ** (len(vae.config.block_out_channels) - 1)
        for model in self._models():
            model.requires_grad_(False).eval()
        self.memory = memory or unlimited()
        self.memory.apply(unet, vae, controlnet)

    def _models(self) -> list[nn.Module]:
        return [m for m in (self.unet, self.vae, self.text_encoder, self.controlnet) if m is not None]

    @property
    def device(self) -> torch.device:
        """Where the components lie."""
        return self.unet.device

    @property
    def num_timesteps(self) -> int:
        """How many noise levels the scheduler counts; timesteps are 0 .. num_timesteps - 1."""
        return len(self.alphas_cumprod)

    def to(self, device: torch.device | str) -> Prior:
        """Move every component (the text encoder only if it may); returns self."""
        for model in self._models():
            if model is not self.text_encoder or not self.memory.text_encoder_on_cpu:
                model.to(device)
        self.alphas_cumprod = self.alphas_cumprod.to(device)
        return self

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Float[Tensor, "K T D"]:
        """Text embeddings, as `StableDiffusionPipeline.encode_prompt` makes them; a cut prompt is warned about."""
        if self.text_encoder is None:
            raise RuntimeError("the text encoder has been freed; encode all prompts before free_text_encoder()")
        length = self.tokenizer.model_max_length
        for prompt in prompts:
            ids = self.tokenizer(prompt, truncation=False, verbose=False).input_ids
            if len(ids) > length:
                rest = self.tokenizer.decode(ids[length - 1 : -1])
                log.warning("The prompt is longer than the prior's %d tokens; this part is cut: %r", length, rest)
        tokens = self.tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        there = self.text_encoder.device
        mask = tokens.attention_mask.to(there) if masked else None
        return self.text_encoder(tokens.input_ids.to(there), attention_mask=mask)[0].to(self.device)

    def free_text_encoder(self) -> None:
        """Drop the text encoder and the tokenizer; embeddings already made stay valid."""
        self.text_encoder = self.tokenizer = None

    def encode_images(
        self, rgb: Float[Tensor, "B 3 H W"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Latents of pictures in [0, 1], differentiable; pictures of another size are resized bilinearly first.

        With a generator the VAE's posterior is sampled, as the official code does (controlnet_guidance.py,
        `encode_images`); without one its mode is taken. For a `LinearCodec` the two are the same.
        """
        with explained_oom("encoding the pictures", self.device):
            posterior = self._posterior(self._resized(rgb).to(self.vae.dtype) * 2 - 1)
            latents = posterior.mode() if generator is None else _sampled(posterior, generator)
            return (latents * self.vae.config.scaling_factor).to(rgb.dtype)

    def _posterior(self, pictures: Float[Tensor, "B 3 S S"]) -> Any:
        """The VAE's distribution; encoded in groups that are recomputed in the backward pass, if memory says so."""
        group = self.memory.vae_pictures
        if group is None or not hasattr(self.vae, "quant_conv"):
            return self.vae.encode(pictures).latent_dist
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        def moments(part: Tensor) -> Tensor:
            return self.vae.encode(part).latent_dist.parameters

        parts = pictures.split(group)  # nothing in it draws, so no state of a generator is kept
        groups = [checkpoint(moments, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        return DiagonalGaussianDistribution(torch.cat(groups))

    @torch.no_grad()
    def decode_latents(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        """Pictures in [0, 1] (clamped) of latents."""
        scaled = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        group = len(scaled) if self.memory.vae_pictures is None else 1
        pictures = torch.cat([self.vae.decode(part).sample for part in scaled.split(group)])
        return (pictures / 2 + 0.5).clamp(0, 1).to(latents.dtype)

    def add_noise(
        self, latents: Float[Tensor, "B C h w"], noise: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"]
    ) -> Float[Tensor, "B C h w"]:
        """x_t = alpha_t x_0 + sigma_t noise (below Eq. 1), with alpha_t = sqrt(alpha bar)."""
        alpha, sigma = self.alpha_sigma(timesteps)
        return alpha * latents + sigma * noise

    @torch.no_grad()
    def predict_noise(
        self,
        noisy: Float[Tensor, "K C h w"],
        timesteps: Int[Tensor, " K"],
        embeddings: Float[Tensor, "K T D"],
        control: Float[Tensor, "B channels H W"] | None,
        conditioning_scale: float,
        shown: Int[Tensor, " K"] | None = None,
    ) -> Float[Tensor, "K C h w"]:
        """epsilon_phi(x_t; y, C, t): the noise that the model sees in `noisy`; nothing here carries a gradient.

        Args:
            noisy: latents at `timesteps`.
            timesteps: 0 .. num_timesteps - 1, one per row.
            embeddings: one text per row.
            control: control pictures in [0, 1], resized to `picture_size` if they differ; None runs the UNet alone
                (plain SDS).
            conditioning_scale: factor on what the ControlNet adds.
            shown: which of the control pictures each row has, so that one that several texts share is embedded once;
                None: one per row, in order.
        """
        group = self.memory.unet_rows or len(noisy)
        if len(noisy) <= group:
            return self._explained(noisy, timesteps, embeddings, control, conditioning_scale, shown)
        if control is not None and shown is not None:
            control = control[shown]
        predicted = [
            self._explained(
                noisy[rows],
                timesteps[rows],
                embeddings[rows],
                None if control is None else control[rows],
                conditioning_scale,
            )
            for rows in (slice(first, first + group) for first in range(0, len(noisy), group))
        ]
        return torch.cat(predicted)

    def _explained(self, *arguments: Any) -> Float[Tensor, "K C h w"]:
        with explained_oom("running the UNet", self.device):
            return self.predict_noise_with_grad(*arguments)

    def predict_noise_with_grad(
        self,
        noisy: Float[Tensor, "K C h w"],
        timesteps: Int[Tensor, " K"],
        embeddings: Float[Tensor, "K T D"],
        control: Float[Tensor, "B channels H W"] | None,
        conditioning_scale: float,
        shown: Int[Tensor, " K"] | None = None,
    ) -> Float[Tensor, "K C h w"]:
        """`predict_noise` for whoever has put something that learns into the UNet; the ControlNet never does."""
        dtype = self.unet.dtype
        rows, texts = noisy.to(dtype), embeddings.to(dtype)
        added: dict[str, Any] = {}
        if control is not None:
            if self.controlnet is None:
                raise ValueError("a control map was given to a prior without a ControlNet")
            with torch.no_grad(), _embedded_once(self.controlnet, shown):
                added["down_block_additional_residuals"], added["mid_block_additional_residual"] = self.controlnet(
                    rows,
                    timesteps,
                    encoder_hidden_states=texts,
                    controlnet_cond=self._resized(control).to(dtype),
                    conditioning_scale=conditioning_scale,
                    return_dict=False,
                )
        predicted = self.unet(rows, timesteps, encoder_hidden_states=texts, return_dict=False, **added)[0]
        predicted = predicted.to(noisy.dtype)
        if self.predicts_velocity:  # v = alpha eps - sigma x_0, hence eps = alpha v + sigma x_t (Salimans & Ho, app. D)
            alpha, sigma = self.alpha_sigma(timesteps)
            predicted = alpha * predicted + sigma * noisy
        return predicted

    def alpha_sigma(self, timesteps: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B 1 1 1"], Float[Tensor, "B 1 1 1"]]:
        """Signal and noise factors of x_t at each timestep; -1 means the clean end (1, 0)."""
        level = torch.where(timesteps >= 0, self.alphas_cumprod[timesteps.clamp_min(0)], 1.0)[:, None, None, None]
        return level.sqrt(), (1 - level).sqrt()

    def _resized(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 S S"]:
        size = (self.picture_size, self.picture_size)
        if pictures.shape[-2:] == size:
            return pictures
        return interpolate(pictures, size=size, mode="bilinear", align_corners=False)


@contextmanager
def _embedded_once(controlnet: Any, shown: Int[Tensor, " K"] | None) -> Iterator[None]:
    """Within, the ControlNet embeds each control picture once and gives row k the embedding of picture `shown[k]`."""
    if shown is None:
        yield
        return
    hook = controlnet.controlnet_cond_embedding.register_forward_hook(lambda _, given, embedded: embedded[shown])
    try:
        yield
    finally:
        hook.remove()


def _sampled(posterior: Any, generator: torch.Generator) -> Tensor:
    """What `posterior.sample(generator)` returns; diffusers would stop the host until its noise has been copied."""
    if not hasattr(posterior, "std"):
        return posterior.sample(generator)
    mean = posterior.mean
    noise = torch.randn(mean.shape, generator=generator, dtype=posterior.parameters.dtype)
    return mean + posterior.std * to_device(noise, mean.device)
