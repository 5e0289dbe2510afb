"""How often the test of an ablation's page finds what is not there, and how often its interval holds the truth.

python results/level.py    # effects that differ from sentence to sentence, have a mean of zero, and agree over seeds
"""

from __future__ import annotations

import sys

import numpy as np

from headstudio.evaluate.statistics import Score, estimate
from headstudio.report.ablation_verdict import sentence_test

LEVELS = (0.05, 0.01, 0.005)


def told(sentences: int, seeds: int, *, tests: int = 4000, intervals: int = 2000, seed_scatter: float = 0.1) -> str:
    """One line: shares of tests below each level, and of intervals that hold zero."""
    rng = np.random.default_rng(0)

    def gains() -> np.ndarray:
        return rng.normal(size=(sentences, 1)) + seed_scatter * rng.normal(size=(sentences, seeds))

    ps = np.array([sentence_test(gains()) for _ in range(tests)])
    held = 0
    for _ in range(intervals):
        scores = [Score({"prompt": str(p), "seed": str(s)}, float(v)) for (p, s), v in np.ndenumerate(gains())]
        found = estimate(scores)
        held += found.low <= 0 <= found.high
    rates = ", ".join(f"{(ps < level).mean():.1%} below {level:g}" for level in LEVELS)
    return f"{sentences} sentences x {seeds}: {rates}; {held / intervals:.0%} of the intervals hold the truth"


if __name__ == "__main__":
    for design in ((8, 1), (8, 2), (8, 3)):
        sys.stdout.write(told(*design) + "\n")
