"""How well the mouth follows speech whose phones are known:  python -m headstudio.speech.judge

Speaks sentences with espeak-ng and flite (those that are there), lets the open head say them, and measures on its
vertices. Voices and sentences are none that the listener was trained on. `--known` moves the mouth by the phones
themselves instead of by what is heard.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch

from headstudio.motion.arkit import INDEX, pose_of, weights_of
from headstudio.speech import corpus, espeak
from headstudio.speech.audio import Audio
from headstudio.speech.features import RATE_HZ
from headstudio.speech.listener import listen
from headstudio.speech.motion import recording_of
from headstudio.speech.sounds import CLOSED, SILENCE

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.head.model import HeadModel
    from headstudio.motion.recording import Recording
    from headstudio.speech.corpus import Clip

log = logging.getLogger(__name__)

SENTENCES = (
    "Bob put my map up. A problem, maybe!",
    "The quick brown fox jumps over the lazy dog.",
    "She sells sea shells by the sea shore, and people buy them.",
    "My mother bought five apples and a pumpkin pie for the family.",
    "Would you move the blue boat to the pool before noon?",
    "Peter Piper picked a peck of pickled peppers.",
    "Good morning everybody, welcome to the first experiment with a talking head.",
    "Father found a hot car in the park; we saw two shoes there.",
)
ELSEWHERE = {
    "de": "Meine Mutter backt am Abend Apfelkuchen für die ganze Familie, bevor Besuch kommt.",
    "es": "Mi primo compró un barco blanco para pasear por la bahía con su abuelo.",
    "fr-fr": "Ma belle maman prépare un bon repas pour tout le monde, puis part à Paris.",
    "ja": "ばんごはんのまえに、ぼくはパンをたべました。",
}
"""Sentences of other languages; the listener was not trained on Japanese."""
LATE_S = 0.04
SHUT = 0.05
"""Lips count as closed up to this share of how far they part in the evaluation's open mouth (jawOpen = 0.7)."""


@dataclass(frozen=True)
class Scores:
    """What one clip scores; lists hold an entry per sound of its kind, jaw and lips as weights or shares."""

    closed: tuple[bool, ...]  # p, b, m: the lips met within `LATE_S` of the sound
    jaw_closed: tuple[float, ...]  # jawOpen in the middle of p, b, m,
    jaw_open: tuple[float, ...]  # ... of open vowels
    jaw_teeth: tuple[float, ...]  # ... of f, v, s, z
    jaw_silent: tuple[float, ...]  # ... of silence
    open_shut: tuple[bool, ...]  # open vowels in whose middle the lips are closed: too many closures
    round_round: tuple[float, ...]  # pucker and funnel in rounded vowels,
    round_spread: tuple[float, ...]  # ... in spread ones
    agree: tuple[float, ...]  # share of frames in which the viseme heard is the one spoken
    fastest: tuple[float, ...]  # largest change of any of the mouth's weights, per second
    work: tuple[float, ...]  # seconds of work per second of sound


def parting(head: HeadModel, recording: Recording) -> Float[Tensor, " T"]:
    """How far the middles of the lips part, as a share of how far they do at jawOpen = 0.7; 0 at rest."""
    assert recording.arkit is not None
    rest = _lips_apart(head, weights_of({})[None])
    wide = _lips_apart(head, weights_of({"jawOpen": 0.7})[None])
    return (_lips_apart(head, torch.from_numpy(recording.arkit)) - rest) / (wide - rest)


def _lips_apart(head: HeadModel, weights: Float[Tensor, "T 52"]) -> Float[Tensor, " T"]:
    """Height (world units) of the inner lips' middle third: upper line over lower, as the landmarks lie on the mesh."""
    first, end = next((first, end) for name, first, end, _ in head.landmark_polylines if name == "lips_inner")
    faces, corners = head.faces[head.landmark_faces[first:end]], head.landmark_bary[first:end, :, None]
    rest = (head.v_template[faces] * corners).sum(1)
    middle = (rest[:, 0] - rest[:, 0].mean()).abs() < (rest[:, 0].max() - rest[:, 0].min()) / 6
    upper = rest[:, 1] > rest[:, 1].mean()
    pieces = []
    for part in weights.split(64):
        vertices = head(head.v_template.new_zeros(head.num_shape), pose_of(head, part)).vertices
        height = (vertices[:, faces] * corners).sum(2)[..., 1]
        pieces.append(height[:, middle & upper].mean(1) - height[:, middle & ~upper].mean(1))
    return torch.cat(pieces)


def judged(clip: Clip, head: HeadModel, *, fps: float = 25.0, known: bool = False) -> Scores:
    """The clip said by the head, measured at the frames of a film."""
    audio = Audio(clip.samples, RATE_HZ, clip.origin)
    began = time.process_time()
    recording = recording_of(
        audio, fps=fps, generator=torch.Generator().manual_seed(0), sounds=clip.sounds if known else None
    )
    work = (time.process_time() - began) / audio.seconds
    apart = parting(head, recording).numpy()
    assert recording.arkit is not None
    weights = recording.arkit
    times = np.arange(len(recording)) / fps
    rounding = weights[:, INDEX["mouthPucker"]] + weights[:, INDEX["mouthFunnel"]]

    def middles(*kinds: str, shortest_s: float = 0.0) -> list[float]:
        return [s.middle_s for s in clip.sounds if s.viseme in kinds and s.end_s - s.start_s >= shortest_s]

    def at(course: np.ndarray, moments: list[float]) -> tuple[float, ...]:
        return tuple(np.interp(moments, times, course).tolist())

    spoken = corpus.labels(clip.sounds, len(clip.samples) // 160 + 1)
    heard = spoken if known else corpus.labels(listen(torch.from_numpy(clip.samples)), len(spoken))
    jaw, mouth = weights[:, INDEX["jawOpen"]], [i for name, i in INDEX.items() if name.startswith(("mouth", "jaw"))]
    near = [
        apart[(times >= s.start_s - LATE_S) & (times <= s.end_s + LATE_S)] for s in clip.sounds if s.viseme == CLOSED
    ]
    return Scores(
        closed=tuple(bool((gap <= SHUT).any()) for gap in near if len(gap)),
        jaw_closed=at(jaw, middles(CLOSED)),
        jaw_open=at(jaw, middles("aa", "O", shortest_s=0.06)),
        jaw_teeth=at(jaw, middles("FF", "SS")),
        jaw_silent=at(jaw, middles(SILENCE, shortest_s=0.3)),
        open_shut=tuple(gap <= SHUT for gap in at(apart, middles("aa", "O", shortest_s=0.06))),
        round_round=at(rounding, middles("U", "O", shortest_s=0.06)),
        round_spread=at(rounding, middles("I", "E", shortest_s=0.06)),
        agree=tuple((heard == spoken).astype(float).tolist()),
        fastest=(float(np.abs(np.diff(weights[:, mouth], axis=0)).max(initial=0.0) * fps),),
        work=(work,),
    )


def clips() -> Iterator[tuple[str, Clip]]:
    """Judging speech by group: voices and sentences that the listener was not trained on."""
    if espeak.available():
        for voice in ("en-us", "en+f3"):
            for rate in (130, 190):
                for text in SENTENCES:
                    yield f"espeak-ng {voice} {rate}", corpus.by_espeak(text, voice=voice, words_per_minute=rate)
        for voice, text in ELSEWHERE.items():
            yield f"espeak-ng {voice} 150", corpus.by_espeak(text, voice=voice, words_per_minute=150)
    if shutil.which("flite"):
        for text in SENTENCES:
            yield "flite rms", corpus.by_flite(text, voice="rms")


def together(scores: Iterable[Scores]) -> dict[str, float]:
    """The mean of each entry over all clips; of `fastest` the largest."""
    rows = list(scores)
    result = {}
    for field in fields(Scores):
        values = [float(value) for row in rows for value in getattr(row, field.name)]
        if values:
            result[field.name] = max(values) if field.name == "fastest" else sum(values) / len(values)
    return result


def main() -> None:
    from headstudio.head.anny import load_anny

    parser = argparse.ArgumentParser(
        prog="python -m headstudio.speech.judge", description=(__doc__ or "").split(":")[0]
    )
    parser.add_argument("--known", action="store_true", help="move the mouth by the phones themselves")
    parser.add_argument("--fps", type=float, default=25.0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    head = load_anny(num_shape=0)
    groups: dict[str, list[Scores]] = {}
    for name, clip in clips():
        groups.setdefault(name, []).append(judged(clip, head, fps=options.fps, known=options.known))
    log.info("%-22s %s", "", " ".join(f"{field.name:>12s}" for field in fields(Scores)))
    for name, rows in groups.items():
        mean = together(rows)
        log.info("%-22s %s", name, " ".join(f"{mean.get(field.name, float('nan')):12.3f}" for field in fields(Scores)))


if __name__ == "__main__":
    main()
