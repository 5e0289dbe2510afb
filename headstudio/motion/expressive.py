"""Strong expressions and open jaws more often than a motion shows them by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from headstudio.errors import UserError
from headstudio.motion.arkit import JAW_OPEN_DEG
from headstudio.types import Pose

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.motion import Controls, Motion


class ExpressiveMotion:
    """Draws some candidates of another motion for each wanted pose, and takes one by its weight.

    The weight is `floor` + |expression| + `jaw_weight` * how far the jaw is open (0 to 1). A pose is shown at most
    `candidates` times as often as before, so that a motion that hardly ever opens its mouth still hardly ever does.
    Films are the other motion's own.

    Args:
        head: whose names say where the jaw is.
        of: makes the other motion for this head.
        candidates: poses drawn for each that is wanted; 1 changes nothing.
        floor: weight of the pose at rest, above 0.
        jaw_weight: weight of a jaw that is wide open.

    Raises:
        UserError: a number out of its range.
    Source: AnimPortrait3D, `GSAvatar/train_all.py:137-156`: a recorded frame counts (|expression| / the smallest
        one)^2, and 10 more if the jaw is turned by more than 0.2.
    """

    def __init__(
        self,
        head: Controls,
        *,
        of: Callable[[Controls], Motion],
        candidates: int,
        floor: float,
        jaw_weight: float,
    ) -> None:
        if not isinstance(candidates, int) or not 1 <= candidates <= 1000:
            raise UserError(f"motion.candidates={candidates} must be a whole number between 1 and 1000.")
        if not (0.0 < floor < math.inf and 0.0 <= jaw_weight < math.inf):
            raise UserError(f"motion.floor={floor} must be above 0 and motion.jaw_weight={jaw_weight} at least 0.")
        self.head, self.motion = head, of(head)
        self.candidates, self.floor, self.jaw_weight = candidates, floor, jaw_weight

    def sample(self, count: int, generator: torch.Generator) -> Pose:
        """`count` independent poses."""
        drawn = self.motion.sample(count * self.candidates, generator)
        weights = self.weights(drawn).view(count, self.candidates)
        chosen = torch.multinomial(weights, 1, generator=generator)[:, 0] + torch.arange(count) * self.candidates
        return Pose(expression=drawn.expression[chosen], joints=drawn.joints[chosen])

    def sequence(self, seconds: float, fps: float, generator: torch.Generator) -> Pose:
        """The other motion's film."""
        return self.motion.sequence(seconds, fps, generator)

    def weights(self, poses: Pose) -> Float[Tensor, " P"]:
        """How likely each pose is to be taken, up to a factor."""
        size = torch.linalg.vector_norm(poses.expression, dim=-1)
        return self.floor + size + self.jaw_weight * jaw_opening(self.head, poses)


def jaw_opening(head: Controls, poses: Pose) -> Float[Tensor, " P"]:
    """How far the jaw is open, 0 to 1: by the shape jawOpen, by the joint (as far as `JAW_OPEN_DEG`), or by both."""
    opening = torch.zeros(len(poses))
    if "jawOpen" in head.expression_names:
        opening = opening + poses.expression[:, list(head.expression_names).index("jawOpen")]
    if "jaw" in head.joint_names:
        opening = opening + poses.joints[:, list(head.joint_names).index("jaw"), 0] / math.radians(JAW_OPEN_DEG)
    return opening.clamp(0.0, 1.0)
