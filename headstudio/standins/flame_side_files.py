"""FLAME's side files for the stand-in: where MediaPipe's and the 68 landmarks sit, and which vertices are what."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.head.bake_landmarks import nearest
from headstudio.standins.flame_mesh import Mesh

Array = NDArray[Any]
# Indices of MediaPipe's 468-point mesh. Rings run from a corner along the lower edge to the other corner and back along
# the upper; brows run from the nose outwards.
RINGS = {
    "lips_outer": "61 146 91 181 84 17 314 405 321 375 291 409 270 269 267 0 37 39 40 185",
    "lips_inner": "78 95 88 178 87 14 317 402 318 324 308 415 310 311 312 13 82 81 80 191",
    "right_eye": "33 7 163 144 145 153 154 155 133 173 157 158 159 160 161 246",
    "left_eye": "263 249 390 373 374 380 381 382 362 398 384 385 386 387 388 466",
}
BROWS = {
    "right_brow_upper": "107 66 105 63 70",
    "right_brow_lower": "55 65 52 53 46",
    "left_brow_upper": "336 296 334 293 300",
    "left_brow_lower": "285 295 282 283 276",
}


def write_mediapipe(path: Path, mesh: Mesh) -> None:
    """`mediapipe_landmark_embedding.npz`: brows, eyes and lips (the real one has 13 points of the nose besides)."""
    points, indices = [], []
    for name, words in RINGS.items():
        numbers = [int(word) for word in words.split()]
        points.append(_ring(mesh.lines[name], len(numbers), from_left=name == "left_eye"))
        indices += numbers
    for name, words in BROWS.items():
        points.append(_along(mesh.lines[name], len(words.split())))
        indices += [int(word) for word in words.split()]
    order = np.argsort(indices)[::-1]  # any order will do, as the file names each point
    faces, weights = nearest(np.concatenate(points)[order], mesh.vertices, mesh.faces)
    np.savez(path, lmk_face_idx=faces, lmk_b_coords=weights, landmark_indices=np.array(indices)[order])


def write_static(path: Path, mesh: Mesh) -> None:
    """`flame_static_embedding.pkl`: points 17 to 67 of the 68, brows, nose, eyes and lips."""
    lines = mesh.lines
    brow_right = _along((lines["right_brow_upper"] + lines["right_brow_lower"]) / 2, 5)[::-1]  # 17-21: towards the nose
    brow_left = _along((lines["left_brow_upper"] + lines["left_brow_lower"]) / 2, 5)
    eye_right = _upper_first(_ring(lines["right_eye"], 6, from_left=False))
    eye_left = _upper_first(_ring(lines["left_eye"], 6, from_left=False))
    lips_outer = _upper_first(_ring(lines["lips_outer"], 12, from_left=False))
    lips_inner = _upper_first(_ring(lines["lips_inner"], 8, from_left=False))
    points = [brow_right, brow_left, _nose(mesh), eye_right, eye_left, lips_outer, lips_inner]
    faces, weights = nearest(np.concatenate(points), mesh.vertices, mesh.faces)
    path.write_bytes(pickle.dumps({"lmk_face_idx": faces, "lmk_b_coords": weights}, protocol=2))


def write_masks(path: Path, mesh: Mesh) -> None:
    """`FLAME_masks.pkl`: vertex ids by the names of the real file, as far as the open head knows them."""
    centre = mesh.vertices[mesh.faces].mean(1)
    left = centre[:, 0] > mesh.vertices[:, 0].mean()
    brow, lips = mesh.lines["right_brow_upper"], mesh.lines["lips_outer"]
    skin = _is(mesh, "skin", "brows", "beard")
    front = centre[:, 2] > brow[:, 2].min() - 0.02
    between = abs(centre[:, 0] - lips[:, 0].mean()) < 0.02
    faces = {
        "lips": _is(mesh, "lips"),
        "neck": _is(mesh, "neck"),
        "scalp": _is(mesh, "scalp"),
        "left_ear": _is(mesh, "ears") & left,
        "right_ear": _is(mesh, "ears") & ~left,
        "left_eyeball": _is(mesh, "sclera", "iris") & left,
        "right_eyeball": _is(mesh, "sclera", "iris") & ~left,
        "left_eye_region": _is(mesh, "socket") & left,
        "right_eye_region": _is(mesh, "socket") & ~left,
        "eye_region": _is(mesh, "socket"),
        "forehead": skin & front & (centre[:, 1] > brow[:, 1].max()),
        "nose": skin & between & (centre[:, 1] > lips[:, 1].max()) & (centre[:, 1] < brow[:, 1].min()),
        "face": (skin & front) | _is(mesh, "lips", "socket"),
        "boundary": _is(mesh, "neck") & (centre[:, 1] < mesh.vertices[:, 1].min() + 0.01),
    }
    path.write_bytes(pickle.dumps({name: np.unique(mesh.faces[mine]) for name, mine in faces.items()}, protocol=2))


def _is(mesh: Mesh, *names: str) -> Array:
    return np.isin(mesh.face_region, [mesh.region_names.index(name) for name in names])


def _along(points: Array, count: int) -> Array:
    """`count` points at equal steps of an open line (n, 3)."""
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0, arc[-1], count)
    return np.stack([np.interp(at, arc, points[:, axis]) for axis in range(3)], -1)


def _ring(points: Array, count: int, *, from_left: bool) -> Array:
    """`count` points of a closed line: from one corner along the lower edge to the other and back along the upper."""
    start, end = points[:, 0].argmin(), points[:, 0].argmax()
    if from_left:
        start, end = end, start
    around = np.roll(points, -start, axis=0)
    opposite = (end - start) % len(points)
    one, other = around[: opposite + 1], np.concatenate([around[opposite:], around[:1]])
    if one[:, 1].mean() > other[:, 1].mean():
        one, other = other[::-1], one[::-1]
    half = count // 2
    return np.concatenate([_along(one, half + 1)[:-1], _along(other, count - half + 1)[:-1]])


def _upper_first(ring: Array) -> Array:
    """The same ring the other way round, from the same corner: the order of the 68 landmarks."""
    return np.concatenate([ring[:1], ring[:0:-1]])


def _nose(mesh: Mesh) -> Array:
    """Four points down the bridge (27-30) and five under it from right to left (31-35), roughly."""
    brow = (mesh.lines["right_brow_lower"][0] + mesh.lines["left_brow_lower"][0]) / 2
    above_lip = mesh.lines["lips_outer"].mean(0) + np.array([0, 0.02, 0])
    bridge = np.linspace(brow, above_lip + np.array([0, 0.015, 0.02]), 4)
    under = above_lip + np.linspace([-0.012, 0, 0.005], [0.012, 0, 0.005], 5)
    return np.concatenate([bridge, under])
