"""Motion from nothing: talking, blinking, glances, head turns and expressions, drawn at random or as a film.

The paper samples poses and expressions from recorded TalkSHOW sequences ("Training with Animations"), which are not
free to ship; this stands in for them, and adds what the official code leaves still: eyes and neck.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from headstudio.errors import UserError
from headstudio.motion.arkit import ARKIT_NAMES, INDEX, pose_of, weights_of
from headstudio.motion.faces import EXPRESSIONS, VISEMES
from headstudio.motion.film import Timeline
from headstudio.motion.transfer import flame_columns

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.motion import Controls
    from headstudio.types import Pose


@dataclass(frozen=True, kw_only=True)
class MotionSettings:
    """How often a sampled pose shows what (probabilities, independent of each other) and how far it goes.

    `neutral` poses show everything at a tenth of its strength. `wild` adds a few single weights of no meaning, so
    that combinations which no table holds are also seen. A blinking eye is closed by a uniform amount up to shut.

    A head with FLAME's expressions also gets random coefficients on its first `flame_count` ones, normal with standard
    deviation `flame_sigma` (they are principal components in units of their own), as often as `expression` says.
    """

    neutral: float
    talking: float
    expression: float
    blink: float
    glance: float
    turn: float
    wild: float
    gaze_yaw_deg: float  # furthest glance to a side
    gaze_pitch_deg: float  # furthest glance up or down
    neck_yaw_deg: float  # furthest turn to a side
    neck_pitch_deg: float  # furthest nod
    neck_roll_deg: float  # furthest lean
    flame_count: int = 0
    flame_sigma: float = 0.0

    def __post_init__(self) -> None:
        if not (isinstance(self.flame_count, int) and self.flame_count >= 0):
            raise UserError(f"motion.flame_count={self.flame_count} must be a whole number of at least 0.")
        if not 0.0 <= self.flame_sigma <= 3.0:
            raise UserError(f"motion.flame_sigma={self.flame_sigma} must lie between 0 and 3.")
        for field in fields(self):
            if field.name.startswith("flame_"):
                continue
            value = getattr(self, field.name)
            highest = 60.0 if field.name.endswith("_deg") else 1.0
            if not 0.0 <= value <= highest:
                raise UserError(f"motion.{field.name}={value} must lie between 0 and {highest:g}.")


class ProceduralMotion:
    """Random but plausible poses of one head, and smooth films. Names that the head lacks are skipped.

    Args:
        head: whose expression and joint names decide what can move; a head with none of them stays neutral.
        settings: the keywords of `MotionSettings`.
    """

    def __init__(self, head: Controls, **settings: Any) -> None:
        self.head = head
        self.settings = MotionSettings(**settings)
        self._flame = [column for column, i in flame_columns(head).items() if i < self.settings.flame_count]
        self._visemes = torch.stack([weights_of(face) for face in VISEMES.values()])
        self._expressions = torch.stack([weights_of(face) for face in EXPRESSIONS.values()])

    def sample(self, count: int, generator: torch.Generator) -> Pose:
        """`count` independent poses: a mixture of everything, each part present with its own probability."""
        s = self.settings
        strength = torch.where(self._happens(s.neutral, count, generator), 0.1, 1.0)
        mouth = self._talking_mouths(count, generator) * self._happens(s.talking, count, generator)[:, None]
        face = self._random_expressions(count, generator) * self._happens(s.expression, count, generator)[:, None]
        wild = self._wild_weights(count, generator) * self._happens(s.wild, count, generator)[:, None]
        weights = strength[:, None] * (mouth + face + wild)
        lids = torch.rand(count, generator=generator) * 1.4  # 2 in 7 blinks are shut entirely
        lids = strength * lids.clamp(max=1.0) * self._happens(s.blink, count, generator)
        for name in ("eyeBlinkLeft", "eyeBlinkRight"):
            weights[:, INDEX[name]] = torch.maximum(weights[:, INDEX[name]], lids)
        glances = strength * self._happens(s.glance, count, generator)
        turns = strength * self._happens(s.turn, count, generator)
        gaze = _centred(count, (s.gaze_yaw_deg, s.gaze_pitch_deg), generator) * glances[:, None]
        neck = _centred(count, (s.neck_yaw_deg, s.neck_pitch_deg, s.neck_roll_deg), generator) * turns[:, None]
        pose = pose_of(self.head, weights, gaze, neck)
        if self._flame:
            drawn = torch.randn(count, len(self._flame), generator=generator).clamp(-3.0, 3.0)
            present = strength * self._happens(s.expression, count, generator)
            pose.expression[:, self._flame] += s.flame_sigma * drawn * present[:, None]
        return pose

    def sequence(self, seconds: float, fps: float, generator: torch.Generator) -> Pose:
        """A film of the head talking, blinking, looking about and nodding, `round(seconds * fps)` poses.

        It is a function of continuous time that starts at the neutral pose, and ends with the mouth at rest: another
        `fps` with an equal generator gives the same film at other instants.
        """
        s = self.settings
        timeline = Timeline(seconds, generator)
        times = torch.arange(round(seconds * fps), dtype=torch.float32) / fps
        weights = timeline.talking(times, self._visemes) + timeline.moods(times, self._expressions)
        weights = weights + timeline.emphasis(times)[:, None] * weights_of({"browInnerUp": 0.5, "browOuterUp": 0.35})
        lids = timeline.blinks(times)
        for name in ("eyeBlinkLeft", "eyeBlinkRight"):
            weights[:, INDEX[name]] = torch.maximum(weights[:, INDEX[name]], lids)
        gaze = timeline.gaze(times) * torch.tensor([s.gaze_yaw_deg, s.gaze_pitch_deg])
        neck = timeline.neck(times) * torch.tensor([s.neck_yaw_deg, s.neck_pitch_deg, s.neck_roll_deg])
        pose = pose_of(self.head, weights, gaze, neck)
        if self._flame:
            pose.expression[:, self._flame] += s.flame_sigma * timeline.coefficients(times, len(self._flame))
        return pose

    def _happens(self, probability: float, count: int, generator: torch.Generator) -> Tensor:
        return torch.rand(count, generator=generator) < probability

    def _talking_mouths(self, count: int, generator: torch.Generator) -> Float[Tensor, "P 52"]:
        """On the way from one viseme to another: speech passes through blends more than through the extremes."""
        first, second = torch.randint(len(self._visemes), (2, count), generator=generator)
        blend, effort = torch.rand(2, count, 1, generator=generator)
        between = torch.lerp(self._visemes[first], self._visemes[second], blend * blend * (3.0 - 2.0 * blend))
        return between * (0.6 + 0.6 * effort)

    def _random_expressions(self, count: int, generator: torch.Generator) -> Float[Tensor, "P 52"]:
        """An expression of the table at any strength, a little lopsided."""
        chosen = torch.randint(len(self._expressions), (count,), generator=generator)
        effort = 0.3 + 0.7 * torch.rand(count, 1, generator=generator)
        lopsided = 0.85 + 0.15 * torch.rand(count, len(ARKIT_NAMES), generator=generator)
        return self._expressions[chosen] * effort * lopsided

    def _wild_weights(self, count: int, generator: torch.Generator) -> Float[Tensor, "P 52"]:
        """About three of the names, weakly."""
        present = torch.rand(count, len(ARKIT_NAMES), generator=generator) < 3.0 / len(ARKIT_NAMES)
        return present * 0.5 * torch.rand(count, len(ARKIT_NAMES), generator=generator)


def _centred(count: int, furthest: tuple[float, ...], generator: torch.Generator) -> Float[Tensor, "P A"]:
    """Angles that favour the middle: the mean of two uniform draws, up to `furthest` either way."""
    unit = torch.rand(2, count, len(furthest), generator=generator).mean(0)
    return (2.0 * unit - 1.0) * torch.tensor(furthest)
