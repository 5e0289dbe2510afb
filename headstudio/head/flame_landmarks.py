"""FLAME's landmark lines, from the best source that there is.

1. `mediapipe_landmark_embedding.npz`: 105 points of MediaPipe's mesh (brows, eyes, lips, nose), as the official code
   uses; the face's oval is not among them and is carried over from the open head.
2. `flame_static_embedding.pkl`, or DECA's `landmark_embedding.npy`, which holds the same: 51 of the 68 points of iBUG
   (brows, nose, eyes, lips). One line per brow: the lower one lies a brow's width below.
3. Neither: the open head's own lines, carried over by `flame_register`.

A pupil is the foremost point of its eyeball, whatever the source. Left and right are the subject's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.head.bake_landmarks import nearest
from headstudio.head.flame_file import NUM_FACES, beside, numbers, read_npz
from headstudio.head.flame_register import Carried, Skinned
from headstudio.head.model import Polyline
from headstudio.head.safe_pickle import load_object_npy, load_pickle

Array = NDArray[Any]
MEDIAPIPE_FILE, STATIC_FILE = "mediapipe_landmark_embedding.npz", "flame_static_embedding.pkl"
DECA_FILE = "landmark_embedding.npy"
DECA_KEYS = {"static_lmk_faces_idx": "lmk_face_idx", "static_lmk_bary_coords": "lmk_b_coords"}
LINES = (  # name and whether it is closed, in the open head's order
    ("face_oval", True),
    ("lips_outer", True),
    ("lips_inner", True),
    ("right_eye", True),
    ("right_brow_upper", False),
    ("right_brow_lower", False),
    ("right_pupil", False),
    ("left_eye", True),
    ("left_brow_upper", False),
    ("left_brow_lower", False),
    ("left_pupil", False),
)
# Vertices of MediaPipe's face mesh (468 points) in the order in which FACEMESH_LIPS and its like join them.
MEDIAPIPE: Mapping[str, tuple[int, ...]] = {
    "lips_outer": (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
    "lips_inner": (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191),
    "right_eye": (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    "left_eye": (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    "right_brow_upper": (107, 66, 105, 63, 70),
    "right_brow_lower": (55, 65, 52, 53, 46),
    "left_brow_upper": (336, 296, 334, 293, 300),
    "left_brow_lower": (285, 295, 282, 283, 276),
}
# Rows of the 51 points, which are 17 to 67 of iBUG's 68; brows from the nose outwards.
STATIC: Mapping[str, tuple[int, ...]] = {
    "right_brow_upper": (4, 3, 2, 1, 0),
    "left_brow_upper": (5, 6, 7, 8, 9),
    "right_eye": tuple(range(19, 25)),
    "left_eye": tuple(range(25, 31)),
    "lips_outer": tuple(range(31, 43)),
    "lips_inner": tuple(range(43, 51)),
}
NUM_STATIC, NUM_STATIC_WITH_JAW = 51, 68
BROW_WIDTH = (0.044, 0.016)  # world units, at the nose and outside: the open head's


@dataclass(frozen=True)
class Points:
    """Points (n) on a surface: a triangle and its three weights each."""

    faces: Array  # (n,) int64
    bary: Array  # (n, 3)

    def at(self, rows: Sequence[int]) -> Points:
        return Points(self.faces[list(rows)], self.bary[list(rows)])


@dataclass(frozen=True)
class Embedding:
    """The lines that a file has, by our names."""

    path: Path
    lines: dict[str, Points]
    is_mediapipe: bool

    @property
    def source(self) -> str:
        whose = "MediaPipe's" if self.is_mediapipe else "of the static embedding"
        return f"brows, eyes and lips are {whose} ({self.path})"


@dataclass(frozen=True)
class Lines:
    """All landmark lines as `HeadModel` takes them, and where they come from in a few words."""

    points: Points
    polylines: tuple[Polyline, ...]
    source: str


def find_file(landmark_path: str | None, model_path: Path) -> Path | None:
    """The embedding that is named, or lies beside the model, MediaPipe's first; None if there is none.

    Raises:
        UserError: the file that is named is not there.
    """
    return beside("landmark_path", landmark_path, model_path, (MEDIAPIPE_FILE, STATIC_FILE, DECA_FILE))


def lines(path: Path | None, flame: Skinned, carried: Carried) -> Lines:
    """The lines of FLAME's template (world units).

    Args:
        path: the embedding, or None.
        carried: the open head laid over the template.

    Raises:
        UserError: the file is refused, damaged, of another mesh, or puts a point on the wrong side.
    """
    embedding = None if path is None else read_embedding(path)
    found = {} if embedding is None else _completed(embedding, flame)
    for side, ids in flame.eyeballs().items():
        found[f"{side}_pupil"] = _at_vertex(flame.foremost(ids), flame)
    parts, polylines, first = [], [], 0
    for name, closed in LINES:
        part = found.get(name) or _onto(carried.line(name), flame)
        polylines.append((name, first, first + len(part.faces), closed))
        parts.append(part)
        first += len(part.faces)
    points = Points(np.concatenate([part.faces for part in parts]), np.concatenate([part.bary for part in parts]))
    source = embedding.source if embedding else "landmarks are carried over from the open head"
    return Lines(points, tuple(polylines), source)


def _completed(embedding: Embedding, flame: Skinned) -> dict[str, Points]:
    """Its lines, on the right sides, and a lower line for a brow that has one line only."""
    found = dict(embedding.lines)
    _check_sides(embedding.path, found, flame)
    for side in ("right", "left"):
        if f"{side}_brow_lower" not in found:
            upper = _places(found[f"{side}_brow_upper"], flame)
            down = np.linspace(*BROW_WIDTH, len(upper))[:, None] * [0.0, -1.0, 0.0]
            found[f"{side}_brow_lower"] = _onto(upper + down, flame)
    return found


def read_embedding(path: Path) -> Embedding:
    """The lines that a file has.

    Raises:
        UserError: it is none of the known embeddings, or its points do not lie on FLAME's triangles.
    """
    content = _content(path)
    if not isinstance(content, dict) or not {"lmk_face_idx", "lmk_b_coords"} <= set(content):
        raise UserError(
            f"{path} is no landmark embedding of FLAME: it lacks lmk_face_idx and lmk_b_coords; "
            f"name {MEDIAPIPE_FILE} or {STATIC_FILE}."
        )
    points = _checked(path, numbers(path, "lmk_face_idx", content["lmk_face_idx"]), content["lmk_b_coords"])
    if "landmark_indices" in content:
        row = {
            int(index): at for at, index in enumerate(numbers(path, "landmark_indices", content["landmark_indices"]))
        }
        if len(row) != len(points.faces):
            raise UserError(f"{path}: landmark_indices names {len(row)} points and lmk_face_idx {len(points.faces)}.")
        if lacking := sorted({index for line in MEDIAPIPE.values() for index in line} - set(row)):
            raise UserError(f"{path}: landmark_indices lacks MediaPipe's points {lacking[:5]} (brows, eyes or lips).")
        chosen = {name: points.at([row[index] for index in line]) for name, line in MEDIAPIPE.items()}
        return Embedding(path, chosen, is_mediapipe=True)
    if len(points.faces) not in (NUM_STATIC, NUM_STATIC_WITH_JAW):
        raise UserError(
            f"{path}: lmk_face_idx has {len(points.faces)} points where a static embedding has {NUM_STATIC}."
        )
    skipped = len(points.faces) - NUM_STATIC
    chosen = {name: points.at([skipped + index for index in line]) for name, line in STATIC.items()}
    return Embedding(path, chosen, is_mediapipe=False)


def _content(path: Path) -> Any:
    if path.suffix != ".npy":
        return read_npz(path) if path.suffix == ".npz" else load_pickle(path)
    content = load_object_npy(path)
    return {DECA_KEYS.get(key, key): value for key, value in content.items()} if isinstance(content, dict) else content


def _checked(path: Path, faces: Array, weights: Any) -> Points:
    bary = numbers(path, "lmk_b_coords", weights).astype(np.float64)
    faces = np.asarray(faces)
    if faces.ndim != 1 or bary.shape != (len(faces), 3):
        raise UserError(f"{path}: lmk_face_idx has the shape {faces.shape} and lmk_b_coords {bary.shape}.")
    if len(faces) and (faces.min() < 0 or faces.max() >= NUM_FACES):
        raise UserError(f"{path}: lmk_face_idx holds triangles outside 0..{NUM_FACES - 1}; it is of another mesh.")
    if np.abs(bary.sum(1) - 1).max(initial=0) > 1e-3 or bary.min(initial=0) < -1e-2:
        raise UserError(f"{path}: lmk_b_coords must be at least 0 and add up to 1 in each row.")
    bary = np.maximum(bary, 0)
    return Points(faces.astype(np.int64), bary / bary.sum(1, keepdims=True))


def _check_sides(path: Path, found: Mapping[str, Points], flame: Skinned) -> None:
    """The subject's left is +x and mouths are below eyes: an embedding of another mesh rarely keeps to that."""
    middle = {name: _places(points, flame).mean(0) for name, points in found.items()}
    left, right, mouth = middle["left_eye"], middle["right_eye"], middle["lips_inner"]
    if not (left[0] > mouth[0] > right[0] and mouth[1] < min(left[1], right[1])):
        raise UserError(f"{path} puts eyes and mouth where FLAME does not have them; it is of another mesh.")


def _places(points: Points, flame: Skinned) -> Array:
    return np.asarray((flame.vertices[flame.faces[points.faces]] * points.bary[..., None]).sum(1))


def _onto(places: Array, flame: Skinned) -> Points:
    """The nearest points of the surface but for the eyeballs, which lie close behind the lids."""
    eyes = np.concatenate(list(flame.eyeballs().values()))
    skin = np.flatnonzero(~np.isin(flame.faces, eyes).any(1))
    faces, bary = nearest(places, flame.vertices, flame.faces[skin])
    return Points(skin[faces], bary)


def _at_vertex(vertex: int, flame: Skinned) -> Points:
    face, corner = np.argwhere(flame.faces == vertex)[0]
    return Points(np.array([face]), np.eye(3)[[corner]])
