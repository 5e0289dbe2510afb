"""Speech as a recording of a face: what someone who says this moves, frame by frame, for any head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from headstudio.errors import UserError
from headstudio.motion.arkit import INDEX, rotation_vectors, weights_of
from headstudio.motion.recording import Recording
from headstudio.speech.features import FRAMES_PER_SECOND, RATE_HZ, log_mel, loudness
from headstudio.speech.life import Life, stress_of
from headstudio.speech.listener import listen
from headstudio.speech.mouth import mouth_weights
from headstudio.speech.sounds import SILENCE, complete

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.speech.audio import Audio
    from headstudio.speech.sounds import Sound

GAZE_DEG = (5.0, 3.0)
"""Furthest glance aside and up or down: within what still looks at the viewer."""
SWAY_DEG = (2.5, 1.5, 1.2)
"""Furthest sway: yaw, pitch, roll."""
NOD_DEG = 4.0
"""How far the strongest stress lowers the chin."""
_BROWS = {"browInnerUp": 0.3, "browOuterUp": 0.25}
_EFFORT_PER_DB, _EFFORT = 0.02, (0.65, 1.15)  # how much more of a sound loud speech shows, and the limits
_HIGHEST_FPS = 240.0


def recording_of(
    audio: Audio,
    *,
    fps: float,
    generator: torch.Generator,
    sounds: Sequence[Sound] | None = None,
    neck: bool = True,
) -> Recording:
    """`round(seconds * fps)` frames, at least one; frame t shows what is heard at second t / fps.

    The mouth follows the sound alone: in silence all its weights are 0, which closes it. Chance, from `generator`,
    blinks, glances (within `GAZE_DEG` of the viewer) and sways the head (within `SWAY_DEG`), in silence too; what is
    stressed nods (up to `NOD_DEG`) and raises the brows a little. A function of continuous time: another `fps` with an
    equal generator shows the same at other instants.

    Args:
        audio: what is heard, as `read_audio` gives it.
        fps: frames a second, above 0 and up to 240.
        generator: for blinks, glances and sway.
        sounds: what the mouth shows, if it is known (`voice.sounds_spoken`); heard in the audio if None.
        neck: whether the head moves.

    Raises:
        UserError: for a frame rate out of range, or samples at another rate than 16 kHz.
    """
    if not (math.isfinite(fps) and 0.0 < fps <= _HIGHEST_FPS):
        raise UserError(f"fps={fps:g} must lie above 0 and up to {_HIGHEST_FPS:g}.")
    if audio.rate_hz != RATE_HZ:
        raise UserError(f"{audio.source} has {audio.rate_hz} samples a second; read_audio gives {RATE_HZ}.")
    samples = torch.from_numpy(audio.samples)
    heard = complete(listen(samples) if sounds is None else sounds, audio.seconds)
    level = loudness(log_mel(samples))
    speaking = _speaking(heard, len(level))
    times = torch.arange(max(round(audio.seconds * fps), 1), dtype=torch.float64) / fps
    weights = mouth_weights(heard, times, lambda moments: _effort(level, speaking, moments))
    life = Life(audio.seconds, stress_of(level, speaking), generator)
    seconds = times.float()
    weights = weights + life.stress(seconds, rise=0.18, fall=0.35)[:, None] * weights_of(_BROWS)
    lids = life.blinks(seconds)
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        weights[:, INDEX[name]] = lids
    eyes = rotation_vectors(life.gaze(seconds) * torch.tensor(GAZE_DEG)).numpy()
    return Recording(
        source=audio.source,
        fps=fps,
        arkit=weights.clamp(0.0, 1.0).numpy(),
        neck=rotation_vectors(_neck_deg(life, seconds)).numpy() if neck else None,
        eye_left=eyes,
        eye_right=eyes,
    )


def _neck_deg(life: Life, times: Float[Tensor, " T"]) -> Float[Tensor, "T 3"]:
    turned = life.sway(times) * torch.tensor(SWAY_DEG)
    turned[:, 1] -= NOD_DEG * life.stress(times, rise=0.2, fall=0.4)
    return turned


def _speaking(sounds: Sequence[Sound], count: int) -> Float[Tensor, " T"]:
    """1 at the frames of the loudness in which there is a sound."""
    speaking = torch.zeros(count)
    for sound in sounds:
        if sound.viseme != SILENCE:
            first, last = (round(second * FRAMES_PER_SECOND) for second in (sound.start_s, sound.end_s))
            speaking[first : last + 1] = 1.0
    return speaking


def _effort(
    level_db: Float[Tensor, " T"], speaking: Float[Tensor, " T"], moments: Float[Tensor, " S"]
) -> Float[Tensor, " S"]:
    """How much of their faces sounds at these moments show, from their loudness against the speech's middle."""
    if not bool(speaking.any()):
        return torch.ones(len(moments))
    usual = level_db[speaking > 0.5].median()
    at = (moments * FRAMES_PER_SECOND).round().long().clamp(0, len(level_db) - 1)
    return (1.0 + _EFFORT_PER_DB * (level_db[at] - usual)).clamp(*_EFFORT)
