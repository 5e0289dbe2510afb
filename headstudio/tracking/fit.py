"""Makes the table `fitted.json`: `python -m headstudio.tracking.fit --write`.

Heads of the synthetic world with human looks show random expressions, glances and turns; MediaPipe looks at the
pictures; what it says is fitted to what was shown. A third of the heads is kept out of the fit and judges it: the face
model's own score of a weight (counted from rest) stands unless the fit's correlation is clearly higher. Where
neither reaches `SEEN_FROM`, painted heads cannot tell; then scores that are `TRUSTED` stand, and other weights stay 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from headstudio.files import put
from headstudio.motion.arkit import INDEX
from headstudio.progress import Progress
from headstudio.tracking import table
from headstudio.tracking.headframe import in_head_frame
from headstudio.tracking.mapping import COLUMN, SCORE, TERMS, coefficients, from_rest, mirrored, terms_of

if TYPE_CHECKING:
    from headstudio.tracking.rendered import Observed

Array = NDArray[Any]
Samples = tuple[Array, Array, Array]  # as `samples` gives them
RIGID = (
    168, 6, 197, 195, 5, 4, 1, 98, 327, 48, 278, 33, 133, 362, 263, 10, 151, 9, 8, 67, 297, 109, 338, 103, 332, 54,
    284, 21, 251, 162, 389, 127, 356, 234, 454, 93, 323, 50, 280, 116, 345, 227, 447, 122, 351, 193, 417, 189, 413,
)  # fmt: skip
STILL_FRAMES = 3  # as `rendered.STILL`
SEEN_FROM = 0.3  # correlation on heads that the fit has not seen
CLEARLY = 0.05  # by which a fit's must be higher than the plain score's
MOST_GAIN = 1.5
# Scores that answer to real faces but hardly to painted ones, which cannot judge them: taken as they are.
TRUSTED = (
    "browInnerUp", "browDownLeft", "browOuterUpLeft", "eyeSquintLeft", "eyeWideLeft", "eyeLookUpLeft",
    "eyeLookDownLeft", "jawLeft", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthUpperUpLeft", "mouthLowerDownLeft",
    "mouthStretchLeft", "mouthPressLeft", "mouthFrownLeft", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
    "mouthShrugUpper",
)  # fmt: skip
LEAST_SHARE = 0.03  # terms that add less than this part of what the largest adds are left out
# Which terms may speak for a weight of the middle or of the left side, and with which sign.
ALLOWED: dict[str, str] = {
    "jawOpen": "+score.jawOpen +lipGap +chinDrop +lipGapSides",
    "mouthClose": "+score.mouthClose +chinDrop -lipGap -score.jawOpen",
    "jawForward": "+score.jawForward +chinForward",
    "jawLeft": "+score.jawLeft +chinAsideLeft -mouthAsideLeft",
    "mouthLeft": "+score.mouthLeft +mouthAsideLeft",
    "mouthFunnel": "+score.mouthFunnel +score.mouthPucker +lipsForward +upperLipRed +lowerLipRed -innerWidth +lipGap",
    "mouthPucker": "+score.mouthPucker -mouthWidth -innerWidth +lipsForward -lipGap",
    "mouthRollLower": "+score.mouthRollLower -lowerLipRed",
    "mouthRollUpper": "+score.mouthRollUpper -upperLipRed",
    "mouthShrugLower": "+score.mouthShrugLower +lowerLipHeight",
    "mouthShrugUpper": "+score.mouthShrugUpper +upperLipHeight",
    "mouthSmileLeft": "+score.mouthSmileLeft +cornerHeightLeft +cornerOutLeft",
    "mouthFrownLeft": "+score.mouthFrownLeft -cornerHeightLeft",
    "mouthStretchLeft": "+score.mouthStretchLeft +cornerOutLeft -cornerHeightLeft",
    "mouthDimpleLeft": "+score.mouthDimpleLeft +cornerOutLeft",
    "mouthPressLeft": "+score.mouthPressLeft -upperLipRed -lowerLipRed",
    "mouthUpperUpLeft": "+score.mouthUpperUpLeft +upperLipLeft +upperRedLeft",
    "mouthLowerDownLeft": "+score.mouthLowerDownLeft -lowerLipLeft -lowerRedLeft -chinDrop -score.jawOpen",
    "eyeBlinkLeft": "+score.eyeBlinkLeft -eyeOpeningLeft -upperLidLeft",
    "eyeSquintLeft": "+score.eyeSquintLeft +lowerLidLeft -score.eyeBlinkLeft",
    "eyeWideLeft": "+score.eyeWideLeft +upperLidLeft +eyeOpeningLeft",
    "eyeLookOutLeft": "+score.eyeLookOutLeft +irisOutLeft +score.eyeLookInRight -irisOutRight",
    "eyeLookInLeft": "+score.eyeLookInLeft -irisOutLeft +score.eyeLookOutRight +irisOutRight",
    "eyeLookUpLeft": "+score.eyeLookUpLeft +score.eyeLookUpRight +irisUpLeft +irisUpRight "
    "-score.eyeLookDownLeft -score.eyeLookDownRight",
    "eyeLookDownLeft": "+score.eyeLookDownLeft +score.eyeLookDownRight -irisUpLeft -irisUpRight "
    "-score.eyeLookUpLeft -score.eyeLookUpRight -score.eyeBlinkLeft",
    "browInnerUp": "+score.browInnerUp +browInnerLeft +browInnerRight",
    "browDownLeft": "+score.browDownLeft -browInnerLeft -browMiddleLeft -browGap",
    "browOuterUpLeft": "+score.browOuterUpLeft +browOuterLeft +browMiddleLeft",
    "cheekPuff": "+score.cheekPuff +cheekWidth +score.mouthPucker",
    "cheekSquintLeft": "+score.cheekSquintLeft +score.eyeSquintLeft +cheekLeft +lowerLidLeft",
    "noseSneerLeft": "+score.noseSneerLeft +nostrilLeft +noseSideLeft",
}


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    given = _parser().parse_args(words)
    observed = observe(given.subjects, given.frames, given.seed)
    kept, fitting = observed[::3], [one for place, one in enumerate(observed) if place % 3]
    rigid = rigid_points(fitting)
    fitted = table.Fitted(rigid, {}, {})
    judge, learn = (samples(part, fitted) for part in (kept, fitting))
    rows = {}
    for weight in ALLOWED:
        choice = choose(weight, learn, judge)
        print(choice.told(weight))
        if choice.row:
            rows[weight] = choice.row
    if given.write:
        content = as_json(rigid, dict(zip(TERMS, learn[2].tolist(), strict=True)), rows)
        put(Path(table.__file__).with_name("fitted.json"), content)
    return 0


@dataclass(frozen=True)
class Choice:
    """What became of a weight: its row (empty: it stays 0), and how two candidates agree with heads not fitted to."""

    row: dict[str, float]
    verdict: str
    fitted: tuple[float, float]  # correlation, mean absolute error
    score: tuple[float, float]

    def told(self, weight: str) -> str:
        terms = "  ".join(f"{value:+.3g} {term}" for term, value in self.row.items())
        numbers = "  ".join(f"{name} r {r:5.2f} error {error:.3f}" for name, (r, error) in
                            (("fitted", self.fitted), ("score", self.score)))  # fmt: skip
        return f"{weight:20s} {numbers}  {self.verdict:9s} {terms}"


def choose(weight: str, learn: Samples, judge: Samples) -> Choice:
    """The face model's score unless the fit is clearly better; nothing where neither can be seen or trusted."""
    fitted_row = row(weight, *learn[:2])
    score_row = {SCORE + weight: 1.0}
    fit, score = (held_out(weight, one, *judge[:2]) for one in (fitted_row, score_row))
    if max(fit[0], score[0]) < SEEN_FROM:
        return Choice(score_row, "trusted", fit, score) if weight in TRUSTED else Choice({}, "unseen", fit, score)
    if fit[0] > score[0] + CLEARLY:
        return Choice(fitted_row, "fitted", fit, score)
    return Choice(score_row, "score", fit, score)


def _parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser("python -m headstudio.tracking.fit", description=__doc__)
    found.add_argument("--subjects", type=int, default=40, help="heads (default: %(default)s)")
    found.add_argument("--frames", type=int, default=32, help="pictures of each (default: %(default)s)")
    found.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    found.add_argument("--write", action="store_true", help="replace the table that ships")
    return found


def observe(subjects: int, frames: int, seed: int) -> list[Observed]:
    """Random heads, shown and looked at."""
    from headstudio.head.anny import load_anny
    from headstudio.synthetic.world import World
    from headstudio.tracking.landmarker import Landmarker
    from headstudio.tracking.rendered import Subject, random_pose

    world, rng = World(load_anny(num_shape=12), supersample=1), np.random.default_rng(seed)
    found = []
    with Landmarker() as landmarker, Progress(0, subjects) as progress:
        for step in range(subjects):
            subject = Subject(world, rng)
            pose = random_pose(world, frames, rng)
            found.append(subject.observed(pose, subject.cameras(frames, rng), landmarker))
            progress.show(step, {})
    return found


def rigid_points(observed: Sequence[Observed]) -> table.Rigid:
    """Where the rigid landmarks lie on a mean head: each triangulated over a head's pictures, then averaged.

    How far a landmark is trusted falls with the square of the distance, in pixels, by which its pictures miss it.
    """
    places, misses = zip(*(_triangulated(one) for one in observed), strict=True)
    trust = 1 / np.mean(misses, 0) ** 2
    return table.Rigid(np.array(RIGID), np.mean(places, 0), trust / trust.sum())


def _triangulated(one: Observed) -> tuple[Array, Array]:
    """(K, 3) points of the skull and (K,) root mean square distances of their pictures in pixels."""
    seen = np.isfinite(one.scores[:, 0])
    view, pixels = one.projections[seen], one.landmarks[seen][:, RIGID, :2]
    points, misses = [], []
    for place in range(len(RIGID)):
        across = [pixels[:, place, axis, None] * view[:, 2] - view[:, axis] for axis in (0, 1)]
        rows = np.concatenate(across)
        point = np.linalg.lstsq(rows[:, :3], -rows[:, 3], rcond=None)[0]
        image = view @ np.append(point, 1.0)
        points.append(point)
        misses.append(np.sqrt(((image[:, :2] / image[:, 2:] - pixels[:, place]) ** 2).sum(-1).mean()))
    return np.array(points), np.array(misses)


def samples(observed: Sequence[Observed], fitted: table.Fitted) -> Samples:
    """(S, N) terms from rest, (S, 52) weights shown, (N,) mean terms at rest."""
    terms, shown, rests = [], [], []
    for one in observed:
        seen = np.isfinite(one.scores[:, 0])
        placed = in_head_frame(one.landmarks[seen], width=one.size, height=one.size, rigid=fitted.rigid)
        values = terms_of(placed.measures, one.scores[seen])
        rests.append(values[: seen[:STILL_FRAMES].sum()].mean(0))
        terms.append(from_rest(values, rests[-1]))
        shown.append(one.weights[seen])
    return np.concatenate(terms), np.concatenate(shown), np.mean(rests, 0)


def row(weight: str, terms: Array, shown: Array) -> dict[str, float]:
    """A weight's terms and coefficients: least squares under the signs of `ALLOWED`, on both sides at once."""
    names, signs = _allowed(weight)
    both = [(names, weight)] + ([([mirrored(name) for name in names], mirrored(weight))] if _sided(weight) else [])
    columns = np.concatenate([terms[:, [COLUMN[name] for name in side]] for side, _ in both]) * signs
    wanted = np.concatenate([shown[:, INDEX[name]] for _, name in both])
    spread = columns.std(0) + 1e-12
    found = nnls(columns / spread, wanted)[0]
    found[found < LEAST_SHARE * found.max()] = 0.0
    said = np.clip(columns / spread @ found, 0.0, 1.0)
    strength = (said @ wanted) / (
        wanted @ wanted
    )  # below 1: least squares hedges, and a wide mouth would stay half open
    found *= np.clip(1 / max(strength, 1e-6), 1.0, MOST_GAIN)
    return {
        name: float(f"{sign * value / scale:.4g}")
        for name, sign, value, scale in zip(names, signs, found, spread, strict=True)
        if value > 0
    }


def _allowed(weight: str) -> tuple[list[str], Array]:
    words = ALLOWED[weight].split()
    return [word[1:] for word in words], np.array([1.0 if word[0] == "+" else -1.0 for word in words])


def _sided(weight: str) -> bool:
    return mirrored(weight) != weight


def held_out(weight: str, found: dict[str, float], terms: Array, shown: Array) -> tuple[float, float]:
    """Correlation and mean absolute error of a weight, both sides together."""
    said = np.clip(terms @ coefficients({weight: found}), 0.0, 1.0)
    columns = sorted({INDEX[weight], INDEX[mirrored(weight)]})
    one, other = said[:, columns].ravel(), shown[:, columns].ravel()
    correlation = float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 else 0.0
    return correlation, float(np.abs(one - other).mean())


def as_json(rigid: table.Rigid, rest: dict[str, float], weights: dict[str, dict[str, float]]) -> str:
    """One line per point, rest and weight, so that changes can be read."""
    points = [[int(i), *np.round(point, 5).tolist(), float(f"{share:.4g}")]
              for i, point, share in zip(rigid.index, rigid.points, rigid.shares, strict=True)]  # fmt: skip
    rests = {name: float(f"{value:.4g}") for name, value in rest.items()}
    parts = [
        '"rigid": [\n' + ",\n".join(json.dumps(point) for point in points) + "\n]",
        *(
            f'"{key}": {{\n' + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in part.items()) + "\n}"
            for key, part in (("rest", rests), ("weights", weights))
        ),
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
