"""What lies behind a picture in training: one colour, or another one behind each view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def backgrounds(color: Float[Tensor, "3"] | None, count: int, generator: torch.Generator) -> Float[Tensor, "B 3"]:
    """RGB in [0, 1] for `count` views: the one colour, or without one a random one each."""
    return torch.rand(count, 3, generator=generator) if color is None else color.expand(count, 3)
