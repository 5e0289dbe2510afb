"""What the runs of an ablation say of each of its claims: supported, contradicted, undecided, or unfinished.

The rule: a claim is supported if its test finds its better arm better (p < 0.05 after Holm's correction over all claims
of the ablation), contradicted if the test finds the other one better, undecided otherwise. A claim that allows a margin
("at most this much worse") is tested after that margin was added to its better arm. While runs are missing it is
unfinished, and still counts for the correction, so that no verdict gets weaker as more runs come in.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from headstudio.ablation import Ablation, Claim
from headstudio.errors import UserError
from headstudio.evaluate.statistics import ALPHA, Estimate, Score, estimate, holm
from headstudio.report.ablation_runs import Result
from headstudio.report.glossary import Metric, metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

Verdict = Literal["supported", "contradicted", "undecided", "unfinished"]


@dataclass(frozen=True)
class Finding:
    """One claim and what its runs say.

    Attributes:
        claim: what was claimed.
        metric: what its number is called and which way is better.
        wanted: how many pairs of runs it needs.
        pairs: how many there are.
        gain: how much better `claim.better` is, whichever way the metric counts, over sentences, then seeds; None
            without pairs.
        gains: (sentences, seeds), the same pair by pair; empty while pairs are missing.
        p: of the test, after Holm's correction; None while pairs are missing.
        least: where it is undecided, the smallest gain that would have been found with as many sentences and this
            much scatter, the other claims as they are; None if no gain would have been.
    """

    claim: Claim
    metric: Metric
    wanted: int
    pairs: int
    gain: Estimate | None
    gains: NDArray[np.float64]
    p: float | None = None
    least: float | None = None

    @property
    def verdict(self) -> Verdict:
        if self.p is None or self.gain is None:
            return "unfinished"
        if self.p >= ALPHA:
            return "undecided"
        return "supported" if self.gain.mean + self.claim.margin > 0 else "contradicted"


def judge(wanted: Ablation, found: Sequence[Result]) -> list[Finding]:
    """A finding for each claim, in order, from pairs of runs that share sentence and seed.

    Raises:
        UserError: a claim is about a number of which nobody has said which way is better.
    """
    findings = [_paired(claim, wanted, found) for claim in wanted.claims]
    tested = [_p(finding) for finding in findings]
    adjusted = holm([1.0 if p is None else p for p in tested])
    for place, (p, after) in enumerate(zip(tested, adjusted, strict=True)):
        if p is not None:
            others = tested[:place] + tested[place + 1 :]
            least = _least(findings[place], others) if after >= ALPHA else None
            findings[place] = replace(findings[place], p=after, least=least)
    return findings


def _paired(claim: Claim, wanted: Ablation, found: Sequence[Result]) -> Finding:
    about = metric(claim.metric)
    if about.better == "neither":
        raise UserError(
            f"The ablation {wanted.name} claims something of {claim.metric!r}, of which headstudio/report/glossary.py "
            "does not say which way is better."
        )
    sign = 1.0 if about.better == "more" else -1.0
    values = {
        (result.planned.arm, result.planned.prompt, result.planned.seed): result.scores[claim.metric]
        for result in found
        if claim.metric in result.scores
    }
    gains = [
        Score({"prompt": prompt, "seed": str(seed)}, sign * (values[better] - values[than]))
        for prompt in claim.prompts
        for seed in wanted.seeds
        if (better := (claim.better, prompt, seed)) in values and (than := (claim.than, prompt, seed)) in values
    ]
    pairs = len(claim.prompts) * len(wanted.seeds)
    whole = [gain.value for gain in gains] if len(gains) == pairs else []
    table = np.array(whole, dtype=float).reshape(-1, len(wanted.seeds))
    return Finding(claim, about, pairs, len(gains), estimate(gains) if gains else None, table)


def sentence_test(gains: NDArray[np.float64], *, flips: int = 9999, seed: int = 0) -> float:
    """Two-sided p of "on average over sentences there is no gain".

    What makes a sentence easy for one arm does so with every seed, so its seeds are no independent witnesses of the
    arm. The statistic is therefore that of a t-test over the sentences' mean gains: an effect in one sentence only, or
    effects that differ in sign, do not count, however many seeds repeat them. Its distribution is that under flips of
    the sign of every pair, which is exact where the arms do not differ at all. (With sentences' means flipped whole,
    eight sentences could not have a p below 2/256, too much for a correction over more than six claims.) As the
    statistic is studentised, the test stays close to its level also where effects differ from sentence to sentence and
    only their mean is zero (Chung and Romano 2013, Exact and asymptotically robust permutation tests): for 8 x 3
    normal gains with such effects alone, 7 % of simulated tests fell below 0.05, but 30 % of those with the plain mean.

    Args:
        gains: (sentences, seeds).
        flips: how many are drawn if there are too many to take all of them.
        seed: of the drawing.
    """
    if len(gains) < 2 or not gains.any():
        return 1.0
    means = (_signs(gains.size, flips, seed).reshape(-1, *gains.shape) * gains).mean(2)
    length = np.sqrt((means**2).sum(1))
    statistic = np.abs(means.sum(1)) / np.maximum(length, np.finfo(float).tiny)  # rises with |t|
    return float((statistic >= statistic[0] * (1 - 1e-9)).mean())


@lru_cache(maxsize=8)
def _signs(pairs: int, flips: int, seed: int) -> NDArray[np.float64]:
    """(flips, pairs) of 1 and -1, the first row all 1: every one, or so many at random."""
    if 2**pairs <= flips:
        return np.array(list(itertools.product((1.0, -1.0), repeat=pairs)))
    drawn: NDArray[np.float64] = np.random.default_rng(seed).choice((1.0, -1.0), (flips + 1, pairs))
    drawn[0] = 1.0
    return drawn


def _p(finding: Finding) -> float | None:
    """Of the test alone; None while pairs are missing."""
    return sentence_test(finding.gains + finding.claim.margin) if finding.gains.size else None


def _least(
    finding: Finding, others: Sequence[float | None], *, doublings: int = 12, halvings: int = 16
) -> float | None:
    """See `Finding.least`; sought among shifts of the same scatter up to 2^doublings of its size."""
    scatter = finding.gains - finding.gains.mean()

    def is_shown(gain: float) -> bool:
        return holm([sentence_test(scatter + gain), *(1.0 if p is None else p for p in others)])[0] < ALPHA

    low, high = 0.0, float(np.abs(scatter).max()) or 1e-9
    for _ in range(doublings):
        if is_shown(high):
            break
        low, high = high, 2 * high
    else:
        return None
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (low, middle) if is_shown(middle) else (middle, high)
    return high - finding.claim.margin
