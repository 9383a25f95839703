"""Gaps and verdicts on bounds: against SciPy, by simulation, and in words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.honesty import TIGHT, share_marked
from luceloop.analysis.statistics.seeds import interval
from luceloop.analysis.statistics.verdicts import Gap, at, gap, judge_bound, split_gap
from luceloop.core.theory.finite_n import FiniteN


def test_a_gap_is_the_interval_of_the_mean_minus_what_is_expected():
    values = np.array([1.0, 2.0, 6.0])
    found = gap(values, 5.0)
    low, high = stats.t.interval(0.95, 2, loc=3.0, scale=math.sqrt(7 / 3))
    assert (found.value, found.low, found.high) == pytest.approx((-2, low - 5, high - 5))
    positive = gap(values, 5.0, low=0.0)
    low, high = interval(3.0, math.sqrt(7), 3, low=0.0)
    assert (positive.low, positive.high) == pytest.approx((low - 5, high - 5))


WORDS = [
    (Gap(0.21, 0.15, 0.27, 5), "above by 0.21 (+0.15 to +0.27)"),
    (Gap(-0.21, -0.27, -0.15, 5), "below by 0.21 (-0.27 to -0.15)"),
    (Gap(-0.05, -0.12, 0.03, 5), "agrees (-0.12 to +0.03)"),
    (Gap(0.3, math.nan, math.nan, 1), "undecided: one seed (+0.3)"),
    (Gap(0.3, -4.1, 4.7, 2), "undecided: two seeds (-4.1 to +4.7)"),
]


@pytest.mark.parametrize(("found", "words"), WORDS)
def test_a_gap_is_told_in_words(found, words):
    assert found.words == words


def test_two_seeds_are_never_certain_of_much():
    """Two close seeds were once told to be hundreds of standard errors away."""
    found = gap(np.array([1.0, 1.001]), 0.5)
    half = stats.t.ppf(0.975, 1) * np.std([1.0, 1.001], ddof=1) / math.sqrt(2)
    assert found.high - found.low == pytest.approx(2 * half)
    assert found.words.startswith("above by 0.5")


def test_a_gap_is_split_into_what_n_explains_and_what_is_the_learners():
    rng = np.random.default_rng(0)
    values, simulated = rng.normal(2, 1, size=6), rng.normal(0.5, 2, size=200)
    finite = float(simulated.mean()), float(simulated.std(ddof=1)), 200
    found = split_gap(values, 0.0, finite)
    assert found.from_n is not None and found.learner is not None
    assert found.from_n.value + found.learner.value == pytest.approx(found.whole.value)
    test = stats.ttest_ind(values, simulated, equal_var=False).confidence_interval(0.95)
    assert (found.learner.low, found.learner.high) == pytest.approx(tuple(test))
    half = 1.959964 * finite[1] / math.sqrt(200)
    assert found.from_n.high - found.from_n.low == pytest.approx(2 * half, rel=1e-6)
    assert split_gap(values, 0.0, None).learner is None


def test_a_simulated_value_is_taken_where_there_is_one():
    curve = np.array([1.0, math.nan])
    scatter = FiniteN(curve, curve, curve, curve, 200)
    assert at(scatter, 0) == (1.0, 1.0, 200)
    assert at(scatter, 1) is None and at(scatter, 2) is None and at(None, 0) is None


def test_a_bound_is_tested_at_every_iteration_by_bonferroni():
    rng = np.random.default_rng(1)
    margins = {t: rng.normal(0.2 - 0.2 * t, 0.3, size=5) for t in (1, 2, 3)}
    found = judge_bound(margins)
    tests = {t: stats.ttest_1samp(own, 0, alternative="less").pvalue for t, own in margins.items()}
    worst = min(tests, key=lambda t: tests[t])
    assert found.iteration == worst and found.margin == pytest.approx(margins[worst].mean())
    assert found.p == pytest.approx(min(1, 3 * tests[worst]))
    assert found.below == (margins[worst] < 0).sum()


def _perfect(mean, std=0.02, replicates=200):
    return {1: np.random.default_rng(2).normal(mean, std, size=replicates)}


def test_what_a_perfect_learner_would_miss_is_allowed():
    margins = {1: np.array([-0.10, -0.12, -0.11, -0.09])}
    assert judge_bound(margins).violated
    assert not judge_bound(margins, _perfect(-0.1)).violated
    assert judge_bound(margins, _perfect(-0.02)).violated
    assert judge_bound(margins, _perfect(0.5)).violated  # a bound is a bound


def test_what_perfect_learners_often_show_is_no_violation():
    """One seed in ten has a large margin; three that have not are no news."""
    rng = np.random.default_rng(3)
    skewed = np.where(rng.random(200) < 0.1, 0.9, -0.1) + rng.normal(0, 0.001, size=200)
    margins = {1: np.array([-0.1, -0.101, -0.099])}
    assert judge_bound(margins).violated
    assert not judge_bound(margins, {1: skewed}).violated


def test_no_spread_is_no_proof():
    for value in (0.0, -1e-12, -0.3):
        found = judge_bound({1: np.full(5, value)})
        assert not found.violated
    assert judge_bound({1: np.array([-0.3])}).words == "undecided: one seed"
    assert judge_bound({1: np.array([-3.0, -3.1, -2.9])}, identity=True).words == "an identity"


def test_the_smallest_margin_is_shown_where_a_bound_is_kept():
    margins = {t: np.array([0.50, 0.51, 0.52]) / t for t in (1, 2, 3)}
    assert judge_bound(margins).iteration == 3
    allowed = {t: np.full(200, -0.2 if t == 3 else 0.1) for t in margins}
    assert judge_bound(margins, allowed).iteration == 2  # 0.255 from 0 is less than 0.17 from -0.2


def test_an_undecided_bound_has_no_interval():
    assert math.isnan(judge_bound({1: np.array([0.1, 0.2]), 2: np.full(2, -0.3)}).low)
    assert math.isnan(judge_bound({1: -0.1 + np.array([0.0, 1e-10])}).low)


def test_without_perfect_learners_the_words_say_so_and_biased_margins_are_not_tested():
    rng = np.random.default_rng(0)
    margins = {t: rng.normal(-1.0, 0.1, size=5) for t in (1, 2)}
    assert judge_bound(margins).words.endswith(", against n=∞)")
    found = judge_bound(margins, is_biased=True)
    assert not found.violated and found.words == "not tested: finite n was not simulated"
    perfect = {t: rng.normal(0.0, 0.1, size=200) for t in margins}
    found = judge_bound(margins, perfect, is_biased=True)
    assert found.violated and "n=∞" not in found.words
    assert not judge_bound(margins, {1: perfect[1]}, is_biased=True).violated


def test_seeds_far_beyond_a_bound_violate_it():
    margins = {t: np.random.default_rng(t).normal(-1.0, 0.1, size=3) for t in range(1, 9)}
    found = judge_bound(margins)
    assert found.violated and found.words.startswith("violated (p=") and found.below == 3


SIMULATED = 1000
"""Seeds that are put into groups; `python -m benchmarks honesty` has more."""


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("name", TIGHT)
def test_true_bounds_are_marked_in_at_most_five_percent_of_groups(name, seeds):
    groups = SIMULATED // seeds
    marked = share_marked(name, seeds, groups)
    assert marked <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / groups)


@pytest.mark.parametrize("name", [name for name in TIGHT if "λ=∞" in name])
def test_without_perfect_learners_lemma_2_2_is_no_more_often_marked(name):
    """It is about each seed's own pool, which a retraining resamples without a bias."""
    groups = SIMULATED // 5
    marked = share_marked(name, 5, groups, replicates=0)
    assert marked <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / groups)


def test_what_has_no_spread_is_told_so():
    assert gap(np.ones(5), 0.95, 0.0, 1.0).words == "undecided: no spread over seeds (+0.05)"
    assert gap(np.ones(5), 1 - 1e-12).words.startswith("agrees")
    verdict = judge_bound({1: np.full(5, -0.5), 2: np.array([0.1, 0.2, 0.3, 0.1, 0.2])})
    assert verdict.words == "undecided: no spread over seeds" and verdict.iteration == 1
