from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from headstudio.avatar.init import SuperResolution
from headstudio.avatar.rigged import RiggedGaussians
from headstudio.head.model import HeadModel

MakeAvatar = Callable[..., RiggedGaussians]


@pytest.fixture
def make_avatar(tiny_head: HeadModel) -> MakeAvatar:
    """An avatar on the tiny head, `per_triangle` Gaussians each; `jitter` moves every parameter off its start."""

    def make(*, per_triangle: int = 3, seed: int = 0, jitter: float = 0.0) -> RiggedGaussians:
        generator = torch.Generator().manual_seed(seed)
        avatar = RiggedGaussians(
            tiny_head,
            generator,
            init=SuperResolution(per_triangle=per_triangle, neighbours=3, distance_power=2),
            initial_color=(0.5, 0.4, 0.3),
            initial_opacity=0.1,
        )
        with torch.no_grad():
            for parameter in avatar.parameters():
                parameter += jitter * torch.randn(parameter.shape, generator=generator)
        return avatar

    return make
