"""A TalkSHOW recording of nobody: smooth random motion in the layout of the real files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.motion.talkshow import BODY_JOINTS, FPS, HEAD, NECK, UPRIGHT


def write_talkshow(folder: str | Path, *, seconds: float = 10.0, seed: int = 0) -> Path:
    """Write `talk.pkl`, a clip of the SHOW dataset: a mouth that opens some four times a second, a head that sways.

    Args:
        folder: made if it is not there.
        seconds: how long, at the dataset's 30 frames a second.
        seed: of the motion.

    Returns:
        The file; `motion=talkshow motion.paths=[it]` plays it.
    """
    rng = np.random.default_rng(seed)
    times = np.arange(max(1, round(seconds * FPS))) / FPS
    body = np.zeros((len(times), BODY_JOINTS, 3))
    body[:, NECK] = 0.08 * _waves(rng, times, 3, hertz=0.3)
    body[:, HEAD] = 0.08 * _waves(rng, times, 3, hertz=0.5)
    jaw = np.zeros((len(times), 3))
    jaw[:, 0] = 0.22 * np.clip(_waves(rng, times, 1, hertz=4.0)[:, 0], 0.0, 1.0)
    eyes = np.zeros((len(times), 3))
    eyes[:, :2] = 0.12 * _waves(rng, times, 2, hertz=0.6)
    falling = 1.0 / np.sqrt(1.0 + np.arange(100.0))  # later principal components matter less
    clip: dict[str, Any] = {
        "betas": np.zeros((1, 300)),
        "expression": _waves(rng, times, 100, hertz=1.0) * falling,
        "jaw_pose": jaw,
        "leye_pose": eyes,
        "reye_pose": eyes,
        "global_orient": np.tile(UPRIGHT, (len(times), 1)),
        "transl": np.zeros((len(times), 3)),
        "body_pose_axis": body.reshape(len(times), -1),
        "left_hand_pose": np.zeros((len(times), 12)),
        "right_hand_pose": np.zeros((len(times), 12)),
    }
    clip = {key: value.astype(np.float32) for key, value in clip.items()}
    path = Path(folder) / "talk.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(clip))
    return path


def _waves(rng: np.random.Generator, times: NDArray[Any], count: int, *, hertz: float) -> NDArray[Any]:
    """(T, count) sums of three sines of about `hertz`, of variance 1, that begin at 0."""
    rates = hertz * rng.uniform(0.5, 1.5, (count, 3))
    signs = rng.choice([-1.0, 1.0], (count, 3))
    wave: NDArray[Any] = (signs * np.sin(2.0 * np.pi * times[:, None, None] * rates)).sum(-1) * np.sqrt(2.0 / 3.0)
    return wave
