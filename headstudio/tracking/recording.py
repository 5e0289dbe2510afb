"""A film of a face, as a recorded motion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.spatial.transform import Rotation

from headstudio.errors import UserError
from headstudio.motion.recording import Recording
from headstudio.progress import Progress
from headstudio.tracking.film import MOST_FPS, Film, open_film, pictures
from headstudio.tracking.follow import Track, follow, gaps
from headstudio.tracking.headframe import in_head_frame, rest_rotation
from headstudio.tracking.mapping import average_rest, rest_of, terms_of, weights_of
from headstudio.tracking.model import face_model
from headstudio.tracking.smooth import without_delay

SMOOTHING = {"weights": (2.0, 6.0), "turns": (1.5, 12.0)}  # 1€ filter: cutoff at rest (Hz), its growth with speed
STILL = 0.04  # weights below this are the tracker's trembling
HOLD_S, EASE_S = 0.3, 0.5  # a face that is lost stays as it was, then eases to rest


def recording_of_video(
    path: Path,
    *,
    fps: float | None = None,
    seconds: float | None = None,
    mirror: bool = False,
    calibrate: bool = True,
) -> Recording:
    """Follows the face of a film and reads its motion off it.

    Args:
        path: any film that ffmpeg reads; of several faces the largest and most central one counts.
        fps: of the recording; None is the film's own rate, at most `MOST_FPS`.
        seconds: of the film, from its start; None is all of it.
        mirror: the film is a mirror's image, as some phones keep their selfies.
        calibrate: the face's rest (its expression, where its head points) is estimated from the film itself; else
            it is an average face's that looks into the camera.

    Returns:
        ARKit weights (T, 52) and the neck's turn (T, 3); instant 0 is the film's. A face that is out of sight is
        held, eased to rest, and eased back.

    Raises:
        UserError: there is no such file, it is no film, it shows no face, or MediaPipe is not installed.
    """
    film = open_film(path)
    face_model()
    rate = min(film.fps, MOST_FPS) if fps is None else fps
    called = f"--video {path.name}"
    track = follow(_shown(film, rate, seconds), rate, mirror=mirror, called=called)
    if len(track) < 2:
        if seconds is not None and seconds < 2 / rate <= film.seconds:
            raise UserError(f"--seconds {seconds:g} of --video {path} are a single picture; take more of it.")
        raise UserError(f"--video {path} holds a single picture; it must be a film.")
    return recording_of_track(track, str(path), calibrate=calibrate)


def _shown(film: Film, fps: float, seconds: float | None) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The film's pictures, with a bar that says how many are left."""
    length = film.seconds if seconds is None else min(film.seconds, seconds)
    count = max(1, round(length * fps))
    with Progress(0, count) as progress:
        for step, picture in enumerate(pictures(film, fps, seconds)):
            yield picture
            progress.show(min(step, count - 1), {})


def recording_of_track(track: Track, source: str, *, calibrate: bool) -> Recording:
    """The motion of a face that has been followed; as `recording_of_video`, which see."""
    seen = track.seen
    placed = in_head_frame(track.landmarks[seen], width=track.width, height=track.height)
    terms = terms_of(placed.measures, track.scores[seen])
    rest = rest_of(terms) if calibrate else average_rest()
    facing = rest_rotation(placed.rotations) if calibrate else np.eye(3)
    turns = Rotation.from_matrix(facing.T @ placed.rotations).as_rotvec()
    weights = _everywhere(weights_of(terms, rest), seen, track.fps)
    turns = _everywhere(turns, seen, track.fps)
    weights = _smoothed(weights, "weights", track.fps)
    weights = np.clip((weights - STILL) / (1 - STILL), 0.0, 1.0)
    return Recording(source=source, fps=track.fps, arkit=weights, neck=_smoothed(turns, "turns", track.fps))


def _smoothed(values: Float[np.ndarray, "T C"], kind: str, fps: float) -> Float[np.ndarray, "T C"]:
    cutoff, beta = SMOOTHING[kind]
    return without_delay(values, fps, min_cutoff_hz=cutoff, beta=beta)


def _everywhere(values: Float[np.ndarray, "S C"], seen: Bool[np.ndarray, " T"], fps: float) -> Float[np.ndarray, "T C"]:
    """Values of the frames that are seen, for all frames; 0 is the rest that long gaps ease to."""
    filled = np.zeros((len(seen), values.shape[1]))
    filled[seen] = values
    for first, end in gaps(seen):
        since, until = np.arange(1, end - first + 1) / fps, np.arange(end - first, 0, -1) / fps
        before, after = _kept(since), _kept(until)
        if end - first <= (HOLD_S + EASE_S) * fps:  # too short to come to rest
            after = since / (since + until)
            before = 1 - after
        if first > 0:
            filled[first:end] += before[:, None] * filled[first - 1]
        if end < len(seen):
            filled[first:end] += after[:, None] * filled[end]
    return filled


def _kept(away_s: Float[np.ndarray, " G"]) -> Float[np.ndarray, " G"]:
    """How much of a value is left so long after it was last seen: all of it at first, smoothly less."""
    phase = np.clip((away_s - HOLD_S) / EASE_S, 0.0, 1.0)
    kept: Float[np.ndarray, " G"] = 1 - phase * phase * (3 - 2 * phase)
    return kept
