"""Comparing points: by how much one is above another, how sure that is, and what it takes.

Points of a sweep share their seeds: a seed has the same real data, the same p_0 and the same names
of random streams in all of them. Differences by seed are then far less noisy than the points
themselves, so seeds are paired wherever two points have at least two in common. Elsewhere the test
is Welch's.

Axes: S seeds; T+1 iterations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.power import TTestIndPower, TTestPower

Array = NDArray[np.float64]
LEVEL = 0.95
"""Coverage of intervals; its complement is the level of tests."""
POWER = 0.8
"""The chance with which `seeds_needed` would show a difference of the size that was measured."""
MOST_NEEDED = 100_000
"""More seeds than anybody runs: beyond, a difference counts as not to be shown."""


@dataclass(frozen=True)
class Difference:
    """How far a quantity of one point is above that of another."""

    difference: float
    """Mean of the first minus mean of the second."""
    ci_low: float
    ci_high: float
    """Ends of its 95 % interval; NaN with a single seed."""
    p: float
    """Two-sided p-value that there is no difference; NaN where no test is possible."""
    paired: bool
    """Whether seeds were paired; else the test is Welch's."""
    correlation: float
    """Between paired seeds; NaN where they are not, or do not vary."""
    seeds: int
    """Pairs, or the smaller number of seeds of the two."""
    seeds_needed: float
    """Seeds of each that show a difference of this size, by this spread, with a power of 80 %; ∞ if
    more than 100,000, NaN where the spread is not known."""
    better: float
    """Probability that a seed of the first is above one of the second, ties half: of a pair, or of
    any two where seeds are not paired."""
    p_holm: float = math.nan
    """The p-value adjusted for all comparisons shown with it."""


def compare(
    first: Mapping[int, float], second: Mapping[int, float], level: float = LEVEL
) -> Difference:
    """Compare a quantity of two points.

    Args:
        first: the quantity of one point, by seed.
        second: the same of another point, by seed.
        level: of the interval; above 0.95 where seeds are added until enough is known.

    Raises:
        ValueError: if one of them has no seed.
    """
    if not (first and second):
        raise ValueError("a comparison needs at least one seed of each point")
    common = sorted(set(first) & set(second))
    if len(common) >= 2 or (len(common) == 1 and len(first) == len(second) == 1):
        a, b = (np.array([point[seed] for seed in common]) for point in (first, second))
        return _paired(a, b, level)
    return _welch(np.array(list(first.values())), np.array(list(second.values())), level)


def _paired(a: Array, b: Array, level: float) -> Difference:
    gaps = a - b
    low, high, p, needed = math.nan, math.nan, math.nan, math.nan
    if len(gaps) > 1 and _varies(gaps, a, b):
        test = stats.ttest_1samp(gaps, 0.0)
        low, high = test.confidence_interval(level)
        p = float(test.pvalue)
        needed = _seeds_needed(TTestPower(), gaps.mean() / gaps.std(ddof=1))
    elif len(gaps) > 1:  # the same difference every time: no spread that a test could use
        low = high = gaps[0]
        if not gaps.any():
            p, needed = 1.0, math.inf
    varies = len(gaps) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0
    return Difference(
        difference=float(gaps.mean()),
        ci_low=float(low),
        ci_high=float(high),
        p=p,
        paired=True,
        correlation=float(np.corrcoef(a, b)[0, 1]) if varies else math.nan,
        seeds=len(gaps),
        seeds_needed=needed,
        better=float((gaps > 0).mean() + (gaps == 0).mean() / 2),
    )


def _varies(gaps: Array, *values: Array) -> bool:
    """Whether gaps spread by more than rounding the values makes them."""
    largest = max(float(np.abs(each).max()) for each in values)
    return float(np.ptp(gaps)) > 1e-12 * largest


def _welch(a: Array, b: Array, level: float) -> Difference:
    low, high, p, needed = math.nan, math.nan, math.nan, math.nan
    pooled = 0.0
    if min(len(a), len(b)) > 1 and (_varies(a, a) or _varies(b, b)):
        pooled = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    if pooled:
        test = stats.ttest_ind(a, b, equal_var=False)
        low, high = test.confidence_interval(level)
        p = float(test.pvalue)
        needed = _seeds_needed(TTestIndPower(), (a.mean() - b.mean()) / pooled)
    above = stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))
    return Difference(
        difference=float(a.mean() - b.mean()),
        ci_low=float(low),
        ci_high=float(high),
        p=p,
        paired=False,
        correlation=math.nan,
        seeds=min(len(a), len(b)),
        seeds_needed=needed,
        better=float(above),
    )


def _seeds_needed(test: TTestPower | TTestIndPower, effect: float) -> float:
    """Seeds of each point at which a test has `POWER` for an effect in standard deviations."""
    if effect == 0:
        return math.inf
    # Of the normal law's tests; Student's need a few more.
    reach = stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(POWER)
    groups = 2 if isinstance(test, TTestIndPower) else 1
    found = math.ceil(groups * (reach / effect) ** 2)
    if found > MOST_NEEDED:
        return math.inf

    def enough(seeds: int) -> bool:
        power = test.power(abs(effect), seeds, 1 - LEVEL)
        return bool(math.isnan(power) or power >= POWER)  # it overflows for the largest effects

    found = max(2, found)
    while not enough(found):
        found += 1
    return float(found)


def adjusted(differences: Sequence[Difference], level: float = LEVEL) -> list[Difference]:
    """The same comparisons with p-values that Holm's method adjusts for their number.

    A comparison without a p-value is not a test, and does not count.

    Args:
        differences: all that are shown together.
        level: of a single look, where seeds are added until enough is known: p-values are raised
            such that 5 % means 5 % for all looks together.
    """
    raised = (1 - LEVEL) / (1 - level)
    tested = [i for i, each in enumerate(differences) if not math.isnan(each.p)]
    found = list(differences)
    if not tested:
        return found
    order = sorted(tested, key=lambda i: differences[i].p)
    # statsmodels' multipletests does the same, and a garbage collection, which takes longer.
    raw = raised * np.array([differences[i].p for i in order]) * np.arange(len(order), 0, -1)
    for i, p in zip(order, np.maximum.accumulate(raw.clip(max=1)), strict=True):
        found[i] = replace(found[i], p_holm=float(p))
    return found


def interquartile_mean(values: Array) -> Array:
    """The mean of the middle half of the seeds, over the last axis `(..., S)` to `(...)`.

    The lowest and highest quarters, rounded down, are left out (Agarwal et al. 2021, arXiv
    2108.13264): one seed that fails moves it little.
    """
    found: Array = stats.trim_mean(np.asarray(values, dtype=np.float64), 0.25, axis=-1)
    return found


def area_under_curve(values: Array) -> Array:
    """The mean of a curve over its iterations by the trapezoid rule, `(..., T+1)` to `(...)`.

    It is in the unit of the metric; a curve of one value is that value.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape[-1] == 1:
        return values[..., 0]
    found: Array = np.trapezoid(values, axis=-1) / (values.shape[-1] - 1)
    return found


def seeds_for_width(values: Array, half_width: float) -> float:
    """Seeds at which the 95 % interval of their mean would be this narrow, by their spread so far.

    Args:
        values: of one seed each `(S,)`, at least two.
        half_width: half the wanted interval, in the unit of the values.

    Raises:
        ValueError: if there are fewer than two seeds, or the width is not positive.
    """
    if len(values) < 2 or half_width <= 0:
        raise ValueError("needs two seeds, and a width above 0")
    std = float(np.std(values, ddof=1))

    def wide(seeds: int) -> bool:
        quantile = stats.t.ppf((1 + LEVEL) / 2, seeds - 1)
        return bool(quantile * std / math.sqrt(seeds) > half_width)

    if wide(MOST_NEEDED):
        return math.inf
    few, many = 1, MOST_NEEDED
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if wide(middle) else (few, middle)
    return float(many)
