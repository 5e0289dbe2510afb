"""Intervals and tests against what is known by construction, by scipy, or by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from headstudio.evaluate.statistics import Score, by_setting, contrasts, estimate, in_words, least_pairs, ranking_test


def grid(effect: float, *, prompts: int = 3, seeds: int = 2, noise: float = 0.01, seed: int = 0) -> list[Score]:
    """reg=a and reg=b over prompts and seeds; b is better by `effect`, prompts differ much more than that."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0.7, 0.1, prompts)
    return [
        Score({"reg": reg, "prompt": f"p{p}", "seed": f"s{s}"}, level[p] + effect * (reg == "b") + rng.normal(0, noise))
        for reg in "ab"
        for p in range(prompts)
        for s in range(seeds)
    ]


def test_the_mean_is_over_prompts_first() -> None:
    """Three seeds of one prompt do not outvote one of another."""
    values = [("p", "0", 0.0), ("p", "1", 0.0), ("p", "2", 0.0), ("q", "0", 1.0)]
    found = estimate([Score({"prompt": p, "seed": s}, v) for p, s, v in values])
    assert found.mean == 0.5
    assert found.over == ("prompts", "seeds")
    assert found.runs == 4


def test_a_lone_number_has_no_interval() -> None:
    found = estimate([Score({}, 0.3)])
    assert (found.mean, found.low, found.high, found.over) == (0.3, 0.3, 0.3, ())
    with pytest.raises(ValueError, match="at least one"):
        estimate([])


def test_views_alone_give_the_spread_of_their_mean() -> None:
    views = np.random.default_rng(0).normal(0.5, 0.1, 400)
    found = estimate([Score({}, float(views.mean()), tuple(views))])
    expected = 1.96 * views.std() / np.sqrt(len(views))
    assert found.half_width == pytest.approx(expected, rel=0.15)
    assert found.over == ("views",)


def test_more_views_do_not_pass_for_more_heads() -> None:
    """Ten prompts that differ: the interval is theirs, however many views each run has."""
    level = np.random.default_rng(1).normal(0.5, 0.1, 10)
    few = estimate([Score({"prompt": str(i)}, float(v)) for i, v in enumerate(level)])
    many = estimate([Score({"prompt": str(i)}, float(v), (float(v),) * 100) for i, v in enumerate(level)])
    assert many.half_width == pytest.approx(few.half_width, rel=0.1)
    assert few.half_width == pytest.approx(1.96 * level.std() / np.sqrt(10), rel=0.15)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = []
    for seed in range(100):
        values = np.random.default_rng(seed).normal(0.5, 0.1, 20)
        found = estimate([Score({"prompt": str(i)}, float(v)) for i, v in enumerate(values)], resamples=500)
        covered.append(found.low <= 0.5 <= found.high)
    assert 0.85 <= np.mean(covered) <= 0.99


@given(st.lists(st.floats(-1, 1).map(lambda v: round(v, 3)), min_size=1, max_size=7))
def test_the_test_is_that_of_counting_all_signs(differences: list[float]) -> None:
    """By hand: of all 2^n flips, how many have a rank sum at least as far out."""
    from scipy.stats import rankdata

    values = np.array(differences)
    ranks = rankdata(np.abs(values)) * (values != 0)
    observed = float((np.sign(values) * ranks).sum())
    sums = [float(np.dot(signs, ranks)) for signs in itertools.product((-1, 1), repeat=len(values))]
    upper, lower = np.mean(np.array(sums) >= observed - 1e-9), np.mean(np.array(sums) <= observed + 1e-9)
    assert ranking_test(differences) == pytest.approx(min(1.0, 2 * min(upper, lower)), abs=1e-9)


def test_without_ties_it_is_wilcoxons() -> None:
    for seed in range(5):
        values = np.random.default_rng(seed).normal(0.3, 1.0, 11)
        assert ranking_test(list(values)) == pytest.approx(wilcoxon(values, method="exact").pvalue)


def test_a_difference_within_prompts_is_found_although_prompts_differ_more() -> None:
    (found,) = contrasts(grid(0.08), "reg")
    assert (found.first, found.second, found.pairs) == ("a", "b", 6)
    assert found.differ
    assert found.difference.low > 0.0
    assert found.difference.mean == pytest.approx(0.08, abs=0.02)
    text = in_words(found, "CLIP score")
    assert text.startswith("reg=b is better than reg=a by 0.0")
    assert "6 pairs" in text
    assert in_words(found, "seconds", more_is_better=False).startswith("reg=a is better than reg=b")


def test_no_difference_is_not_called_one() -> None:
    shown = [contrasts(grid(0.0, seed=seed), "reg")[0].differ for seed in range(60)]
    assert np.mean(shown) <= 0.1
    (found,) = contrasts(grid(0.0, seed=1), "reg")
    assert in_words(found, "CLIP score").startswith("No difference shown between reg=b and reg=a")


def test_five_pairs_can_tell_nothing_and_say_so() -> None:
    (found,) = contrasts(grid(0.5, prompts=5, seeds=1), "reg")
    assert not found.differ
    assert not found.can_tell
    assert "too few to tell (6 are the least)" in in_words(found, "CLIP score")


def test_the_fewest_pairs_are_those_of_which_the_rarest_outcome_is_rare_enough() -> None:
    assert [least_pairs(together) for together in (1, 3, 6)] == [6, 7, 8]
    for together in (1, 3, 6):
        pairs = least_pairs(together)
        assert ranking_test([1.0] * pairs) * together < 0.05 <= ranking_test([1.0] * (pairs - 1)) * together


def test_runs_that_agree_in_nothing_else_are_no_pairs() -> None:
    scores = [Score({"reg": "a", "prompt": "p"}, 0.1), Score({"reg": "b", "prompt": "q"}, 0.9)]
    (found,) = contrasts(scores, "reg")
    assert (found.pairs, found.p) == (0, None)
    assert "nothing is said" in in_words(found, "CLIP score")


def test_views_are_paired_where_both_runs_have_them() -> None:
    """A difference that is the same in every view is sure, however much the views differ."""
    views = tuple(np.random.default_rng(0).normal(0.5, 0.2, 24))
    pair = [
        Score({"reg": r}, float(np.mean(views)) + d, tuple(v + d for v in views)) for r, d in (("a", 0), ("b", 0.1))
    ]
    (found,) = contrasts(pair, "reg")
    assert found.difference.low == pytest.approx(0.1)
    assert found.difference.high == pytest.approx(0.1)


def test_holm_raises_each_p_by_how_many_are_left() -> None:
    scores = grid(0.05, prompts=4, seeds=2)
    scores += [Score({**s.settings, "reg": "c"}, s.value + 0.001) for s in scores if s.settings["reg"] == "a"]
    found = contrasts(scores, "reg")
    pairs = [(c.first, c.second) for c in found]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    values = {r: [s.value for s in scores if s.settings["reg"] == r] for r in "abc"}
    raw = {(a, b): ranking_test([y - x for x, y in zip(values[a], values[b], strict=True)]) for a, b in pairs}
    running = 0.0
    for place, pair in enumerate(sorted(pairs, key=lambda pair: raw[pair])):
        running = max(running, min(1.0, raw[pair] * (3 - place)))
        assert found[pairs.index(pair)].p == pytest.approx(running)


def test_settings_are_estimated_in_their_order() -> None:
    found = by_setting(grid(0.1), "reg")
    assert list(found) == ["a", "b"]
    assert found["b"].mean - found["a"].mean == pytest.approx(0.1, abs=0.02)
