"""Faces in pictures: MediaPipe's landmarks and expression scores.

Source: Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs" (2019);
Grishchenko et al., "Attention Mesh" (2020); Bazarevsky et al., "BlazeFace" (2019).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from headstudio.motion.arkit import INDEX
from headstudio.tracking.model import face_model

MOST_FACES = 3  # looked for at once
Window = tuple[int, int, int, int]  # of a picture, pixels: left, top, one past right, one past bottom


@dataclass(frozen=True, eq=False)
class Face:
    """One face of one picture.

    `landmarks` are pixels (x right, y down; z as far behind as x is right, about 0 at the middle of the head),
    0 to 467 the mesh, 468 to 472 the iris at the subject's right, 473 to 477 the one at its left. `scores` lie in
    [0, 1] in the order of `ARKIT_NAMES`; the model has none for tongueOut, which is 0.
    """

    landmarks: Float[np.ndarray, "478 3"]
    scores: Float[np.ndarray, " 52"]

    @property
    def centre(self) -> Float[np.ndarray, " 2"]:
        return (self.landmarks[:, :2].max(0) + self.landmarks[:, :2].min(0)) / 2

    @property
    def extent(self) -> float:
        """The diagonal of the box around it, pixels."""
        return float(np.linalg.norm(np.ptp(self.landmarks[:, :2], axis=0)))


class Landmarker:
    """MediaPipe's face landmarker on the CPU, open between `with` and its end; every picture counts for itself."""

    def __init__(self) -> None:
        model = face_model()
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

        self._mediapipe = mediapipe
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)), num_faces=MOST_FACES, output_face_blendshapes=True
        )
        with _silence():
            self._found = vision.FaceLandmarker.create_from_options(options)
            self.faces(np.zeros((64, 64, 3), np.uint8))

    def __enter__(self) -> Landmarker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._found.close()

    def faces(self, picture: UInt8[np.ndarray, "H W 3"], window: Window | None = None) -> list[Face]:
        """The faces in an RGB picture or a part of it: at most `MOST_FACES`, none below a sixth of its longer side."""
        left, top, right, bottom = window or (0, 0, picture.shape[1], picture.shape[0])
        part = np.ascontiguousarray(picture[top:bottom, left:right])
        result = self._found.detect(self._mediapipe.Image(self._mediapipe.ImageFormat.SRGB, part))
        scale = np.array([right - left, bottom - top, right - left], np.float64)
        pairs = zip(result.face_landmarks, result.face_blendshapes, strict=True)
        return [Face(_points(points) * scale + (left, top, 0), _scores(scores)) for points, scores in pairs]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """MediaPipe's libraries tell of themselves on the process's stderr when they start, beyond Python's reach."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _points(landmarks: Any) -> Float[np.ndarray, "478 3"]:
    return np.array([(point.x, point.y, point.z) for point in landmarks], np.float64)


def _scores(categories: Any) -> Float[np.ndarray, " 52"]:
    scores = np.zeros(len(INDEX))
    for category in categories:
        if (column := INDEX.get(category.category_name)) is not None:
            scores[column] = category.score
    return scores
