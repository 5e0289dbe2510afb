"""One face through a film: which of several is meant, and where it is lost."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from headstudio.errors import UserError
from headstudio.progress import duration
from headstudio.tracking.landmarker import Face, Landmarker, Window

log = logging.getLogger("headstudio")
PATIENCE_S = 1.0  # how long another face is not taken for the one that is lost
JUMP = 0.5  # how far a face gets from one picture to the next, in its own extents
ROOM = 2.0  # the side of the square in which a face is looked for again, in its extents
LOOK_AROUND_S = 0.5
CENSUS_S = 1.0  # how often faces are counted
CROWD = 0.1  # other faces are told of when they are there so often
Picture = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, eq=False)
class Track:
    """One face in T pictures of one size; NaN where it is not seen."""

    landmarks: Float[np.ndarray, "T 478 3"]  # pixels, as in `Face`
    scores: Float[np.ndarray, "T 52"]
    fps: float
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def seen(self) -> Bool[np.ndarray, " T"]:
        return np.isfinite(self.scores[:, 0])


class _Follower:
    """Which of a picture's faces is the film's: the nearest to where it was; at first the largest and most central.

    It is looked for around where it was; where that fails, in the whole picture, and every `LOOK_AROUND_S` in parts
    of it, as the face model overlooks what is small.
    """

    def __init__(self, landmarker: Landmarker, fps: float) -> None:
        self._landmarker = landmarker
        self._last: Face | None = None
        self._lost = 0
        self._patience, self._every = round(PATIENCE_S * fps), max(1, round(LOOK_AROUND_S * fps))

    def __call__(self, picture: Picture) -> Face | None:
        chosen = None
        if self._last is not None and self._lost <= self._patience:
            chosen = self._nearest(self._landmarker.faces(picture, around(self._last, picture)), self._last)
        if chosen is None:
            faces = self.everywhere(picture, thorough=self._lost % self._every == 0)
            if self._last is not None and self._lost <= self._patience:
                chosen = self._nearest(faces, self._last)
            else:
                size = (picture.shape[1], picture.shape[0])
                chosen = max(faces, key=lambda face: _prominence(face, size), default=None)
        self._lost = self._lost + 1 if chosen is None else 0
        self._last = chosen or self._last
        return chosen

    @staticmethod
    def _nearest(faces: Sequence[Face], last: Face) -> Face | None:
        near = [face for face in faces if _apart(face, last) < JUMP]
        return min(near, key=lambda face: _apart(face, last), default=None)

    def everywhere(self, picture: Picture, *, thorough: bool) -> list[Face]:
        """The faces of the whole picture; with `thorough`, where there are none, of its overlapping parts."""
        faces = self._landmarker.faces(picture)
        if faces or not thorough:
            return faces
        for share in (1.0, 0.5):
            parts = parts_of(picture.shape[1], picture.shape[0], share)
            if faces := [face for part in parts for face in self._landmarker.faces(picture, part)]:
                return faces
        return []


def around(face: Face, picture: Picture) -> Window:
    """The square about a face in which it is looked for again, as far as the picture goes."""
    half = ROOM * face.extent / 2
    left, top = (int(value) for value in np.maximum(np.floor(face.centre - half), 0))
    right, bottom = (int(value) for value in np.ceil(face.centre + half))
    height, width = picture.shape[:2]
    return min(left, width - 1), min(top, height - 1), max(1, min(right, width)), max(1, min(bottom, height))


def parts_of(width: int, height: int, share: float) -> list[Window]:
    """Squares with that share of the shorter side that cover a picture, each half over the next."""
    side = max(1, round(share * min(width, height)))
    starts = [
        np.unique(np.linspace(0, length - side, max(1, math.ceil(2 * (length - side) / side) + 1)).round().astype(int))
        for length in (width, height)
    ]
    return [(int(x), int(y), int(x) + side, int(y) + side) for y in starts[1] for x in starts[0]]


def _apart(face: Face, other: Face) -> float:
    """Between their centres, in extents of the larger one."""
    return float(np.linalg.norm(face.centre - other.centre)) / max(face.extent, other.extent)


def _prominence(face: Face, size: tuple[int, int]) -> float:
    """Its extent, half of it at the picture's corners."""
    middle = np.array(size) / 2
    return face.extent * (1 - 0.5 * float(np.linalg.norm((face.centre - middle) / middle)) / np.sqrt(2))


def follow(pictures: Iterable[Picture], fps: float, *, mirror: bool, called: str) -> Track:
    """The film's face, picture by picture.

    Args:
        pictures: RGB, all of the first one's size.
        fps: how many a second.
        mirror: the film shows a mirror's image; its pictures are turned back.
        called: what the film is called in messages.

    Raises:
        UserError: no picture shows a face.
    """
    landmarks, scores, crowded = [], [], []
    size = (0, 0)
    with Landmarker() as landmarker:
        follower = _Follower(landmarker, fps)
        for count, shown in enumerate(pictures):
            picture = shown[:, ::-1] if mirror else shown
            size = size if count else (picture.shape[1], picture.shape[0])
            chosen = follower(picture)
            landmarks.append(_NOWHERE if chosen is None else chosen.landmarks.astype(np.float32))
            scores.append(_NOTHING if chosen is None else chosen.scores)
            if chosen is not None and count % max(1, round(CENSUS_S * fps)) == 0:
                crowded.append(any(_apart(face, chosen) > JUMP for face in landmarker.faces(picture)))
    track = Track(np.array(landmarks), np.array(scores), fps, *size)
    if not track.seen.any():
        raise UserError(
            f"{called} shows no face that could be followed: it must look towards the camera, and its height be more "
            f"than about a tenth of the picture's."
        )
    if np.mean(crowded or [False]) > CROWD:
        log.warning("%s shows more than one face; the largest and most central one is followed", called)
    tell_losses(track, called)
    return track


_NOWHERE = np.full((478, 3), np.nan, np.float32)
_NOTHING = np.full(52, np.nan)


def gaps(seen: Bool[np.ndarray, " T"]) -> list[tuple[int, int]]:
    """First and one past last of the frames of every gap."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], seen, [True]]).astype(int)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def tell_losses(track: Track, called: str) -> None:
    """A warning with the seconds for which the face is gone; blinks of the tracker are not worth one."""
    long = [(a, b) for a, b in gaps(track.seen) if b - a > 0.3 * track.fps]
    if long:
        total, first = sum(b - a for a, b in long) / track.fps, long[0][0] / track.fps
        log.warning(
            "%s: the face is out of sight for %.1f s (first at %s); the head rests meanwhile",
            called,
            total,
            duration(first),
        )
