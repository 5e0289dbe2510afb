"""Where animation comes from: poses that training draws at random and sequences that a film plays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from headstudio.types import ArkitMapping, Pose

FACE_JOINTS = ("neck", "jaw", "eyes")
"""What a recording turns unless told otherwise; the root, and with it the shoulders, stays still."""


class Controls(Protocol):
    """What a motion must know about a head: the names of what can be moved."""

    @property
    def expression_names(self) -> Sequence[str]: ...

    @property
    def joint_names(self) -> Sequence[str]: ...

    @property
    def arkit_mapping(self) -> ArkitMapping | None:
        """What ARKit's weights do where the expressions have other names; None: they do nothing but open the jaw."""


class Motion(Protocol):
    """A source of poses for one head. All poses lie on the CPU and depend on nothing but the generator."""

    def sample(self, count: int, generator: torch.Generator) -> Pose:
        """`count` independent poses: what one training step shows."""
        ...

    def sequence(self, seconds: float, fps: float, generator: torch.Generator) -> Pose:
        """`round(seconds * fps)` consecutive poses of a film that starts near neutral."""
        ...
