"""Statistics over seeds against scipy and by simulation."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from luceloop.analysis.statistics import gap, over_seeds


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_statistics_equal_those_of_the_standard_library_and_scipy(count):
    values = np.random.default_rng(count).normal(3, 2, size=count)
    found = over_seeds(values)
    mean, std = statistics.fmean(values), statistics.stdev(values)
    low, high = stats.t.interval(0.95, count - 1, loc=mean, scale=std / math.sqrt(count))
    expected = {"mean": mean, "std": std, "ci_low": low, "ci_high": high, "n": count}
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected)


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


def test_a_gap_is_in_standard_errors_of_the_mean():
    values = np.array([1.0, 2.0, 6.0])  # mean 3, std √7
    assert gap(values, 5.0) == pytest.approx(-2 / math.sqrt(7 / 3), rel=1e-12)
    assert gap(values, 3.0) == 0


@pytest.mark.parametrize(
    "values", [[4.0], [4.0, 4.0], [0.1] * 3], ids=["one seed", "no spread", "a rounded mean"]
)
def test_without_a_spread_there_is_no_gap(values):
    assert gap(np.array(values), 5.0) is None
