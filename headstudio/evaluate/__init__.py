"""What a finished avatar is worth: metrics, each a callable that returns named numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from headstudio.render import Renderer


class Metric(Protocol):
    """One entry of the `metrics` group."""

    def __call__(self, avatar: Any, renderer: Renderer, prompt: str, generator: torch.Generator) -> dict[str, float]:
        """Judge `avatar`, a representation with `pose(pose)` and `head`, against the sentence that made it."""
        ...
