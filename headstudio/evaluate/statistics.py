"""How sure a comparison is: intervals over prompts, seeds and views, and a ranking test between two settings.

A score of one run is the mean over its views; a setting is judged by runs over several prompts and seeds. Intervals
are bootstrapped level by level: prompts are drawn again, then seeds within a prompt, then views within a run, so that
twenty-four views of one head do not pass for twenty-four heads. Two settings are compared on pairs of runs that agree
in everything else. docs/metrics.md says it in words.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNITS = ("prompt", "seed")
"""Settings over which one averages; everything else is something that one compares."""
ALPHA = 0.05


@dataclass(frozen=True)
class Score:
    """One run's value of one metric.

    `settings` holds what differs between the runs, prompt and seed among it. `views` are the values whose mean it is;
    empty where there are none.
    """

    settings: Mapping[str, str]
    value: float
    views: tuple[float, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, and over what the interval was taken: prompts, seeds, views, or nothing."""

    mean: float
    low: float
    high: float
    runs: int
    over: tuple[str, ...]

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Contrast:
    """Two values of one key, compared on pairs of runs that agree in everything else.

    `difference` is second minus first. `p` is that of the two-sided ranking test, adjusted (Holm) for the other
    contrasts of the same key, of which there are `together` with this one; None where there are no pairs.
    """

    key: str
    first: str
    second: str
    difference: Estimate
    pairs: int
    p: float | None
    together: int = 1

    @property
    def differ(self) -> bool:
        return self.p is not None and self.p < ALPHA

    @property
    def can_tell(self) -> bool:
        """Whether as many pairs could show a difference at all."""
        return self.pairs >= least_pairs(self.together)


def least_pairs(together: int) -> int:
    """The fewest pairs of which some outcome is rare enough, where `together` contrasts are tested at once."""
    return next(pairs for pairs in range(1, 64) if 2.0 ** (1 - pairs) * together < ALPHA)


def estimate(scores: Sequence[Score], *, resamples: int = 2000, seed: int = 0) -> Estimate:
    """Mean and 95 % interval of runs of one setting: the mean over prompts of the mean over their runs.

    Raises:
        ValueError: without scores.
    """
    if not scores:
        raise ValueError("an estimate needs at least one score")
    prompts = [[score for score in scores if score.settings.get("prompt", "") == name] for name in _values(scores)]
    mean = float(np.mean([np.mean([score.value for score in group]) for group in prompts]))
    over = tuple(
        name
        for name, there in (
            ("prompts", len(prompts) > 1),
            ("seeds", any(len(group) > 1 for group in prompts)),
            ("views", any(len(score.views) > 1 for score in scores)),
        )
        if there
    )
    if not over:
        return Estimate(mean, mean, mean, len(scores), over)
    rng = np.random.default_rng(seed)
    groups = [np.stack([_resampled_run(score, resamples, rng) for score in group]) for group in prompts]
    drawn = [_resampled_group(group, rng) for group in groups]
    means = np.stack(drawn)
    picked = rng.integers(len(means), size=means.shape)
    low, high = np.quantile(np.take_along_axis(means, picked, 0).mean(0), (ALPHA / 2, 1 - ALPHA / 2))
    return Estimate(mean, float(low), float(high), len(scores), over)


def by_setting(scores: Sequence[Score], key: str) -> dict[str, Estimate]:
    """An estimate for each value of `key`, in order of appearance."""
    return {value: estimate(of_value) for value, of_value in _split(scores, key).items()}


def contrasts(scores: Sequence[Score], key: str) -> list[Contrast]:
    """Every two values of `key`, in order of appearance, with Holm's correction over all of them."""
    groups = _split(scores, key)
    found = [_contrast(key, pair, groups[pair[0]], groups[pair[1]]) for pair in itertools.combinations(groups, 2)]
    tested = [c for c in found if c.p is not None]
    adjusted = dict(zip(((c.first, c.second) for c in tested), holm([c.p or 0.0 for c in tested]), strict=True))
    return [replace(c, p=adjusted.get((c.first, c.second)), together=max(1, len(tested))) for c in found]


def holm(ps: Sequence[float]) -> list[float]:
    """The p values of tests that are made together, adjusted so that any false finding has a chance of `ALPHA` at most.

    Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for place, number in enumerate(sorted(range(len(ps)), key=lambda number: ps[number])):
        highest = max(highest, min(1.0, ps[number] * (len(ps) - place)))
        adjusted[number] = highest
    return adjusted


def ranking_test(differences: Sequence[float], *, resamples: int = 9999, seed: int = 0) -> float:
    """Two-sided p of Wilcoxon's signed-rank statistic under all flips of signs: exact up to 13 pairs, ties and all.

    With more pairs the flips are drawn at random (`resamples` of them).
    """
    from scipy.stats import permutation_test, rankdata

    values = np.asarray(differences, dtype=float)
    if len(values) < 2 or not values.any():
        return 1.0
    ranks = rankdata(np.abs(values))

    def statistic(signed: NDArray[Any], axis: int = -1) -> NDArray[Any]:
        return np.asarray(np.sum(np.sign(signed) * ranks, axis=axis))

    result = permutation_test(
        (values,),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def in_words(contrast: Contrast, metric: str, *, more_is_better: bool = True, digits: int = 3) -> str:
    """One sentence for a person: which is better, by how much, and how sure that is."""
    c, d = contrast, contrast.difference
    if not c.pairs:
        return (
            f"{c.key}={c.first} and {c.key}={c.second} have no runs that agree in everything else, so nothing is said."
        )
    gap = f"{abs(d.mean):.{digits}f}"
    pairs = f"{c.pairs} pair{'s' * (c.pairs != 1)} of runs"
    if not c.differ:
        if not c.can_tell:
            return (
                f"{c.key}={c.second} and {c.key}={c.first} differ by {gap} in {metric} over {pairs}: too few to tell "
                f"({least_pairs(c.together)} are the least); add seeds or prompts."
            )
        return f"No difference shown between {c.key}={c.second} and {c.key}={c.first} in {metric} ({_sure(c, digits)})."
    winner, loser = (c.second, c.first) if (d.mean > 0) == more_is_better else (c.first, c.second)
    return f"{c.key}={winner} is better than {c.key}={loser} by {gap} in {metric} ({_sure(c, digits)})."


def _sure(contrast: Contrast, digits: int) -> str:
    d = contrast.difference
    interval = f"95 % interval of the difference {d.low:+.{digits}f} to {d.high:+.{digits}f}"
    p = "p < 0.001" if contrast.p is not None and contrast.p < 0.001 else f"p = {contrast.p:.3f}"
    return f"{interval}, {p}, {contrast.pairs} pairs"


def _contrast(key: str, pair: tuple[str, str], first: Sequence[Score], second: Sequence[Score]) -> Contrast:
    def rest(score: Score) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((name, value) for name, value in score.settings.items() if name != key))

    partners = {rest(score): score for score in first}
    paired = [(partners[rest(score)], score) for score in second if rest(score) in partners]
    if not paired:
        return Contrast(key, *pair, Estimate(float("nan"), float("nan"), float("nan"), 0, ()), 0, None)
    differences = [
        Score(
            {name: value for name, value in b.settings.items() if name != key},
            b.value - a.value,
            tuple(y - x for x, y in zip(a.views, b.views, strict=True)) if len(a.views) == len(b.views) else (),
        )
        for a, b in paired
    ]
    p = ranking_test([score.value for score in differences])
    return Contrast(key, *pair, estimate(differences), len(paired), p)


def _resampled_run(score: Score, resamples: int, rng: np.random.Generator) -> NDArray[Any]:
    """(resamples,): the run's value with its views drawn again."""
    if len(score.views) < 2:
        return np.full(resamples, score.value)
    views = np.asarray(score.views)
    return np.asarray(
        views[rng.integers(len(views), size=(resamples, len(views)))].mean(1) + score.value - views.mean()
    )


def _resampled_group(runs: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """(resamples,): the mean of a prompt's runs (R, resamples), drawn again."""
    picked = rng.integers(len(runs), size=runs.shape)
    return np.asarray(np.take_along_axis(runs, picked, 0).mean(0))


def _split(scores: Sequence[Score], key: str) -> dict[str, list[Score]]:
    return {value: [s for s in scores if s.settings.get(key, "") == value] for value in _values(scores, key)}


def _values(scores: Sequence[Score], key: str = "prompt") -> list[str]:
    return list(dict.fromkeys(score.settings.get(key, "") for score in scores))
