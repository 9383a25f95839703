"""Confidence levels for results that are looked at again and again while seeds are added.

Whoever adds seeds until an interval is narrow stops where the spread happens to look small, and
whoever adds seeds until a test is significant has several chances to be wrong. So each look is
taken at a higher level than 95 %, such that what is reported in the end is right 95 % of the time.
The level is found by simulating normal seeds (repeated confidence intervals: Jennison & Turnbull
1989; fixed-width intervals: Chow & Robbins 1965).

Axes: L looks; P simulated paths.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from luceloop.analysis.statistics.seeds import LEVEL
from luceloop.core.config.seed_rule import SeedRule, WidthGoal

Array = NDArray[np.float64]
PATHS = 40_000
"""Simulated sequences of seeds: coverage is known to 0.1 %."""
WIDTHS = 16
"""Wanted widths, relative to the spread, of which the worst one counts."""
ROUNDS = 10
"""Halvings of the range in which the level lies."""

Stop = Literal["width", "any"]
"""What ends the looking: an interval that is narrow enough, or anything at all."""


def level_of(rule: SeedRule | None) -> float:
    """The level of intervals and tests of a sweep; 0.95 where seeds are not added by a rule."""
    if rule is None:
        return LEVEL
    return level_of_looks(rule.counts, "width" if isinstance(rule.until, WidthGoal) else "any")


@functools.cache
def level_of_looks(counts: tuple[int, ...], stop: Stop = "any") -> float:
    """The level at which each of several looks has to be taken for 95 % in the end.

    Args:
        counts: seeds at each look, growing, at least two.
        stop: `any`: the intervals of all looks hold the mean at once, so that one may stop for
            whatever reason; `width`: one stops where the interval is narrow, however narrow that
            is relative to the spread.

    Returns:
        A level from 0.95; with a single look it is 0.95.
    """
    if len(counts) == 1:
        return LEVEL
    ratios = _simulate(counts)
    n = np.array(counts, dtype=np.float64)[:, None]
    if stop == "any":
        p = 2 * student_t.sf(np.abs(ratios.t), n - 1)
        return _rounded_up(1 - float(np.quantile(p.min(0), 1 - LEVEL)))
    low, high = LEVEL, level_of_looks(counts, "any")
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        enough = _worst_coverage(ratios, n, middle) >= LEVEL
        low, high = (low, middle) if enough else (middle, high)
    return _rounded_up(high)


def _rounded_up(level: float) -> float:
    """The level to four digits, of which the last is beyond what the simulation tells."""
    return math.ceil(level * 1e4) / 1e4


class _Paths:
    """Simulated looks: the t statistic of the true mean, and the standard error."""

    def __init__(self, t: Array, error: Array) -> None:
        """Take both, `(L, P)`."""
        self.t, self.error = t, error


def _simulate(counts: Sequence[int]) -> _Paths:
    """Looks at sequences of standard normal seeds, by what a batch adds to sums and squares."""
    random = np.random.default_rng(0)
    total, squares, before = np.zeros(PATHS), np.zeros(PATHS), 0
    t, errors = [], []
    for count in counts:
        batch = count - before
        added = random.standard_normal(PATHS) * np.sqrt(batch)
        inside = random.chisquare(batch - 1, PATHS) if batch > 1 else np.zeros(PATHS)
        between = 0.0
        if before:
            between = (added / batch - total / before) ** 2 * before * batch / count
        squares, total, before = squares + inside + between, total + added, count
        errors.append(np.sqrt(squares / (count - 1) / count))
        t.append(total / count / errors[-1])
    return _Paths(np.array(t), np.array(errors))


def _worst_coverage(paths: _Paths, n: Array, level: float) -> float:
    """How often the interval where one stops holds the mean, at the worst of all widths."""
    quantile = student_t.ppf((1 + level) / 2, n - 1)
    half = quantile * paths.error
    every, found = np.arange(PATHS), []
    for wanted in np.geomspace(half[-1].mean() * 0.8, half[0].mean() * 1.5, WIDTHS):
        narrow = half <= wanted
        narrow[-1] = True
        at = narrow.argmax(0)
        found.append(float((np.abs(paths.t[at, every]) <= quantile[at, 0]).mean()))
    return min(found)
