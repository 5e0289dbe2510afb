"""Low-rank adapters in the prior's UNet, and its camera: what learns where the prior itself stays frozen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headstudio.errors import UserError

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]  # the layers of each attention block in diffusers' names
CAMERA_NUMBERS = 16  # camera_from_world, row by row


class LoraUnet:
    """A second UNet that differs from the prior's by few weights, and shares all others with it.

    Inside `active` the UNet has low-rank adapters on its attention layers (Hu et al. 2021) and adds an embedding of
    the camera to that of the timestep; outside it computes what it did before, bit by bit. At first the two agree
    everywhere: the second factor of each adapter and the last layer of the camera's embedding are zero.

    Args:
        unet: diffusers' UNet2DConditionModel, frozen; it is changed in place.
        rank: of the adapters.

    Raises:
        UserError: the package peft is missing, or the rank is no positive number.
    """

    def __init__(self, unet: Any, *, rank: int) -> None:
        if rank < 1:
            raise UserError(f"guidance.student.rank={rank} must be at least 1.")
        try:
            from peft import LoraConfig
            from peft.tuners.tuners_utils import BaseTunerLayer
        except ImportError as error:
            raise UserError("guidance=vsd needs the package peft: pip install peft.") from error
        from diffusers.models.embeddings import TimestepEmbedding

        device, width = unet.device, unet.time_embedding.linear_2.out_features
        with torch.random.fork_rng(devices=[]):  # whatever is drawn here is drawn again in `initialise`
            unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=ATTENTION))
            self.camera = TimestepEmbedding(CAMERA_NUMBERS, width).to(device)
        self._unet = unet
        self._layers = [module for module in unet.modules() if isinstance(module, BaseTunerLayer)]
        self.adapters = {name: value for name, value in unet.named_parameters() if value.requires_grad}
        for value in self.adapters.values():
            value.data = value.data.float()  # a step is too small for half precision; each layer adds in its own
        self._enable(False)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the first weights, on the CPU: as in peft and torch, uniform in +-1/sqrt(inputs); the last ones zero."""
        for name, value in (*self.adapters.items(), *self.camera.named_parameters()):
            zero = "lora_B" in name or name.startswith("linear_2") or name.endswith("bias")
            bound = 0.0 if zero else 1 / math.sqrt(value.shape[1])
            value.copy_((2 * torch.rand(value.shape, generator=generator) - 1) * bound)

    def parameters(self) -> list[nn.Parameter]:
        """All that learns, in a fixed order."""
        return [*self.adapters.values(), *self.camera.parameters()]

    @contextmanager
    def active(self, camera_from_world: Float[Tensor, "B 4 4"]) -> Iterator[None]:
        """The UNet with its adapters, for a batch seen by these cameras."""

        def add_camera(_module: nn.Module, _inputs: Any, embedded: Tensor) -> Tensor:
            return embedded + self.camera(camera_from_world.flatten(1)).to(embedded.dtype)

        hook = self._unet.time_embedding.register_forward_hook(add_camera)
        self._enable(True)
        try:
            yield
        finally:
            self._enable(False)
            hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """The weights that learn."""
        return {
            "adapters": {name: value.detach() for name, value in self.adapters.items()},
            "camera": self.camera.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the weights of `state_dict`."""
        for name, value in self.adapters.items():
            value.copy_(state["adapters"][name])
        self.camera.load_state_dict(state["camera"])

    def _enable(self, enabled: bool) -> None:
        for layer in self._layers:
            layer.enable_adapters(enabled)
        for value in self.adapters.values():
            value.requires_grad_(True)  # peft freezes what it switches off, but the backward pass comes after `active`
