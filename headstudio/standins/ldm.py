"""A pipeline's weights under the names of the original code: what a single `.safetensors` checkpoint holds.

The inverse of what diffusers' `from_single_file` does. Source of the names: the modules of CompVis/latent-diffusion
(`model.diffusion_model`, `first_stage_model`) and of open_clip (`cond_stage_model.model`, SD 2.x).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Weights = dict[str, "Tensor"]
Rename = tuple[str, str | Callable[["re.Match[str]"], str]]

_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def checkpoint(unet: Mapping[str, Tensor], vae: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> Weights:
    """All weights of a single-file checkpoint.

    Args:
        unet: `UNet2DConditionModel.state_dict()` of two layers per block.
        vae: `AutoencoderKL.state_dict()`.
        text: weights of a `CLIPTextModel` with names from `text_model.` on; of SD 2.x if the UNet projects linearly.
    """
    linear = unet["down_blocks.0.attentions.0.proj_in.weight"].ndim == 2
    weights = {f"model.diffusion_model.{unet_name(key)}": value for key, value in unet.items()}
    for key, value in vae.items():
        name = vae_name(key)
        attention = ".attn_1." in name and name.endswith("weight") and ".norm." not in name
        weights[f"first_stage_model.{name}"] = value[:, :, None, None] if attention else value  # a 1x1 convolution
    weights |= _open_clip(text) if linear else {f"cond_stage_model.transformer.{key}": v for key, v in text.items()}
    return {key: value.contiguous() for key, value in weights.items()}


def unet_name(key: str) -> str:
    """The original name of one weight of the UNet."""
    renames: tuple[Rename, ...] = (
        (r"conv_in\.", "input_blocks.0.0."),
        (r"time_embedding\.linear_([12])\.", lambda m: f"time_embed.{2 * int(m[1]) - 2}."),
        (r"conv_norm_out\.", "out.0."),
        (r"conv_out\.", "out.2."),
        (r"down_blocks\.(\d)\.resnets\.(\d)\.", lambda m: f"input_blocks.{1 + 3 * int(m[1]) + int(m[2])}.0."),
        (r"down_blocks\.(\d)\.attentions\.(\d)\.", lambda m: f"input_blocks.{1 + 3 * int(m[1]) + int(m[2])}.1."),
        (r"down_blocks\.(\d)\.downsamplers\.0\.conv\.", lambda m: f"input_blocks.{3 * int(m[1]) + 3}.0.op."),
        (r"mid_block\.resnets\.(\d)\.", lambda m: f"middle_block.{2 * int(m[1])}."),
        (r"mid_block\.attentions\.0\.", "middle_block.1."),
        (r"up_blocks\.(\d)\.resnets\.(\d)\.", lambda m: f"output_blocks.{3 * int(m[1]) + int(m[2])}.0."),
        (r"up_blocks\.(\d)\.attentions\.(\d)\.", lambda m: f"output_blocks.{3 * int(m[1]) + int(m[2])}.1."),
        # The upsampler is the last of its block, after the attention where there is one: not in the lowest block.
        (
            r"up_blocks\.(\d)\.upsamplers\.0\.",
            lambda m: f"output_blocks.{3 * int(m[1]) + 2}.{1 if m[1] == '0' else 2}.",
        ),
    )
    name = _renamed(key, renames)
    return _inner(name, _UNET_RESNET) if ".resnets." in key else name


def vae_name(key: str) -> str:
    """The original name of one weight of the autoencoder."""
    renames: tuple[Rename, ...] = (
        (r"(en|de)coder\.conv_norm_out\.", r"\1coder.norm_out."),
        (r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block."),
        (r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
        (r"decoder\.up_blocks\.(\d)\.resnets\.", lambda m: f"decoder.up.{3 - int(m[1])}.block."),
        (r"decoder\.up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"decoder.up.{3 - int(m[1])}.upsample."),
        (r"(en|de)coder\.mid_block\.resnets\.(\d)\.", lambda m: f"{m[1]}coder.mid.block_{int(m[2]) + 1}."),
        (r"(en|de)coder\.mid_block\.attentions\.0\.", r"\1coder.mid.attn_1."),
    )
    name = _renamed(key, renames)
    return _inner(name, _VAE_ATTENTION) if ".attentions." in key else name.replace("conv_shortcut", "nin_shortcut")


def _open_clip(text: Mapping[str, Tensor]) -> Weights:
    """open_clip's text tower, with the last of its blocks, which Stable Diffusion 2 does not use, left out."""
    import torch

    fixed = {
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm.weight": "ln_final.weight",
        "text_model.final_layer_norm.bias": "ln_final.bias",
    }
    weights: Weights = {}
    for key, value in text.items():
        if key in fixed:
            weights[f"cond_stage_model.model.{fixed[key]}"] = value
        elif match := re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", key):
            block = f"cond_stage_model.model.transformer.resblocks.{match[1]}"
            if match[2] == "self_attn.q_proj":  # one matrix for query, key and value
                rest = (text[key.replace("q_proj", name)] for name in ("k_proj", "v_proj"))
                weights[f"{block}.attn.in_proj_{match[3]}"] = torch.cat([value, *rest])
            elif match[2] in _OPEN_CLIP:
                weights[f"{block}.{_OPEN_CLIP[match[2]]}.{match[3]}"] = value
    width = text["text_model.final_layer_norm.weight"].shape[0]
    weights["cond_stage_model.model.text_projection"] = torch.eye(width)  # by its width loaders know the tower's
    return weights


def _renamed(key: str, renames: tuple[Rename, ...]) -> str:
    for pattern, name in renames:
        if re.match(pattern, key):
            return re.sub("^" + pattern, name, key)
    return key


def _inner(name: str, names: Mapping[str, str]) -> str:
    """The name with the one part that `names` knows replaced."""
    for ours, original in names.items():
        if f".{ours}." in name:
            return name.replace(f".{ours}.", f".{original}.")
    return name
