"""A linear autoencoder of picture patches that diffusers' pipelines accept where they expect a VAE.

PCA of 8x8 patches: encoding is one strided convolution, decoding its transpose. It needs no training, costs next
to nothing per step, and its gradient is exact. This module imports diffusers when it is imported; import it late.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class ExactLatents:
    """A latent distribution without spread: the interface of diffusers' `DiagonalGaussianDistribution`."""

    mean: Float[Tensor, "B C h w"]

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "B C h w"]:
        """The latents; nothing is drawn, `generator` is accepted for the interface's sake."""
        return self.mean

    def mode(self) -> Float[Tensor, "B C h w"]:
        """The latents."""
        return self.mean


@dataclass(frozen=True)
class EncoderOutput:
    """What `encode` returns, as `AutoencoderKL.encode` does."""

    latent_dist: ExactLatents


@dataclass(frozen=True)
class DecoderOutput:
    """What `decode` returns, as `AutoencoderKL.decode` does."""

    sample: Float[Tensor, "B 3 H W"]


class LinearCodec(ModelMixin, ConfigMixin):
    """Patch PCA with the interface of `diffusers.AutoencoderKL`: RGB in [-1, 1] to latents and back.

    The patch is square with side `2 ** (len(block_out_channels) - 1)` pixels, the very formula by which diffusers'
    pipelines find a VAE's reduction; the numbers inside `block_out_channels` are not used. Latents times
    `config.scaling_factor` have about unit standard deviation over the pictures of `fit`.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 12,
        in_channels: int = 3,
        out_channels: int = 3,
        block_out_channels: tuple[int, ...] = (1, 1, 1, 1),
        scaling_factor: float = 1.0,
        sample_size: int = 128,
    ) -> None:
        super().__init__()
        side = 2 ** (len(block_out_channels) - 1)
        self.encoder = nn.Conv2d(in_channels, latent_channels, side, stride=side)
        self.decoder = nn.ConvTranspose2d(latent_channels, out_channels, side, stride=side)
        self.requires_grad_(False)

    def encode(self, x: Float[Tensor, "B 3 H W"], return_dict: bool = True) -> EncoderOutput | tuple[ExactLatents]:
        """Latents of pictures in [-1, 1], not yet multiplied by `config.scaling_factor`."""
        latents = ExactLatents(self.encoder(x))
        return EncoderOutput(latents) if return_dict else (latents,)

    def decode(
        self, z: Float[Tensor, "B C h w"], return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        """Pictures (about [-1, 1], not clamped) of latents that have been divided by `config.scaling_factor`."""
        pictures = self.decoder(z)
        return DecoderOutput(pictures) if return_dict else (pictures,)

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Encode and decode: the projection of every patch onto the principal subspace."""
        return self.decoder(self.encoder(x))

    @classmethod
    @torch.no_grad()
    def fit(
        cls, pictures: Float[Tensor, "M 3 H W"], *, latent_channels: int = 12, patch: int = 8, chunk: int = 64
    ) -> LinearCodec:
        """The codec whose subspace holds most of the variance of the pictures' patches.

        Each component is divided by its variance to the power 1/4, halfway between raw PCA (where the mean colour
        drowns the rest) and whitening (where noise is blown up); `scaling_factor` then brings the root mean square
        over all components to 1. Variances are about the mean colour, because a transposed convolution has one
        bias per colour.

        Args:
            pictures: RGB in [-1, 1]; sides are multiples of `patch`, a power of two.
            latent_channels: components kept.
            patch: side of a patch, pixels.
            chunk: pictures per accumulation, to bound memory.
        """
        if patch < 2 or patch & (patch - 1):
            raise ValueError(f"patch={patch} must be a power of two, at least 2")
        colour = pictures.mean(dim=(0, 2, 3), dtype=torch.float64)
        moment = torch.zeros(3 * patch * patch, 3 * patch * patch, dtype=torch.float64)
        count = 0
        for part in pictures.split(chunk):
            centred = part.double() - colour[:, None, None]
            columns = nn.functional.unfold(centred, patch, stride=patch).transpose(1, 2).reshape(-1, moment.shape[0])
            moment += columns.T @ columns
            count += columns.shape[0]
        variance, basis = torch.linalg.eigh(moment / count)
        variance = variance.flip(0)[:latent_channels].clamp_min(1e-12)
        basis = basis.flip(1)[:, :latent_channels].T  # (C, 3 * patch * patch), orthonormal rows
        sign = basis.gather(1, basis.abs().argmax(dim=1, keepdim=True)).sign()  # eigenvectors have no sign of their own
        basis = (basis * sign).reshape(latent_channels, 3, patch, patch)
        spread = variance.pow(0.25)[:, None, None, None]

        codec = cls(
            latent_channels=latent_channels,
            block_out_channels=(1,) * patch.bit_length(),
            scaling_factor=float(variance.sqrt().mean().rsqrt()),
            sample_size=int(pictures.shape[-1]),
        )
        codec.encoder.weight.copy_(basis / spread)
        codec.encoder.bias.copy_(-(basis / spread * colour[:, None, None]).sum(dim=(1, 2, 3)))
        codec.decoder.weight.copy_(basis * spread)
        codec.decoder.bias.copy_(colour)
        return codec.eval()
