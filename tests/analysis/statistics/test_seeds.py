"""Statistics over seeds against scipy and by simulation."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from luceloop.analysis.statistics.seeds import over_seeds
from luceloop.core.measures.ranges import metric_range


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_statistics_equal_those_of_the_standard_library_and_scipy(count):
    values = np.random.default_rng(count).normal(3, 2, size=count)
    found = over_seeds(values)
    mean, std = statistics.fmean(values), statistics.stdev(values)
    low, high = stats.t.interval(0.95, count - 1, loc=mean, scale=std / math.sqrt(count))
    expected = {"mean": mean, "std": std, "ci_low": low, "ci_high": high, "n": count}
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected)


def test_leading_axes_are_reduced_one_by_one():
    values = np.random.default_rng(0).normal(size=(4, 3, 6))
    found = over_seeds(values)
    for i, j in np.ndindex(4, 3):
        alone = over_seeds(values[i, j])
        for name, value in found.items():
            assert value.shape == (4, 3)
            assert value[i, j] == pytest.approx(float(alone[name]), rel=1e-12)


def test_one_seed_has_a_mean_but_no_spread():
    found = over_seeds(np.array([[4.0], [7.0]]))
    assert set(found) == {"mean", "n"}
    assert found["mean"].tolist() == [4.0, 7.0]
    assert found["n"].tolist() == [1.0, 1.0]


def test_equal_seeds_have_an_interval_of_no_width():
    found = over_seeds(np.full(5, 2.5))
    assert found["std"] == 0
    assert found["ci_low"] == found["mean"] == found["ci_high"] == 2.5


def test_whole_numbers_are_averaged_as_reals():
    assert over_seeds(np.array([0, 1]))["mean"] == 0.5


@pytest.mark.parametrize("count", [2, 3, 5])
def test_interval_covers_the_truth_in_95_of_100_cases(count):
    trials = 20_000
    found = over_seeds(np.random.default_rng(count).normal(1.0, 3.0, size=(trials, count)))
    covered = ((found["ci_low"] <= 1.0) & (1.0 <= found["ci_high"])).mean()
    # Five standard errors of a binomial share.
    assert abs(covered - 0.95) < 5 * math.sqrt(0.95 * 0.05 / trials)


@pytest.mark.parametrize("count", [2, 5, 8])
def test_quartiles_are_those_of_the_standard_library(count):
    values = np.random.default_rng(count).normal(size=count)
    found = over_seeds(values)
    expected = statistics.quantiles(values.tolist(), n=4, method="inclusive")
    quartiles = [float(found[name]) for name in ("q25", "median", "q75")]
    assert quartiles == pytest.approx(expected)


RANGES = [(0.0, 1.0), (0.0, math.inf), (-math.inf, 1.0), (0.0, math.log(8))]


@pytest.mark.parametrize(("low", "high"), RANGES)
@pytest.mark.parametrize("count", [2, 3, 10])
def test_intervals_stay_in_the_range_and_hold_the_mean(low, high, count):
    rng = np.random.default_rng(0)
    ends = max(low, -20), min(high, 20)
    values = rng.beta(0.3, 0.3, size=(2000, count)) * (ends[1] - ends[0]) + ends[0]
    found = over_seeds(values, low, high)
    assert (low <= found["ci_low"]).all() and (found["ci_high"] <= high).all()
    assert (found["ci_low"] <= found["mean"]).all() and (found["mean"] <= found["ci_high"]).all()


def test_intervals_with_two_ends_are_students_on_the_logit_scale():
    values = np.array([0.1, 0.3, 0.15, 0.2])
    found = over_seeds(values, 0.0, 1.0)
    mean, error = values.mean(), stats.sem(values)
    half = stats.t.ppf(0.975, 3) * error / (mean * (1 - mean))
    expected = [1 / (1 + math.exp(-(math.log(mean / (1 - mean)) + s * half))) for s in (-1, 1)]
    assert [float(found["ci_low"]), float(found["ci_high"])] == pytest.approx(expected)


def test_intervals_with_one_end_are_students_on_the_log_scale_and_mirror_one_another():
    values = np.array([0.5, 2.0, 1.0])
    found, turned = over_seeds(values, low=0.0), over_seeds(-values, high=0.0)
    half = stats.t.ppf(0.975, 2) * stats.sem(values) / values.mean()
    expected = [values.mean() * math.exp(s * half) for s in (-1, 1)]
    assert [float(found["ci_low"]), float(found["ci_high"])] == pytest.approx(expected)
    assert float(turned["ci_low"]) == pytest.approx(-expected[1])
    assert float(turned["ci_high"]) == pytest.approx(-expected[0])


def test_two_seeds_of_a_metric_with_one_end_do_not_reach_a_thousand_times_too_far():
    values = np.array([-0.2, -0.9])
    found = over_seeds(values, high=0.0)
    low, _ = stats.t.interval(0.95, 1, loc=-0.55, scale=stats.sem(values))
    assert float(found["ci_low"]) == pytest.approx(low)
    assert found["ci_high"] == 0.0


def test_far_from_its_ends_a_range_changes_nothing():
    values = np.array([0.5, 0.5001, 0.4999])
    plain, ranged = over_seeds(values), over_seeds(values, 0.0, 1.0)
    assert float(ranged["ci_low"]) == pytest.approx(float(plain["ci_low"]), abs=1e-9)


def test_seeds_that_all_lie_at_an_end_have_an_interval_of_no_width():
    for end in (0.0, 1.0):
        found = over_seeds(np.full(4, end), 0.0, 1.0)
        assert found["ci_low"] == found["ci_high"] == end


SKEWED = {
    "normal": (lambda rng, n: rng.normal(5, 1, n), 5.0, (0.0, math.inf)),
    "gamma": (lambda rng, n: rng.gamma(4, 1, n), 4.0, (0.0, math.inf)),
    "exponential": (lambda rng, n: rng.exponential(1, n), 1.0, (0.0, math.inf)),
    "shares about a half": (lambda rng, n: rng.beta(8, 8, n), 0.5, (0.0, 1.0)),
    "small shares": (lambda rng, n: rng.beta(2, 18, n), 0.1, (0.0, 1.0)),
    "large shares": (lambda rng, n: rng.beta(19, 1, n), 0.95, (0.0, 1.0)),
}


@pytest.mark.parametrize("count", [5, 10, 30])
@pytest.mark.parametrize(("draw", "mean", "ends"), SKEWED.values(), ids=SKEWED)
def test_intervals_cover_93_to_97_percent_of_skewed_seeds(draw, mean, ends, count):
    trials = 20_000
    found = over_seeds(draw(np.random.default_rng(count), (trials, count)), *ends)
    covered = ((found["ci_low"] <= mean) & (mean <= found["ci_high"])).mean()
    error = 3 * math.sqrt(0.06 * 0.94 / trials)
    assert 0.93 - error <= covered <= 0.97 + error


METRICS = {
    "class_fraction/3": (0, 1),
    "precision": (0, 1),
    "exp_reward_mean": (0, 1),
    "exp_reward_var": (0, 0.25),
    "class_entropy": (0, math.log(4)),
    "reward_std": (0, math.inf),
    "seconds/fit": (0, math.inf),
    "width_ratio": (0, math.inf),
    "reward_mean": (-math.inf, 0.5),
    "kept_reward_mean": (-math.inf, 0.5),
    "margin/lemma_2_2": (-math.inf, math.inf),
    "my_own": (-math.inf, math.inf),
}


@pytest.mark.parametrize(("metric", "ends"), METRICS.items())
def test_metrics_have_the_ranges_that_they_have(metric, ends):
    assert metric_range(metric, 4, 0.5) == ends


def test_without_a_known_supremum_rewards_have_no_range():
    assert metric_range("reward_mean") == (-math.inf, math.inf)
