"""The rule that turns runs into verdicts, on numbers whose answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from made_up_ablation import ablation, claim
from scipy.stats import ttest_1samp

from headstudio.ablation import VARIANTS, Ablation, files, load
from headstudio.errors import UserError
from headstudio.evaluate.statistics import ALPHA
from headstudio.report.ablation_runs import Planned, Result
from headstudio.report.ablation_verdict import Finding, judge, sentence_test
from headstudio.report.glossary import metric

SENTENCES, SEEDS = 8, 3
PROMPTS = tuple(f"sentence {number}" for number in range(SENTENCES))


def noise(scale: float = 1.0, *, seed: int = 0) -> np.ndarray:
    """(sentences, seeds), its mean exactly zero."""
    drawn = np.random.default_rng(seed).normal(0, scale, (SENTENCES, SEEDS))
    return drawn - drawn.mean()


def results(**gains: np.ndarray) -> list[Result]:
    """Runs whose scores are higher by these gains, (sentences, seeds) for each metric, with `full`."""
    found = []
    for arm, (p, prompt), seed in itertools.product(("full", "reg_none"), enumerate(PROMPTS), range(SEEDS)):
        scores = {name: 0.5 + 0.1 * p + (gain[p, seed] if arm == "full" else 0.0) for name, gain in gains.items()}
        found.append(Result(Planned(arm, prompt, seed, ""), "", scores))
    return found


def claims(*metrics: str, margin: float = 0.0) -> Ablation:
    about = (claim(name, margin=margin, prompts=PROMPTS) for name in metrics)
    return ablation(*about, prompts=PROMPTS, seeds=range(SEEDS))


def judged(gain: np.ndarray, *, number: str = "clip_score", margin: float = 0.0) -> Finding:
    (finding,) = judge(claims(number, margin=margin), results(**{number: gain}))
    return finding


def test_the_test_of_four_pairs_is_that_of_all_sixteen_flips() -> None:
    """By hand: two sentences with means 2 and 1; only all signs alike keep them so, and 3 / sqrt(5) is beaten by no
    other flip but those that make both means alike (1 and 1, two ways up to sign)."""
    gains = np.array([[3.0, 1.0], [1.0, 1.0]])
    assert sentence_test(gains) == (2 + 2) / 16


@pytest.mark.parametrize("seed", range(6))
def test_of_normal_gains_it_is_nearly_the_t_test_over_sentences(seed: int) -> None:
    gains = noise(seed=seed) + 0.3 * seed / 3
    assert sentence_test(gains) == pytest.approx(ttest_1samp(gains.mean(1), 0).pvalue, abs=0.03)


def test_it_knows_no_direction_and_draws_the_same_each_time() -> None:
    gains = noise() + 0.4
    assert sentence_test(gains) == sentence_test(gains) == sentence_test(-gains)


def test_seeds_of_one_sentence_are_no_independent_witnesses() -> None:
    """One sentence gains, with every seed and much; seven do not differ."""
    gains = noise(0.01)
    gains[0] += 10.0
    assert sentence_test(gains) > 0.2


def test_false_findings_are_as_rare_as_they_should_be_where_sentences_differ() -> None:
    """Each sentence has an effect of its own, whose mean over all sentences is zero."""
    rng = np.random.default_rng(0)
    drawn = (rng.normal(0, 1, (SENTENCES, 1)) + rng.normal(0, 0.3, (SENTENCES, SEEDS)) for _ in range(300))
    assert np.mean([sentence_test(gains, flips=499) < 0.05 for gains in drawn]) < 0.11


@pytest.mark.parametrize(
    ("gain", "margin", "verdict"),
    [
        (0.05, 0.0, "supported"),
        (-0.05, 0.0, "contradicted"),
        (0.001, 0.0, "undecided"),
        (0.001, 0.05, "supported"),  # no worse than by 0.05, and that is sure
        (-0.04, 0.05, "undecided"),  # a little worse, perhaps by more than 0.05
        (-0.15, 0.05, "contradicted"),
    ],
)
@pytest.mark.parametrize("number", ["clip_score", "stray_share"])
def test_the_rule(gain: float, margin: float, verdict: str, number: str) -> None:
    """The same for numbers of which more is better and of which less is."""
    sign = 1.0 if number == "clip_score" else -1.0
    finding = judged(sign * (noise(0.03) + gain), number=number, margin=margin)
    assert finding.verdict == verdict
    assert finding.gain is not None
    assert finding.gain.mean == pytest.approx(gain)
    assert finding.gain.low < gain < finding.gain.high


def test_arms_that_never_differ_leave_a_claim_undecided_and_a_margin_kept() -> None:
    same = np.zeros((SENTENCES, SEEDS))
    assert judged(same).verdict == "undecided"
    assert judged(same, margin=0.01).verdict == "supported"


def test_many_claims_are_corrected_together() -> None:
    """A gain that is found alone is not found among seven; one that is beyond doubt still is."""
    small, clear = noise(0.03, seed=1) + 0.012, noise(0.03, seed=1) + 0.2
    assert judged(small).verdict == "supported"
    others = {f"m{number}_error": noise(seed=number + 2) for number in range(5)}
    findings = judge(
        claims("clip_score", "clip_score_front", *others), results(clip_score=small, clip_score_front=clear, **others)
    )
    assert [finding.verdict for finding in findings[:2]] == ["undecided", "supported"]


def test_a_claim_whose_runs_are_missing_is_unfinished_and_counts_all_the_same() -> None:
    """The other claim's p is what it is if the missing runs show nothing."""
    both = claims("clip_score", "stray_share")
    gains = {"clip_score": noise(0.03) + 0.05, "stray_share": noise()}
    whole = results(**gains)
    some = [*whole[:-1], Result(whole[-1].planned, "", {"clip_score": whole[-1].scores["clip_score"]})]
    first, second = judge(both, some)
    assert (second.verdict, second.pairs, second.wanted, second.p) == ("unfinished", 23, 24, None)
    assert first.p == pytest.approx(2 * (judged(gains["clip_score"]).p or 0.0))
    assert [finding.pairs for finding in judge(both, whole[:-1])] == [23, 23]
    assert [finding.verdict for finding in judge(both, [])] == ["unfinished"] * 2


def test_the_least_gain_is_the_one_that_the_rule_begins_to_find() -> None:
    finding = judged(noise(0.03))
    assert finding.verdict == "undecided"
    assert finding.least is not None
    assert judged(noise(0.03) + 1.01 * finding.least).verdict == "supported"
    assert judged(noise(0.03) + 0.99 * finding.least).verdict == "undecided"
    with_margin = judged(noise(0.03), margin=0.01)
    assert with_margin.least == pytest.approx(finding.least - 0.01, rel=1e-3)


def test_three_pairs_can_show_nothing_and_say_so() -> None:
    few = ablation(claim("clip_score", prompts=PROMPTS[:3]), prompts=PROMPTS[:3], seeds=[0])
    (finding,) = judge(few, results(clip_score=noise(0.001) + 9.0))
    assert (finding.pairs, finding.verdict, finding.least) == (3, "undecided", None)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", files())
def test_every_claim_of_ours_can_be_decided(name: str, variant: str) -> None:
    """Which way is better is known, and gains that are as good as beyond doubt would survive the correction."""
    ours = load(name, variant)
    for made in ours.claims:
        assert metric(made.metric).better != "neither"
        clear = np.random.default_rng(0).normal(1, 0.05, (len(made.prompts), len(ours.seeds)))
        assert len(ours.claims) * sentence_test(clear) < ALPHA


def test_a_number_without_a_better_way_is_refused() -> None:
    with pytest.raises(UserError, match=r"gaussians.*which way is better"):
        judge(claims("gaussians"), [])
