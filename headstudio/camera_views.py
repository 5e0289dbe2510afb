"""Views of a finished head by name, for figures and sheets: its pose, and where it is seen from.

A view frames every head alike, so that pictures of several can be laid side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headstudio.types import Cameras


@dataclass(frozen=True)
class View:
    """One square picture of a head.

    Attributes:
        shows: what is seen, in words.
        pose: a name of `motion.evaluation.evaluation_poses`.
        azimuth_deg: 0 in front of the face, +90 at the subject's left.
        elevation_deg: positive above the target.
        fovy_deg: from the picture's upper edge to its lower.
        target: the point looked at, world units.
        distance: of the camera from the target, world units.
    """

    shows: str
    pose: str = "rest"
    azimuth_deg: float = 0.0
    elevation_deg: float = 5.0
    fovy_deg: float = 60.0
    target: tuple[float, float, float] = (0.0, 0.1, 0.0)
    distance: float = 1.75

    def cameras(self, size: int) -> Cameras:
        """The one camera, for a picture of so many pixels a side."""
        from headstudio.camera import cameras_from_orbit

        angles = (self.azimuth_deg, self.elevation_deg)
        return cameras_from_orbit(*angles, self.distance, self.fovy_deg, size, size, self.target)


_WHOLE = (0.0, 0.0, 0.0)
_FACE = (0.0, -0.12, 0.2)

VIEWS: dict[str, View] = {
    "front": View("the head at rest"),
    "front_open": View("the head with its mouth open", "mouth_open"),
    "front_wide": View("the head at rest from further off", fovy_deg=72.0, target=_WHOLE),
    "side": View("the head from its left", azimuth_deg=90.0, fovy_deg=66.0, target=_WHOLE),
    "back": View("the head from behind", azimuth_deg=180.0, fovy_deg=66.0, target=_WHOLE),
    "back_near": View("its back and crown from near", "rest", 155.0, 30.0, 52.0, (0.0, 0.2, -0.1)),
    "turned": View("the head turned to its left", "turned", -15.0, 5.0, 64.0, (0.0, -0.03, 0.05)),
    "face": View("the face from near", fovy_deg=33.0, target=_FACE),
    "face_open": View("the face from near, its mouth open", "mouth_open", fovy_deg=33.0, target=_FACE),
    "mouth_open": View(
        "the open mouth from near", "mouth_open", elevation_deg=0.0, fovy_deg=19.0, target=(0, -0.34, 0.3)
    ),
}
"""What `figure.views` of an ablation may name."""
