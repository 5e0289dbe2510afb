"""What a face does, in numbers that a person can check: gaps, widths and heights in the head's own frame.

All are lengths in the open head's units (its head is about 1.5 high), by landmarks of MediaPipe's mesh that the pose
fit has turned to face the viewer and scaled: x to the subject's left, y up, z out of the face. A measure of one side
has the name of its side at the end; mirrored faces swap the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "T 478 3"]
Values = Float[np.ndarray, " T"]
# Landmarks by the subject's side: the mesh is symmetric, but its numbers are not.
RIGHT = {
    "corner": 61, "inner_corner": 78, "lip_upper": 82, "lip_lower": 87, "eye_outer": 33, "eye_inner": 133,
    "lid_upper": 159, "lid_lower": 145, "lid_upper_in": 158, "lid_lower_in": 153, "lid_upper_out": 160,
    "lid_lower_out": 144, "brow_inner": 55, "brow_inner_top": 107, "brow_middle": 105, "brow_outer": 46,
    "brow_outer_top": 70, "iris": 468, "nostril": 48, "nose_side": 98, "cheek": 50, "cheek_low": 205, "jaw": 172,
    "red_upper": 37, "red_lower": 84,
}  # fmt: skip
LEFT = {
    "corner": 291, "inner_corner": 308, "lip_upper": 312, "lip_lower": 317, "eye_outer": 263, "eye_inner": 362,
    "lid_upper": 386, "lid_lower": 374, "lid_upper_in": 385, "lid_lower_in": 380, "lid_upper_out": 387,
    "lid_lower_out": 373, "brow_inner": 285, "brow_inner_top": 336, "brow_middle": 334, "brow_outer": 276,
    "brow_outer_top": 300, "iris": 473, "nostril": 278, "nose_side": 327, "cheek": 280, "cheek_low": 425, "jaw": 397,
    "red_upper": 267, "red_lower": 314,
}  # fmt: skip
MIDDLE = {"lip_upper": 13, "lip_lower": 14, "red_upper": 0, "red_lower": 17, "chin": 152, "nose": 2, "bridge": 168}
SIDES = {"Left": (LEFT, 1.0), "Right": (RIGHT, -1.0)}


@dataclass(frozen=True)
class Measure:
    """How one number comes from the landmarks, and where it lies when the face is at rest.

    `rest_percentile` is the percentile over a film that stands for the neutral face: a gap that expressions only
    widen rests low, an eye that they mostly close rests high.
    """

    of: Callable[[Points], Values]
    rest_percentile: float = 50.0


def _x(points: Points, index: int) -> Values:
    return points[:, index, 0]


def _y(points: Points, index: int) -> Values:
    return points[:, index, 1]


def _z(points: Points, index: int) -> Values:
    return points[:, index, 2]


def _distance(points: Points, first: int, second: int) -> Values:
    gap: Values = np.linalg.norm(points[:, first] - points[:, second], axis=-1)
    return gap


M = MIDDLE
CENTRAL: dict[str, Measure] = {
    "lipGap": Measure(lambda p: _distance(p, M["lip_upper"], M["lip_lower"]), 15.0),
    "lipGapSides": Measure(lambda p: _distance(p, 82, 87) + _distance(p, 312, 317), 15.0),
    "chinDrop": Measure(lambda p: _y(p, M["nose"]) - _y(p, M["chin"]), 15.0),
    "mouthWidth": Measure(lambda p: _distance(p, LEFT["corner"], RIGHT["corner"])),
    "innerWidth": Measure(lambda p: _distance(p, LEFT["inner_corner"], RIGHT["inner_corner"])),
    "upperLipHeight": Measure(lambda p: _y(p, M["red_upper"]) - _y(p, M["nose"])),
    "lowerLipHeight": Measure(lambda p: _y(p, M["red_lower"]) - _y(p, M["nose"])),
    "upperLipRed": Measure(lambda p: _distance(p, M["red_upper"], M["lip_upper"])),
    "lowerLipRed": Measure(lambda p: _distance(p, M["red_lower"], M["lip_lower"])),
    "lipsForward": Measure(lambda p: _z(p, M["lip_upper"]) - (_z(p, LEFT["corner"]) + _z(p, RIGHT["corner"])) / 2),
    "chinForward": Measure(lambda p: _z(p, M["chin"]) - _z(p, M["nose"])),
    "browGap": Measure(lambda p: _x(p, LEFT["brow_inner"]) - _x(p, RIGHT["brow_inner"])),
    "cheekWidth": Measure(lambda p: _x(p, LEFT["cheek_low"]) - _x(p, RIGHT["cheek_low"])),
    "jawWidth": Measure(lambda p: _x(p, LEFT["jaw"]) - _x(p, RIGHT["jaw"])),
}


def _sided(s: dict[str, int], sign: float) -> dict[str, Measure]:
    """The measures of one side; `sign` makes outwards positive."""

    def eye_height(p: Points) -> Values:
        """Of the line between the eye's corners, where its middle is."""
        return (_y(p, s["eye_inner"]) + _y(p, s["eye_outer"])) / 2

    def eye_middle(p: Points) -> Values:
        return (_x(p, s["eye_inner"]) + _x(p, s["eye_outer"])) / 2

    return {
        "cornerHeight": Measure(lambda p: _y(p, s["corner"]) - _y(p, M["nose"])),
        "cornerOut": Measure(lambda p: sign * _x(p, s["corner"])),
        "upperLip": Measure(lambda p: _y(p, s["lip_upper"]) - _y(p, M["nose"])),
        "lowerLip": Measure(lambda p: _y(p, s["lip_lower"]) - _y(p, M["nose"])),
        "upperRed": Measure(lambda p: _y(p, s["red_upper"]) - _y(p, M["nose"])),
        "lowerRed": Measure(lambda p: _y(p, s["red_lower"]) - _y(p, M["nose"])),
        "mouthAside": Measure(lambda p: sign * (_x(p, M["red_upper"]) + _x(p, M["red_lower"])) / 2),
        "chinAside": Measure(lambda p: sign * _x(p, M["chin"])),
        "eyeOpening": Measure(
            lambda p: (
                (
                    _distance(p, s["lid_upper"], s["lid_lower"])
                    + _distance(p, s["lid_upper_in"], s["lid_lower_in"])
                    + _distance(p, s["lid_upper_out"], s["lid_lower_out"])
                )
                / 3
            ),
            60.0,
        ),
        "upperLid": Measure(lambda p: _y(p, s["lid_upper"]) - eye_height(p), 60.0),
        "lowerLid": Measure(lambda p: _y(p, s["lid_lower"]) - eye_height(p)),
        "browInner": Measure(lambda p: (_y(p, s["brow_inner"]) + _y(p, s["brow_inner_top"])) / 2 - eye_height(p)),
        "browMiddle": Measure(lambda p: _y(p, s["brow_middle"]) - eye_height(p)),
        "browOuter": Measure(lambda p: (_y(p, s["brow_outer"]) + _y(p, s["brow_outer_top"])) / 2 - eye_height(p)),
        "irisOut": Measure(lambda p: sign * (_x(p, s["iris"]) - eye_middle(p))),
        "irisUp": Measure(lambda p: _y(p, s["iris"]) - eye_height(p)),
        "nostril": Measure(lambda p: _y(p, s["nostril"]) - _y(p, M["bridge"])),
        "noseSide": Measure(lambda p: _y(p, s["nose_side"]) - _y(p, M["bridge"])),
        "cheek": Measure(lambda p: _y(p, s["cheek"]) - _y(p, M["bridge"])),
        "cheekOut": Measure(lambda p: sign * _x(p, s["cheek_low"])),
    }


MEASURES: dict[str, Measure] = dict(CENTRAL)
for _side, (_points, _sign) in SIDES.items():
    MEASURES |= {f"{name}{_side}": measure for name, measure in _sided(_points, _sign).items()}
