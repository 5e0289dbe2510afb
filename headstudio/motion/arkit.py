"""The ARKit vocabulary of expressions: names, plausible combinations, and how they and the joints make a `Pose`.

Motions are written as weights over the 52 names; a head takes those that it has (all 52 for the open head). A head
without `jawOpen` but with a jaw joint (FLAME) opens its mouth by the joint, as far as `mouthClose` does not hold the
lips together. FLAME has no joint of the eyelids: it cannot blink by these weights, and its eyes turn by their joints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from headstudio.types import Pose

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.motion import Controls

# fmt: off
_SIDED = (
    "browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp",
    "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress", "mouthSmile",
    "mouthStretch", "mouthUpperUp", "noseSneer",
)
_SINGLE = (
    "browInnerUp", "cheekPuff", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel",
    "mouthLeft", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
    "mouthShrugUpper", "tongueOut",
)
# fmt: on
ARKIT_NAMES: tuple[str, ...] = (*_SINGLE, *(f"{name}{side}" for name in _SIDED for side in ("Left", "Right")))
INDEX: dict[str, int] = {name: i for i, name in enumerate(ARKIT_NAMES)}

# Gaze angles at which an eyeLook weight reaches 1, and how far that shape itself then turns the open head's eyeballs
# (a fit of rotations to them gives 13.2 to 13.8, 8.9 to 9.0 and 10.2 to 10.3): the eye joints turn the rest.
LOOK_DEG = {"side": 35.0, "up": 25.0, "down": 30.0}
TURNED_BY_SHAPE_DEG = {"side": 13.5, "up": 9.0, "down": 10.2}
# The jaw joint's angle that stands for jawOpen = 1 on a head without that shape: turned so far, the open head's own
# jaw joint parts the lips as far as its shape does (the distance of the lips' middles agrees within 2 %).
JAW_OPEN_DEG = 24.0


def weights_of(table: Mapping[str, float]) -> Float[Tensor, " 52"]:
    """A row of weights from names; a name without its side ("mouthSmile") means both sides.

    Raises:
        KeyError: for a name that is not ARKit's.
    """
    weights = torch.zeros(len(ARKIT_NAMES))
    for name, value in table.items():
        for sided in (name,) if name in INDEX else (f"{name}Left", f"{name}Right"):
            weights[INDEX[sided]] = value
    return weights


def constrain(weights: Float[Tensor, "P 52"]) -> Float[Tensor, "P 52"]:
    """A plausible face close to the given one: weights in [0, 1] and no two that a face cannot do at once.

    Blend shapes add up, so contradictions give broken meshes: lips that close further than the jaw is open cross
    each other, a lid that is shut and wide opens again, lips that are pressed over an open jaw tear.
    """
    w = dict(zip(ARKIT_NAMES, weights.clamp(0.0, 1.0).unbind(-1), strict=True))
    w["mouthClose"] = torch.minimum(w["mouthClose"], w["jawOpen"])
    gap = (w["jawOpen"] - w["mouthClose"]).clamp(min=0.0)
    shut = (1.0 - gap / 0.25).clamp(0.0, 1.0)
    for name in ("mouthPressLeft", "mouthPressRight", "mouthRollLower", "mouthRollUpper", "cheekPuff"):
        w[name] = w[name] * shut
    w["tongueOut"] = torch.minimum(w["tongueOut"], gap * 2.0).clamp(max=1.0)
    round_lips = torch.maximum(w["mouthPucker"], w["mouthFunnel"])
    for side in ("Left", "Right"):
        for name in ("mouthSmile", "mouthStretch", "mouthFrown", "mouthDimple"):
            w[name + side] = w[name + side] * (1.0 - 0.8 * round_lips)
        _yield_to(w, f"mouthFrown{side}", f"mouthSmile{side}")
        _yield_to(w, f"eyeWide{side}", f"eyeBlink{side}")
        _yield_to(w, f"eyeSquint{side}", f"eyeBlink{side}")
        _yield_to(w, f"eyeWide{side}", f"eyeSquint{side}")
        _yield_to(w, f"browOuterUp{side}", f"browDown{side}")
        _yield_to(w, f"eyeLookUp{side}", f"eyeLookDown{side}")
        _yield_to(w, f"eyeLookIn{side}", f"eyeLookOut{side}")
    w["mouthPucker"] = torch.minimum(w["mouthPucker"], 1.2 - w["mouthFunnel"])
    _yield_to(w, "jawRight", "jawLeft")
    _yield_to(w, "mouthRight", "mouthLeft")
    return torch.stack([w[name] for name in ARKIT_NAMES], dim=-1)


def _yield_to(weights: dict[str, Tensor], weaker: str, stronger: str) -> None:
    """Together the two reach 1 at most; `stronger` keeps its value."""
    weights[weaker] = torch.minimum(weights[weaker], 1.0 - weights[stronger])


def pose_of(
    head: Controls,
    weights: Float[Tensor, "P 52"],
    gaze_deg: Float[Tensor, "P 2"] | None = None,
    neck_deg: Float[Tensor, "P 3"] | None = None,
) -> Pose:
    """The head's pose for ARKit weights, the eyes' direction and the neck's rotation; names that it lacks are skipped.

    A head with a table of what the weights do (`arkit_mapping`) moves by it.

    Args:
        head: whose names decide the order of the columns.
        weights: made plausible by `constrain`; eyeLook weights are overwritten from the gaze when there is one.
        gaze_deg: (yaw, pitch) of the eyes in the head's frame; yaw grows towards the subject's left (+x), pitch up.
        neck_deg: (yaw, pitch, roll); yaw turns the face towards +x, pitch lifts the chin, roll leans the crown to +x.
    """
    count = len(weights)
    if gaze_deg is not None:
        weights = _with_looks(weights, gaze_deg)
    weights = constrain(weights)
    expression = torch.zeros(count, len(head.expression_names))
    for column, name in enumerate(head.expression_names):
        if name in INDEX:
            expression[:, column] = weights[:, INDEX[name]]
    mapping = head.arkit_mapping
    if mapping is not None:
        expression += weights @ mapping.expression
    joints = torch.zeros(count, len(head.joint_names), 3)
    rotations: dict[str, Tensor] = {}
    if gaze_deg is not None:
        turn = _left_to_the_joints(gaze_deg) if "eyeLookOutLeft" in head.expression_names else gaze_deg
        rotations["eye_left"] = rotations["eye_right"] = rotation_vectors(turn)
    if neck_deg is not None:
        rotations["neck"] = rotation_vectors(neck_deg)
    if "jawOpen" not in head.expression_names:
        rotations["jaw"] = weights @ (plain_jaw() if mapping is None else mapping.jaw)
    for row, name in enumerate(head.joint_names):
        if name in rotations:
            joints[:, row] = rotations[name]
    return Pose(expression=expression, joints=joints)


def plain_jaw() -> Float[Tensor, "52 3"]:
    """How each weight turns the jaw's joint (axis-angle, rad) where no table says: jawOpen opens, mouthClose closes."""
    jaw = torch.zeros(len(ARKIT_NAMES), 3)
    jaw[INDEX["jawOpen"], 0], jaw[INDEX["mouthClose"], 0] = math.radians(JAW_OPEN_DEG), -math.radians(JAW_OPEN_DEG)
    return jaw


def _with_looks(weights: Float[Tensor, "P 52"], gaze_deg: Float[Tensor, "P 2"]) -> Float[Tensor, "P 52"]:
    """The eyeLook weights (lids, and a share of the eyeballs' turn) that go with where the eyes look."""
    weights = weights.clone()
    left, up = gaze_deg[:, 0] / LOOK_DEG["side"], gaze_deg[:, 1]
    looks = {
        "eyeLookOutLeft": left,
        "eyeLookInRight": left,
        "eyeLookInLeft": -left,
        "eyeLookOutRight": -left,
        "eyeLookUpLeft": up / LOOK_DEG["up"],
        "eyeLookUpRight": up / LOOK_DEG["up"],
        "eyeLookDownLeft": -up / LOOK_DEG["down"],
        "eyeLookDownRight": -up / LOOK_DEG["down"],
    }
    for name, value in looks.items():
        weights[:, INDEX[name]] = value.clamp(0.0, 1.0)
    return weights


def _left_to_the_joints(gaze_deg: Float[Tensor, "P 2"]) -> Float[Tensor, "P 2"]:
    """The part of the gaze that the eyeLook shapes do not turn."""
    share = {name: TURNED_BY_SHAPE_DEG[name] / angle for name, angle in LOOK_DEG.items()}
    by_shape = {name: share[name] * gaze_deg.clamp(-angle, angle) for name, angle in LOOK_DEG.items()}
    pitch = torch.where(gaze_deg[:, 1] > 0, by_shape["up"][:, 1], by_shape["down"][:, 1])
    return gaze_deg - torch.stack((by_shape["side"][:, 0], pitch), dim=-1)


def rotation_vectors(angles_deg: Float[Tensor, "P A"]) -> Float[Tensor, "P 3"]:
    """Axis-angle (rad) of yaw, then pitch, then roll about the turned axes; A is 2 or 3, signs as in `pose_of`."""
    yaw, pitch = torch.deg2rad(angles_deg[:, 0]), torch.deg2rad(angles_deg[:, 1])
    roll = torch.deg2rad(angles_deg[:, 2]) if angles_deg.shape[1] == 3 else torch.zeros_like(yaw)
    turned = _quaternion_product(_about(1, yaw), _quaternion_product(_about(0, -pitch), _about(2, -roll)))
    vector = turned[:, 1:] * torch.sign(turned[:, :1] + 1e-12)
    sine = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    angle = 2.0 * torch.atan2(sine, turned[:, :1].abs())
    return torch.where(sine > 1e-9, vector * (angle / sine.clamp(min=1e-9)), 2.0 * vector)


def _about(axis: int, angle: Float[Tensor, " P"]) -> Float[Tensor, "P 4"]:
    quaternion = torch.zeros(len(angle), 4)
    quaternion[:, 0] = (angle / 2).cos()
    quaternion[:, 1 + axis] = (angle / 2).sin()
    return quaternion


def _quaternion_product(a: Float[Tensor, "P 4"], b: Float[Tensor, "P 4"]) -> Float[Tensor, "P 4"]:
    vector = a[:, :1] * b[:, 1:] + b[:, :1] * a[:, 1:] + torch.linalg.cross(a[:, 1:], b[:, 1:])
    return torch.cat((a[:, :1] * b[:, :1] - (a[:, 1:] * b[:, 1:]).sum(-1, keepdim=True), vector), dim=-1)
