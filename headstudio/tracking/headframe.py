"""Landmarks in the head's own frame: as if the face looked straight at the viewer, whatever the film's camera did.

The landmarker's depths are not of the pictures' scale: near cameras and its habits stretch them. The rays of an
assumed camera take the perspective out of a face, and one factor for a whole film is chosen so that its rigid points
have the depth of a head's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from headstudio.tracking.measures import MEASURES
from headstudio.tracking.pose import FLIP, similarity
from headstudio.tracking.table import Rigid, fitted

FOCAL = 1.0  # of the assumed camera, in the picture's longer sides: 53 degrees from edge to edge
SAMPLE = 300  # frames that the depth's factor is found from
CHUNK = 1000  # frames at a time, so that an hour's film needs no gigabytes


@dataclass(frozen=True, eq=False)
class Placed:
    """What S frames say of head and face."""

    rotations: Float[
        np.ndarray, "S 3 3"
    ]  # x right, y up, z towards the viewer; none is a face that looks at the camera
    measures: Float[np.ndarray, "S M"]  # in the order of `MEASURES`


def in_head_frame(
    landmarks: Float[np.ndarray, "S 478 3"], *, width: int, height: int, rigid: Rigid | None = None
) -> Placed:
    """Rotations and measures of frames in which a face is seen (landmarks in pixels, as in `landmarker.Face`).

    Args:
        rigid: the points that do not move; None are those of the table that ships.
    """
    rigid = fitted().rigid if rigid is None else rigid
    middle, focal = np.array([width / 2, height / 2]), FOCAL * max(width, height)
    some = landmarks[:: max(1, len(landmarks) // SAMPLE)]
    depth = _depth_factor(np.asarray(some, np.float64), rigid, middle, focal)
    parts = [
        _turned(np.asarray(landmarks[first : first + CHUNK], np.float64), rigid, middle, focal, depth)
        for first in range(0, len(landmarks), CHUNK)
    ]
    measures = [np.stack([measure.of(points) for measure in MEASURES.values()], -1) for _, points in parts]
    return Placed(np.concatenate([rotations for rotations, _ in parts]), np.concatenate(measures))


def _straightened(
    landmarks: Float[np.ndarray, "S 478 3"], rigid: Rigid, middle: Float[np.ndarray, " 2"], focal: float, depth: float
) -> Float[np.ndarray, "S 478 3"]:
    """Without perspective: pixels at the depth of the rigid points' middle, y up, z out of the picture."""
    behind = depth * (landmarks[..., 2] - (landmarks[:, rigid.index, 2] @ rigid.shares)[:, None])
    across = (landmarks[..., :2] - middle) * (1 + behind / focal)[..., None]
    return np.concatenate([across, behind[..., None]], -1) * FLIP


def _depth_factor(
    landmarks: Float[np.ndarray, "S 478 3"], rigid: Rigid, middle: Float[np.ndarray, " 2"], focal: float
) -> float:
    """What the landmarks' depths are multiplied by: least squares against the rigid points', by turns with the pose."""
    factor = 1.0
    at_rest = rigid.points - rigid.shares @ rigid.points
    seen = landmarks[:, rigid.index, 2]
    seen = (seen @ rigid.shares)[:, None] - seen
    for _ in range(20):
        flat = _straightened(landmarks, rigid, middle, focal, factor)[:, rigid.index]
        rotations, scales = similarity(rigid.points, flat, rigid.shares)
        true = np.einsum("tj,kj->tk", rotations[:, 2], at_rest) * scales[:, None]
        factor = float(np.clip((true * seen @ rigid.shares).sum() / (seen**2 @ rigid.shares).sum(), 0.3, 2.0))
    return factor


def _turned(
    landmarks: Float[np.ndarray, "S 478 3"], rigid: Rigid, middle: Float[np.ndarray, " 2"], focal: float, depth: float
) -> tuple[Float[np.ndarray, "S 3 3"], Float[np.ndarray, "S 478 3"]]:
    """Rotations, and all landmarks with pose and scale undone."""
    flat = _straightened(landmarks, rigid, middle, focal, depth)
    rotations, scales = similarity(rigid.points, flat[:, rigid.index], rigid.shares)
    centred = flat - np.einsum("k,tkc->tc", rigid.shares, flat[:, rigid.index])[:, None]
    back = np.einsum("tji,tkj->tki", rotations, centred) / scales[:, None, None]
    return rotations, back + rigid.shares @ rigid.points


def rest_rotation(rotations: Float[np.ndarray, "S 3 3"]) -> Float[np.ndarray, "3 3"]:
    """Where a head mostly points: the mean of the half of the frames that are nearest to all frames' mean."""
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_matrix(rotations)
    away = (turns.mean().inv() * turns).magnitude()
    found: Float[np.ndarray, "3 3"] = turns[away <= np.median(away)].mean().as_matrix()
    return found
