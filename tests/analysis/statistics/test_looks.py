"""Levels of repeated looks: what is reported in the end is right 95 % of the time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student_t

from luceloop.analysis.statistics.looks import level_of, level_of_looks
from luceloop.core.config.seed_rule import SeedRule

PATHS = 20_000
TOLERANCE = 4 * math.sqrt(0.95 * 0.05 / PATHS) + 0.001  # its own and that of the level itself


def rule(until: object, start: int = 5, most: int = 50, growth: float = 1.5) -> SeedRule:
    return SeedRule.model_validate({"start": start, "until": until, "most": most, "growth": growth})


def intervals(counts: tuple[int, ...], level: float) -> tuple[np.ndarray, np.ndarray]:
    """Means and half widths `(P, L)` at each look, from every single seed: the slow reference."""
    seeds = np.random.default_rng(123).standard_normal((PATHS, counts[-1]))
    means = np.stack([seeds[:, :n].mean(1) for n in counts], 1)
    errors = np.stack([seeds[:, :n].std(1, ddof=1) / math.sqrt(n) for n in counts], 1)
    quantiles = np.array([student_t.ppf((1 + level) / 2, n - 1) for n in counts])
    return means, errors * quantiles


def test_seeds_grow_by_the_factor_up_to_the_most():
    assert rule("claims").counts == (5, 8, 12, 18, 27, 41, 50)
    assert rule("claims", start=3, most=4, growth=1.01).counts == (3, 4)
    assert rule("claims", start=3, most=6, growth=1.01).counts == (3, 4, 5, 6)


@pytest.mark.parametrize("start", [3, 5, 10])
def test_stopping_at_a_width_covers_95_percent_whatever_the_width(start):
    counts = rule({"half_width": 1.0}, start=start).counts
    means, half = intervals(counts, level_of_looks(counts, "width"))
    coverage = []
    for wanted in np.geomspace(0.2, 3, 15):
        narrow = half <= wanted
        narrow[:, -1] = True
        at = narrow.argmax(1)
        every = np.arange(PATHS)
        coverage.append((np.abs(means[every, at]) <= half[every, at]).mean())
    assert min(coverage) >= 0.95 - TOLERANCE
    assert min(coverage) <= 0.95 + TOLERANCE  # no wider than needed


def test_plain_intervals_would_cover_less():
    counts = rule({"half_width": 1.0}).counts
    means, half = intervals(counts, 0.95)
    narrow = half <= 0.6
    narrow[:, -1] = True
    at, every = narrow.argmax(1), np.arange(PATHS)
    assert (np.abs(means[every, at]) <= half[every, at]).mean() < 0.935


def test_all_looks_together_are_wrong_5_percent_of_the_time():
    counts = rule("claims").counts
    means, half = intervals(counts, level_of_looks(counts, "any"))
    wrong = (np.abs(means) > half).any(1).mean()
    assert abs(wrong - 0.05) <= TOLERANCE


def test_a_single_look_is_taken_at_95_percent():
    assert level_of_looks((7,)) == 0.95
    assert level_of(None) == 0.95


def test_levels_depend_on_what_ends_the_looking():
    width, claims = level_of(rule({"half_width": 1.0})), level_of(rule("claims"))
    assert 0.95 < width < claims < 0.99
