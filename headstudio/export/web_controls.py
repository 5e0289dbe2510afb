"""The sliders of a page: what a person turns, and what of a pose each of them moves.

A pose's numbers have names here: an expression's own, or a joint and an axis (`neck.y`, radians). A slider of value v
sets each of its numbers to v * plus where v is at least 0, and to v * minus elsewhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstudio.motion.arkit import INDEX, JAW_OPEN_DEG, LOOK_DEG, TURNED_BY_SHAPE_DEG

if TYPE_CHECKING:
    from headstudio.motion import Controls

Targets = dict[str, tuple[float, float]]
_RAD = math.pi / 180.0
_COEFFICIENT_RANGE = 3.0  # of expressions that are no ARKit weights: standard deviations of FLAME's space
NECK_DEG, JAW_SIDE_DEG = {"turn": 50.0, "nod": 30.0, "lean": 30.0}, 8.0


@dataclass(frozen=True)
class Slider:
    """One slider; `unless` is an expression on whose heads it is left out."""

    group: str
    label: str
    low: float
    high: float
    targets: Targets
    unit: str = ""
    unless: str | None = None


def _one(*names: str) -> Targets:
    return dict.fromkeys(names, (1.0, 0.0))


def _both(*names: str) -> Targets:
    return _one(*(name + side for name in names for side in ("Left", "Right")))


def _sides(left: str, right: str) -> Targets:
    return {left: (1.0, 0.0), right: (0.0, -1.0)}


def _eyes(axis: str, up: float, down: float) -> Targets:
    return {f"eye_{side}.{axis}": (up * _RAD, down * _RAD) for side in ("left", "right")}


def _left_over(name: str) -> float:
    """The share of a gaze that the eyeLook shape leaves to the joint, as in `arkit.pose_of`."""
    return 1.0 - TURNED_BY_SHAPE_DEG[name] / LOOK_DEG[name]


def _gaze() -> tuple[Slider, ...]:
    side, up, down = LOOK_DEG["side"], LOOK_DEG["up"], LOOK_DEG["down"]
    sideways = {
        **_eyes("y", _left_over("side"), _left_over("side")),
        **dict.fromkeys(("eyeLookOutLeft", "eyeLookInRight"), (1 / side, 0.0)),
        **dict.fromkeys(("eyeLookInLeft", "eyeLookOutRight"), (0.0, -1 / side)),
    }
    upwards = {
        **_eyes("x", -_left_over("up"), -_left_over("down")),
        **dict.fromkeys(("eyeLookUpLeft", "eyeLookUpRight"), (1 / up, 0.0)),
        **dict.fromkeys(("eyeLookDownLeft", "eyeLookDownRight"), (0.0, -1 / down)),
    }
    plain, shapes = {"y": _eyes("y", 1.0, 1.0), "x": _eyes("x", -1.0, -1.0)}, "eyeLookOutLeft"
    return (
        Slider("Eyes", "Look sideways", -side, side, sideways, "°"),
        Slider("Eyes", "Look up, down", -down, up, upwards, "°"),
        Slider("Eyes", "Look sideways", -side, side, plain["y"], "°", unless=shapes),
        Slider("Eyes", "Look up, down", -down, up, plain["x"], "°", unless=shapes),
    )


COMMON: tuple[Slider, ...] = (
    Slider("Jaw", "Open", 0, 1, _one("jawOpen")),
    Slider("Jaw", "Open", 0, 1, {"jaw.x": (JAW_OPEN_DEG * _RAD, 0.0)}, unless="jawOpen"),
    Slider("Jaw", "Sideways", -1, 1, _sides("jawLeft", "jawRight")),
    Slider("Jaw", "Sideways", -1, 1, {"jaw.y": (JAW_SIDE_DEG * _RAD,) * 2}, unless="jawLeft"),
    Slider("Jaw", "Forward", 0, 1, _one("jawForward")),
    Slider("Lips", "Pucker", 0, 1, _one("mouthPucker")),
    Slider("Lips", "Round", 0, 1, _one("mouthFunnel")),
    Slider("Lips", "Stretch", 0, 1, _both("mouthStretch")),
    Slider("Lips", "Sideways", -1, 1, _sides("mouthLeft", "mouthRight")),
    Slider("Smile", "Smile", 0, 1, _both("mouthSmile")),
    Slider("Smile", "Frown", 0, 1, _both("mouthFrown")),
    Slider("Smile", "Raise cheeks", 0, 1, _both("cheekSquint")),
    Slider("Smile", "Puff cheeks", 0, 1, _one("cheekPuff")),
    Slider("Brows", "Raise", 0, 1, _one("browInnerUp") | _both("browOuterUp")),
    Slider("Brows", "Lower", 0, 1, _both("browDown")),
    Slider("Brows", "Wrinkle nose", 0, 1, _both("noseSneer")),
    Slider("Eyes", "Close left", 0, 1, _one("eyeBlinkLeft")),
    Slider("Eyes", "Close right", 0, 1, _one("eyeBlinkRight")),
    Slider("Eyes", "Widen", 0, 1, _both("eyeWide")),
    *_gaze(),
    Slider("Neck", "Turn", -NECK_DEG["turn"], NECK_DEG["turn"], {"neck.y": (_RAD, _RAD)}, "°"),
    Slider("Neck", "Nod", -NECK_DEG["nod"], NECK_DEG["nod"], {"neck.x": (-_RAD, -_RAD)}, "°"),
    Slider("Neck", "Lean", -NECK_DEG["lean"], NECK_DEG["lean"], {"neck.z": (-_RAD, -_RAD)}, "°"),
)
"""The sliders that a person meets first; a positive side is the head's own left, which a viewer sees at the right."""


def common_sliders(head: Controls) -> list[dict[str, Any]]:
    """Those of `COMMON` that move anything on this head, as `described`."""
    numbers = pose_numbers(head)
    own = [slider for slider in COMMON if slider.unless is None or slider.unless not in head.expression_names]
    shown: dict[tuple[str, str], Slider] = {}
    for slider in own:
        if any(name in numbers for name in slider.targets):
            # a head without a shape has two rows of that name, of which the later one drives the joint
            shown[slider.group, slider.label] = slider
    return [_described(slider, numbers) for slider in shown.values()]


def all_sliders(head: Controls) -> list[dict[str, Any]]:
    """One slider for each of the head's expressions, as `described`."""
    numbers = pose_numbers(head)
    sliders = []
    for name in head.expression_names:
        low, high = (0.0, 1.0) if name in INDEX else (-_COEFFICIENT_RANGE, _COEFFICIENT_RANGE)
        sliders.append(_described(Slider("All", _spelt(name), low, high, {name: (1.0, 1.0)}), numbers))
    return sliders


def pose_numbers(head: Controls) -> dict[str, int]:
    """Where each number of a pose lies: expressions first, then x, y and z of every joint."""
    names = [*head.expression_names, *(f"{joint}.{axis}" for joint in head.joint_names for axis in "xyz")]
    return {name: place for place, name in enumerate(names)}


def _described(slider: Slider, numbers: Mapping[str, int]) -> dict[str, Any]:
    """As the page reads it: `targets` are [place, plus, minus]."""
    targets = [[numbers[name], *signs] for name, signs in slider.targets.items() if name in numbers]
    ends = {"low": slider.low, "high": slider.high, "step": 0.5 if slider.unit else 0.01}
    return {"group": slider.group, "label": slider.label, "unit": slider.unit, **ends, "targets": targets}


def _spelt(name: str) -> str:
    """browInnerUp as "brow inner up"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").lower()
