"""Differences between points against SciPy, closed forms and simulations of known effects."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from luceloop.analysis.statistics.comparison import (
    adjusted,
    area_under_curve,
    compare,
    interquartile_mean,
    seeds_for_width,
)


def _point(values, first=0):
    return {first + i: float(value) for i, value in enumerate(values)}


def test_shared_seeds_are_paired():
    rng = np.random.default_rng(0)
    common = rng.normal(size=8) * 10
    a, b = common + rng.normal(size=8) + 1, common + rng.normal(size=8)
    found = compare(_point(a), _point(b))
    test = stats.ttest_rel(a, b)
    assert found.paired and found.seeds == 8
    assert found.difference == pytest.approx((a - b).mean())
    assert (found.ci_low, found.ci_high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found.p == pytest.approx(test.pvalue)
    assert found.correlation == pytest.approx(stats.pearsonr(a, b).statistic)
    assert found.better == (a > b).mean()


def test_only_common_seeds_are_paired_when_two_points_have_more():
    found = compare(_point([1, 2, 4, 9]), _point([0, 5, 7], first=2))
    assert found.paired and found.seeds == 2  # seeds 2 and 3
    assert found.difference == pytest.approx(((4 - 0) + (9 - 5)) / 2)


def test_other_seeds_are_compared_by_welch():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=6) + 2, 5 * rng.normal(size=9)
    found = compare(_point(a), _point(b, first=100))
    test = stats.ttest_ind(a, b, equal_var=False)
    assert not found.paired and found.seeds == 6 and math.isnan(found.correlation)
    assert found.p == pytest.approx(test.pvalue)
    assert (found.ci_low, found.ci_high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    above = np.mean([[x > y for y in b] for x in a])
    assert found.better == pytest.approx(above)


def test_turning_a_comparison_round_turns_its_sign():
    rng = np.random.default_rng(2)
    for first in (0, 50):
        a, b = _point(rng.normal(size=5)), _point(rng.normal(size=5), first)
        one, other = compare(a, b), compare(b, a)
        assert one.difference == pytest.approx(-other.difference)
        assert (one.ci_low, one.ci_high) == pytest.approx((-other.ci_high, -other.ci_low))
        assert one.p == pytest.approx(other.p) and one.better == pytest.approx(1 - other.better)


def test_one_seed_gives_a_difference_and_no_certainty():
    for other in (_point([1.0]), _point([1.0], first=9)):
        found = compare(_point([3.0]), other)
        assert found.difference == 2 and math.isnan(found.ci_low) and math.isnan(found.p)
        assert math.isnan(found.seeds_needed)
    with pytest.raises(ValueError, match="at least one seed"):
        compare({}, _point([1.0]))


def test_no_spread_is_no_certainty():
    same = compare(_point([1, 2, 3]), _point([1, 2, 3]))
    assert same.difference == 0 and same.p == 1
    shifted = compare(_point([1, 2, 3]), _point([0, 1, 2]))
    assert shifted.difference == 1 and math.isnan(shifted.p) and math.isnan(shifted.seeds_needed)


def test_holm_adjusts_for_the_tests_that_were_made():
    rng = np.random.default_rng(3)
    made = [compare(_point(rng.normal(size=6) + s), _point(rng.normal(size=6))) for s in (0, 1, 3)]
    without = compare(_point([1.0]), _point([2.0]))
    found = adjusted([made[0], without, *made[1:]])
    assert math.isnan(found[1].p_holm)
    expected = multipletests([each.p for each in made], method="holm")[1]
    assert [found[i].p_holm for i in (0, 2, 3)] == pytest.approx(expected)
    assert adjusted([without]) == [without]


FAMILIES = 1000


def test_a_family_of_true_nulls_is_marked_in_five_percent_of_sweeps():
    """Six pairs of four equal points that share seeds."""
    rng = np.random.default_rng(4)
    marked = 0
    for _ in range(FAMILIES):
        common = rng.normal(size=5)
        points = [_point(common + rng.normal(size=5)) for _ in range(4)]
        pairs = [compare(a, b) for i, a in enumerate(points) for b in points[:i]]
        marked += min(each.p_holm for each in adjusted(pairs)) < 0.05
    error = math.sqrt(0.05 * 0.95 / FAMILIES)
    assert marked / FAMILIES < 0.05 + 3 * error


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("effect", [0.5, 1.0, 2.0])
def test_as_many_seeds_as_are_needed_show_a_known_effect_four_times_in_five(paired, effect):
    """The number that is told, from many seeds of a known effect, has the power that it claims."""
    rng = np.random.default_rng(5)
    first = 0 if paired else 10**6
    scale = 1 / math.sqrt(2) if paired else 1.0  # so that differences have std 1
    many = 20_000
    a = _point(rng.normal(size=many) * scale + effect)
    told = compare(a, _point(rng.normal(size=many) * scale, first)).seeds_needed
    needed = _least_with_power(rng, paired, effect, scale)
    assert abs(told - needed) <= max(1, 0.2 * needed)


def _least_with_power(rng, paired, effect, scale, trials=4000):
    """Least seeds for which simulated tests find the effect in 80 % of trials."""
    for seeds in range(2, 200):
        a = rng.normal(size=(trials, seeds)) * scale + effect
        b = rng.normal(size=(trials, seeds)) * scale
        test = stats.ttest_rel(a, b, axis=1) if paired else stats.ttest_ind(a, b, axis=1)
        if (test.pvalue < 0.05).mean() >= 0.8:
            return seeds
    raise AssertionError("no number of seeds shows the effect")


def test_no_effect_takes_more_seeds_than_anybody_runs():
    rng = np.random.default_rng(6)
    noise = rng.normal(size=10)
    found = compare(_point(noise), _point(noise + rng.permutation([-1e-9, 1e-9] * 5)))
    assert math.isinf(found.seeds_needed)


def test_the_interquartile_mean_leaves_the_outer_quarters_out():
    assert interquartile_mean(np.array([[1, 2, 3, 100], [5, 5, 5, 5.0]])).tolist() == [2.5, 5]
    values = np.random.default_rng(7).normal(size=(3, 11))
    middle = np.sort(values)[:, 2:9]  # 11/4 rounded down is 2
    np.testing.assert_allclose(interquartile_mean(values), middle.mean(1))


def test_the_area_of_a_line_is_its_middle():
    line = 3 + 2 * np.arange(6.0)
    assert area_under_curve(line) == pytest.approx(8.0)
    assert area_under_curve(np.array([[7.0], [9.0]])).tolist() == [7, 9]


def test_as_many_seeds_as_told_make_the_interval_as_narrow_as_wanted():
    values = np.random.default_rng(8).normal(size=400)
    std = values.std(ddof=1)
    for half in (0.05, 0.3, 1.0):
        seeds = seeds_for_width(values, half)
        widths = [stats.t.ppf(0.975, s - 1) * std / math.sqrt(s) for s in (seeds, seeds - 1)]
        assert widths[0] <= half and not widths[1] <= half
    with pytest.raises(ValueError, match="two seeds"):
        seeds_for_width(values[:1], 1.0)


def test_rounding_is_no_spread():
    found = compare(_point(0.1 * np.arange(5)), _point(0.1 * np.arange(5) + 0.3))
    assert found.difference == pytest.approx(-0.3) and math.isnan(found.p)
