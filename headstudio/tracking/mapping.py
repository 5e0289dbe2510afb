"""From measures and scores to ARKit weights: a short table of coefficients, after the face's own rest is taken off.

A term is a measure's difference from rest, or a score of the face model counted from rest (0) to 1. A weight is a sum
of a few terms, each with the sign that `fit.ALLOWED` gives it, cut to 0..1. What cannot be seen has no row and stays 0.
"""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float

from headstudio.motion.arkit import ARKIT_NAMES, INDEX
from headstudio.tracking.measures import MEASURES
from headstudio.tracking.table import fitted

SCORE = "score."
TERMS: tuple[str, ...] = (*MEASURES, *(SCORE + name for name in ARKIT_NAMES))
COLUMN = {name: column for column, name in enumerate(TERMS)}
SCORES = slice(len(MEASURES), len(TERMS))
# The percentile over a film that stands for rest: speech only adds to a score, so that its low values are rest; what
# is seldom shown, and to some faces belongs at rest (pursed lips, narrow eyes), rests in the middle.
SCORE_REST = 15.0
SCORE_RESTS = {"eye": 50.0, "brow": 50.0, **dict.fromkeys(("mouthPucker", "mouthFrown", "mouthPress"), 50.0)}
HIGHEST_REST = 0.5  # of a score: what is left above it is no measure any more

Terms = Float[np.ndarray, "S N"]
Rest = Float[np.ndarray, " N"]
Weights = Float[np.ndarray, "S 52"]


def terms_of(measures: Float[np.ndarray, "S M"], scores: Weights) -> Terms:
    """Measures and scores side by side, in the order of `TERMS`."""
    return np.concatenate([measures, scores], -1)


def rest_of(terms: Terms) -> Rest:
    """The face at rest, estimated from a film: a percentile of each term over its frames."""
    rest = [np.percentile(terms[:, column], rest_percentile(name)) for column, name in enumerate(TERMS)]
    return np.array(rest)


def rest_percentile(term: str) -> float:
    """Where in the sorted frames of a film a term's value at rest is looked for."""
    if not term.startswith(SCORE):
        return MEASURES[term].rest_percentile
    name = term.removeprefix(SCORE)
    return next((value for start, value in SCORE_RESTS.items() if name.startswith(start)), SCORE_REST)


def average_rest() -> Rest:
    """The rest of an average face."""
    return np.array([fitted().rest[name] for name in TERMS])


def from_rest(terms: Terms, rest: Rest) -> Terms:
    """Measures less their rest; scores so that rest is 0 and 1 stays 1."""
    away = terms - rest
    away[:, SCORES] /= 1 - np.clip(rest[SCORES], 0.0, HIGHEST_REST)
    return away


def weights_of(terms: Terms, rest: Rest) -> Weights:
    """ARKit weights in 0..1, in the order of `ARKIT_NAMES`."""
    table = coefficients(fitted().weights)
    return np.clip(from_rest(terms, rest) @ table, 0.0, 1.0)


def coefficients(rows: dict[str, dict[str, float]]) -> Float[np.ndarray, "N 52"]:
    """The table as a matrix; a row of the subject's left side serves its right side, mirrored."""
    table = np.zeros((len(TERMS), len(ARKIT_NAMES)))
    for weight, row in rows.items():
        for name, value in row.items():
            table[COLUMN[name], INDEX[weight]] = value
            if mirrored(weight) != weight:
                table[COLUMN[mirrored(name)], INDEX[mirrored(weight)]] = value
    return table


def mirrored(name: str) -> str:
    """The same of the other side: Left for Right, Right for Left."""
    return re.sub(r"(Left|Right)$", lambda side: "Right" if side[1] == "Left" else "Left", name)
