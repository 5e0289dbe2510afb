"""The published shapes of the Stable Diffusion families: what a single file does not say, and what stand-ins copy.

Numbers as in the `config.json` files of stable-diffusion-v1-5/stable-diffusion-v1-5, of stabilityai's
stable-diffusion-2-1-base and stable-diffusion-2-1, and of CrucibleAI/ControlNetMediaPipeFace. Light: no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONTROLNET = "CrucibleAI/ControlNetMediaPipeFace"
_BLOCKS = {
    "act_fn": "silu",
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
}
_UNET = {
    **_BLOCKS,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "in_channels": 4,
    "out_channels": 4,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
}
_VAE = {
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "scaling_factor": 0.18215,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
_TEXT = {
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 77,
    "pad_token_id": 1,
    "vocab_size": 49408,
}
_SCHEDULER = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "trained_betas": None,
}


@dataclass(frozen=True)
class Family:
    """One base model: the settings of diffusers' and transformers' classes.

    Attributes:
        name: as people call it.
        controlnet_subfolder: where `CONTROLNET` keeps the weights for it; None is the repository's root.
        pad_token: what the tokenizer fills a short prompt up with.
    """

    name: str
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    scheduler_class: str
    scheduler: Mapping[str, Any]
    pad_token: str
    controlnet_subfolder: str | None

    @property
    def text_width(self) -> int:
        """Channels of a token's embedding, the number by which the families differ first."""
        return int(self.unet["cross_attention_dim"])


SD15 = Family(
    name="Stable Diffusion 1.5",
    unet={**_UNET, "attention_head_dim": 8, "cross_attention_dim": 768, "sample_size": 64},
    vae={**_VAE, "sample_size": 512},
    text_encoder={
        **_TEXT,
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "projection_dim": 768,
    },
    scheduler_class="PNDMScheduler",
    scheduler={**_SCHEDULER, "skip_prk_steps": True},
    pad_token="<|endoftext|>",
    controlnet_subfolder="diffusion_sd15",
)
SD21_BASE = Family(
    name="Stable Diffusion 2.1",
    unet={
        **_UNET,
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "dual_cross_attention": False,
        "sample_size": 64,
        "upcast_attention": False,
        "use_linear_projection": True,
    },
    vae={**_VAE, "sample_size": 768},
    text_encoder={
        **_TEXT,
        "hidden_act": "gelu",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 23,
        "projection_dim": 512,
    },
    scheduler_class="PNDMScheduler",
    scheduler={**_SCHEDULER, "prediction_type": "epsilon", "skip_prk_steps": True},
    pad_token="!",
    controlnet_subfolder=None,
)
SD21 = Family(
    name="Stable Diffusion 2.1 (768, v-prediction)",
    unet={**SD21_BASE.unet, "sample_size": 96, "upcast_attention": True},
    vae=SD21_BASE.vae,
    text_encoder=SD21_BASE.text_encoder,
    scheduler_class="DDIMScheduler",
    scheduler={**_SCHEDULER, "prediction_type": "v_prediction"},
    pad_token="!",
    controlnet_subfolder=None,
)
FAMILIES = (SD15, SD21_BASE, SD21)


def controlnet_config(family: Family) -> dict[str, Any]:
    """The settings of `CONTROLNET` for a family, which follow those of its UNet."""
    copied = ("attention_head_dim", "block_out_channels", "cross_attention_dim", "use_linear_projection")
    return {
        **_BLOCKS,
        **{key: family.unet[key] for key in copied if key in family.unet},
        "conditioning_embedding_out_channels": [16, 32, 96, 256],
        "controlnet_conditioning_channel_order": "rgb",
        "in_channels": 4,
    }


def family_of_width(text_width: int) -> Family | None:
    """The family whose UNet reads embeddings of this width, or None."""
    return next((family for family in FAMILIES if family.text_width == text_width), None)
