"""The numbers that `headstudio.tracking.fit` found, from the file beside this one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class Rigid:
    """Landmarks that no expression moves much: where they are on a mean head, and how far each is to be trusted."""

    index: Int[np.ndarray, " K"]
    points: Float[np.ndarray, "K 3"]  # the open head's frame and units
    shares: Float[np.ndarray, " K"]  # sum to 1


@dataclass(frozen=True, eq=False)
class Fitted:
    """`weights` names, for every ARKit weight that can be seen, its terms and their coefficients; `rest` is the value
    of every term on an average face at rest."""

    rigid: Rigid
    rest: dict[str, float]
    weights: dict[str, dict[str, float]]


@cache
def fitted() -> Fitted:
    """The table that ships."""
    text = (resources.files("headstudio.tracking") / "fitted.json").read_text(encoding="utf-8")
    read = json.loads(text)
    rows = np.array(read["rigid"])
    rigid = Rigid(rows[:, 0].astype(int), rows[:, 1:4], rows[:, 4] / rows[:, 4].sum())
    return Fitted(rigid, read["rest"], read["weights"])
