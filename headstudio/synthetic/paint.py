"""What colour and which ground-truth label each pixel of a synthetic head has.

Skin is painted in rest coordinates, so hairline, brows, moustache, lips and face paint are crisp whatever the
triangles are, and stay on the skin when it moves.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from headstudio.head.bake_regions import IRIS_RADIUS, brow_curve
from headstudio.synthetic.vocabulary import BEARDS, EYES, HAIRS, HATS, LIPS, PAINTS, SKINS, Attributes

Array = NDArray[Any]
LABELS = (
    "background",
    "skin",
    "hair",
    "beard",
    "brows",
    "lips",
    "iris",
    "sclera",
    "teeth",
    "tongue",
    "mouth",
    "hat",
    "paint",
)
BACKGROUND, SKIN, HAIR, BEARD, BROWS, LIP, IRIS, SCLERA, TEETH, TONGUE, MOUTH, HAT, PAINT = range(len(LABELS))
# What a triangle is made of, before paint.
SKIN_FACE, EYE_FACE, TEETH_FACE, TONGUE_FACE, MOUTH_FACE, HAIR_FACE, BEARD_FACE, HAT_FACE = range(8)
PALETTE_ROWS = ("skin", "hair", "beard", "lips", "eyes", "hat")
MOUSTACHE, GOATEE, FULL, LONG = (BEARDS.index(name) for name in ("moustache", "goatee", "full", "long"))
WHITE_FACE, BLACK_MASK, RED_STRIPES, BLUE_STRIPES = (
    PAINTS.index(name) for name in ("white_face", "black_mask", "red_stripes", "blue_stripes")
)


def palette(attributes: Attributes) -> Array:
    """The six colours (6, 3) that the attributes name, in the order of PALETTE_ROWS."""
    skin = np.array(SKINS[attributes.skin])
    lips = skin * (0.80, 0.58, 0.58) if attributes.lips == "natural" else LIPS[attributes.lips]
    rows = [
        skin,
        HAIRS[attributes.hair_color],
        HAIRS[attributes.beard_color],
        lips,
        EYES[attributes.eyes],
        HATS[attributes.hat_color] if attributes.hat != "crown" else (0.95, 0.72, 0.12),
    ]
    return np.array(rows)


def switches(attributes: Attributes) -> Array:
    """The numbers that the kernel branches on: painted scalp, beard, paint, age, lips."""
    scalp = {"bald": 0, "mohawk": 2}.get(attributes.hair_style, 1)
    age = {"adult": 0, "young": 1, "old": 2}[attributes.age]
    lips = int(attributes.mouth != "none")
    return np.array([scalp, BEARDS.index(attributes.beard), PAINTS.index(attributes.paint), age, lips])


BROW = brow_curve(12).reshape(-1, 2)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _edge(value: float, width: float) -> float:
    """0 to 1 across `width` around value 0."""
    return min(max(value / width + 0.5, 0.0), 1.0)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _beard_cover(x: float, y: float, amount: float, beard: int) -> float:
    """How much of the beard's paint lies at a rest position; `amount` is the full beard's field."""
    upper_lip = min(_edge(-0.205 - y, 0.02), _edge(0.19 - abs(x), 0.03)) * _edge(y + 0.315, 0.02)
    around = min(_edge(0.185 - abs(x), 0.03), _edge(-0.375 - y, 0.02))
    if beard == MOUSTACHE:
        return upper_lip
    if beard == GOATEE:
        return max(0.0, around) * min(amount * 2.0, 1.0)
    if beard >= FULL:
        return max(amount, upper_lip * 0.9)
    return 0.0


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _stripes(x: float, y: float, z: float) -> float:
    """Three slanted stripes on each cheek."""
    if z < 0.2 or abs(x) < 0.15 or abs(x) > 0.40 or y > 0.02 or y < -0.24:
        return 0.0
    phase = (y + 0.24 - 0.25 * (abs(x) - 0.15)) / 0.085
    return 1.0 if 0.0 <= phase < 3.0 and phase - np.floor(phase) < 0.5 else 0.0


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _wrinkles(x: float, y: float, z: float) -> float:
    """Darkness of an old face's creases: forehead, crow's feet, folds from nose to mouth."""
    dark = 0.0
    if z > 0.3 and abs(x) < 0.27 and 0.215 < y < 0.345:
        dark = 0.30 if (y - 0.215) % 0.045 < 0.016 else 0.0
    fold = abs(abs(x) - (0.115 + (-0.12 - y) * 0.45))
    if z > 0.3 and -0.33 < y < -0.12 and fold < 0.014:
        dark = 0.35
    if z > 0.2 and 0.30 < abs(x) < 0.37 and 0.03 < y < 0.15:
        dark = max(dark, 0.28 if y % 0.04 < 0.014 else 0.0)
    return dark


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _paint_skin(
    point: Any, lip: float, scalp_height: float, beard_field: float, colors: Any, switch: Any, out: Any
) -> int:
    """Writes the skin's colour at a rest position into `out` and returns the label."""
    x, y, z = point[0], point[1], point[2]
    scalp, beard, paint, age = switch[0], switch[1], switch[2], switch[3]
    label = SKIN
    for c in range(3):
        out[c] = colors[0, c]
    if age == 2:
        dark = 1.0 - _wrinkles(x, y, z)
        for c in range(3):
            out[c] *= dark
    if age == 1 and z > 0.2:  # rosy cheeks
        rosy = np.exp(-((abs(x) - 0.25) ** 2 + (y + 0.10) ** 2) / 0.006)
        out[0] = min(out[0] + 0.15 * rosy, 1.0)
        out[1] *= 1.0 - 0.35 * rosy
        out[2] *= 1.0 - 0.30 * rosy
    painted = 0.0
    stripe_color = 0
    if paint == WHITE_FACE and z > 0.0:
        ellipse = (x / 0.40) ** 2 + ((y + 0.12) / 0.46) ** 2
        painted = _edge(1.0 - ellipse, 0.08)
        stripe_color = 1
    elif paint == BLACK_MASK and z > 0.0:
        painted = min(_edge(y - 0.005, 0.02), _edge(0.185 - y, 0.02))
    elif paint in (RED_STRIPES, BLUE_STRIPES):
        painted = _stripes(x, y, z)
        stripe_color = 2 if paint == RED_STRIPES else 3
    if painted > 0.0:
        r = 0.05 if stripe_color == 0 else (0.97 if stripe_color == 1 else (0.85 if stripe_color == 2 else 0.10))
        g = 0.05 if stripe_color == 0 else (0.97 if stripe_color == 1 else (0.05 if stripe_color == 2 else 0.20))
        b = 0.05 if stripe_color == 0 else (0.97 if stripe_color == 1 else (0.05 if stripe_color == 2 else 0.85))
        out[0] += painted * (r - out[0])
        out[1] += painted * (g - out[1])
        out[2] += painted * (b - out[2])
        if painted > 0.5:
            label = PAINT
    cover = _beard_cover(x, y, beard_field, beard)
    if cover > 0.0:
        for c in range(3):
            out[c] += cover * (colors[2, c] - out[c])
        if cover > 0.5:
            label = BEARD
    if z > 0.3:
        nearest = 1.0
        for i in range(BROW.shape[0]):
            nearest = min(nearest, (x - BROW[i, 0]) ** 2 + (y - BROW[i, 1]) ** 2)
        hairs = _edge(0.023 - np.sqrt(nearest), 0.012)
        if hairs > 0.0:
            for c in range(3):
                out[c] += hairs * (colors[1, c] - out[c])
            if hairs > 0.5:
                label = BROWS
    grown = _edge(scalp_height, 0.02)
    if scalp == 2:
        grown *= _edge(0.10 - abs(x), 0.02)
    if scalp > 0 and grown > 0.0:
        for c in range(3):
            out[c] += grown * (colors[1, c] - out[c])
        if grown > 0.5:
            label = HAIR
    if lip > 0.0 and switch[4] == 1:
        red = _edge(lip - 0.5, 0.3)
        for c in range(3):
            out[c] += red * (colors[3, c] - out[c])
        if red > 0.5:
            label = LIP
    return label


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _plain(kind: int, distance: float, colors: Any, out: Any) -> int:
    """Everything that is not skin: eyes by distance from the pupil, teeth, tongue, mouth, hair, beard, hat."""
    if kind in (HAIR_FACE, BEARD_FACE, HAT_FACE):
        row = 1 if kind == HAIR_FACE else (2 if kind == BEARD_FACE else 5)
        for c in range(3):
            out[c] = colors[row, c]
        return HAIR if kind == HAIR_FACE else (BEARD if kind == BEARD_FACE else HAT)
    if kind == TEETH_FACE:
        out[0], out[1], out[2] = 0.97, 0.95, 0.90
        return TEETH
    if kind == TONGUE_FACE:
        out[0], out[1], out[2] = 0.78, 0.34, 0.36
        return TONGUE
    if kind == MOUTH_FACE:
        out[0], out[1], out[2] = 0.20, 0.05, 0.06
        return MOUTH
    if distance < 0.016:
        out[0], out[1], out[2] = 0.02, 0.02, 0.02
        return IRIS
    if distance < IRIS_RADIUS:
        for c in range(3):
            out[c] = colors[4, c]
        return IRIS
    out[0], out[1], out[2] = 0.96, 0.96, 0.96
    return SCLERA


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def paint_pixels(
    face_index: Any,  # (H, W) int32
    weights: Any,  # (H, W, 3)
    faces: Any,  # (F, 3)
    kinds: Any,  # (F,) *_FACE
    rest: Any,  # (V, 3) rest positions
    fields: Any,  # (V, 4): lip, scalp height, beard amount, distance to the pupil
    normals: Any,  # (V, 3) posed unit normals
    toward: Any,  # (3,) unit vector from the head to the camera
    colors: Any,  # (6, 3)
    switch: Any,  # (5,)
    background: Any,  # (3,)
    picture: Any,  # (H, W, 3) out
    labels: Any,  # (H, W) out
) -> None:
    """Shade every pixel: albedo times light from above and from the viewer."""
    height, width = face_index.shape
    point, normal, color, field = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(4)
    for row in range(height):
        for column in range(width):
            face = face_index[row, column]
            if face < 0:
                for c in range(3):
                    picture[row, column, c] = background[c]
                labels[row, column] = BACKGROUND
                continue
            for c in range(3):
                point[c] = 0.0
                normal[c] = 0.0
            for c in range(4):
                field[c] = 0.0
            for k in range(3):
                vertex, weight = faces[face, k], weights[row, column, k]
                for c in range(3):
                    point[c] += weight * rest[vertex, c]
                    normal[c] += weight * normals[vertex, c]
                for c in range(4):
                    field[c] += weight * fields[vertex, c]
            kind = kinds[face]
            if kind == SKIN_FACE:
                label = _paint_skin(point, field[0], field[1], field[2], colors, switch, color)
            else:
                label = _plain(kind, field[3], colors, color)
            length = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2) + 1e-9
            facing = abs(normal[0] * toward[0] + normal[1] * toward[1] + normal[2] * toward[2]) / length
            light = 0.58 + 0.30 * facing + 0.12 * normal[1] / length
            for c in range(3):
                picture[row, column, c] = min(color[c] * light, 1.0)
            labels[row, column] = label
