"""Avatars for the tests of exports."""

from __future__ import annotations

import torch

from headstudio.avatar.rigged import RiggedGaussians
from headstudio.head.model import HeadModel


def gaussians_on(head: HeadModel, count: int = 200, seed: int = 0) -> RiggedGaussians:
    """Gaussians of all sizes, turns, colours and opacities on random triangles of a head with a random shape."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, spread: float = 1.0) -> torch.Tensor:
        return spread * torch.randn(*shape, generator=generator)

    return RiggedGaussians.from_state(
        head,
        {
            "means": normal(count, 3, spread=0.5),
            "log_scales": normal(count, 3, spread=0.4) - 0.5,
            "quats": normal(count, 4),
            "color_logits": normal(count, 3, spread=2.0),
            "opacity_logits": normal(count, spread=2.0),
            "shape": normal(head.num_shape, spread=0.3),
            "triangle": torch.randint(len(head.faces), (count,), generator=generator),
        },
    )
