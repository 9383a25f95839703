"""How often results are right, and how many seeds they take, where seeds are added by a rule.

Seeds are those of the loop with the learner `empirical`; the truth is the mean of all of them. Each
group of seeds is looked at as a sweep would look at it, with the levels that are corrected for the
number of looks and, for comparison, with plain 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.measure import Options, new_table, show
from luceloop.analysis.statistics.comparison import adjusted, compare
from luceloop.analysis.statistics.looks import level_of
from luceloop.analysis.statistics.seeds import LEVEL, over_seeds
from luceloop.core.config.parsing import parse_config
from luceloop.core.config.search import ObjectiveConfig
from luceloop.core.config.seed_rule import SeedRule, WidthGoal
from luceloop.core.loop.loop import run_loop
from luceloop.sweeps.record.ledger import Point
from luceloop.sweeps.run.rounds import contenders, half_width

GROUPS, LAST = 1000, 4
METRIC = "reward_mean"
POINTS: dict[str, Mapping[str, Any]] = {
    "no taste (β=0), λ=∞": {"curation": {"k": 2, "beta": 0.0}, "lam": math.inf},
    "collapsing (β=10), λ=∞": {"curation": {"k": 2, "beta": 10.0}, "lam": math.inf},
    "mixed (β=10), λ=1": {"curation": {"k": 2, "beta": 10.0}, "lam": 1},
}
STARTS = 3, 5, 10
MOST = 50
WIDTHS = 2.0, 1.0, 0.6, 0.4
"""Half widths that are wanted, in standard deviations of the seeds."""
EFFECTS = 0.0, 0.5, 1.0, 2.0
"""Distances of the claimed number from the truth, in the same unit."""


def main(options: Options, console: Console) -> None:
    """Print a table for each of the three things that seeds can be added for."""
    groups = 50 if options.quick else GROUPS
    widths = new_table("point", "start", "half width / σ", "corrected", "plain 95 %", "seeds")
    claims = new_table("start", "distance / σ", "corrected", "plain 95 %", "seeds")
    for name, settings in POINTS.items():
        values = seeds_of(settings, groups)
        for start in STARTS:
            for width in WIDTHS:
                row = [right_at_width(values, start, width, level=level) for level in (None, LEVEL)]
                shares = (f"{100 * found.mean():.1f} %" for found, _ in row)
                seeds = f"{row[0][1].mean():.1f}"
                widths.add_row(name, str(start), f"{width:g}", *shares, seeds)
    values = seeds_of(POINTS["mixed (β=10), λ=1"], groups)
    for start in STARTS:
        for effect in EFFECTS:
            found = [decided(values, start, effect, level=level) for level in (None, LEVEL)]
            shares = (f"{100 * share.mean():.1f} %" for share, _ in found)
            claims.add_row(str(start), f"{effect:g}", *shares, f"{found[0][1].mean():.1f}")
    title = f"Intervals that hold the mean where seeds end at a width, of {groups:,}"
    show(console, title, widths)
    title = f"Claims decided against a number, of {groups:,}; at distance 0 each is a mistake"
    show(console, title, claims)
    race = new_table("start", "best kept", "seeds a point", "of at most")
    for start in STARTS:
        kept, spent = raced(groups // 5, start)
        race.add_row(str(start), f"{100 * kept.mean():.1f} %", f"{spent.mean():.1f}", str(MOST))
    show(console, f"Races of {len(RACERS)} points, of {groups // 5:,}", race)


def seeds_of(settings: Mapping[str, Any], groups: int) -> np.ndarray:
    """The metric at T, `(groups, MOST)`: a row for each sweep that is looked at."""
    plain = {
        "name": "sequential",
        "data": {"name": "eight_gaussians", "size": 100},
        "learner": {"name": "empirical"},
        "iterations": LAST,
        "sampling": {"preview": 0},
    }
    found = []
    for first in range(0, groups, 100):
        some = range(first * MOST, min(first + 100, groups) * MOST)
        point = parse_config(plain | dict(settings) | {"seeds": list(some)}).point
        *_, last = run_loop(point)
        found.append(last.metrics[METRIC].numpy().reshape(-1, MOST))
    return np.concatenate(found)


def _rule(start: int, until: Any) -> SeedRule:
    return SeedRule.model_validate({"start": start, "until": until, "most": MOST})


def _looked(values: np.ndarray, rule: SeedRule, enough: Callable[[np.ndarray], bool]) -> np.ndarray:
    """How many of its seeds each group takes until enough is known, `(groups,)`."""
    taken = np.full(len(values), rule.most)
    for group, own in enumerate(values):
        for count in rule.counts:
            if enough(own[:count]):
                taken[group] = count
                break
    return taken


def right_at_width(
    values: np.ndarray, start: int, width: float, level: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Whether the interval of each group holds the mean where it is narrow enough, and its seeds.

    Args:
        values: `(groups, MOST)`.
        start: seeds to begin with.
        width: half width, in standard deviations.
        level: of the intervals; if not given, the corrected one.
    """
    goal = WidthGoal(metric=METRIC, half_width=width * float(values.std()))
    rule = _rule(start, goal)
    chosen = level_of(rule) if level is None else level

    def enough(own: np.ndarray) -> bool:
        return half_width(goal, _point(0, own), chosen) <= goal.half_width

    taken, right = _looked(values, rule, enough), np.zeros(len(values), dtype=bool)
    for group, count in enumerate(taken):
        found = over_seeds(values[group, :count], high=0.0, level=chosen)
        right[group] = found["ci_low"] <= values.mean() <= found["ci_high"]
    return right, taken


def decided(
    values: np.ndarray, start: int, effect: float, level: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each group says on which side of a number its mean is, and its seeds.

    Args:
        values: `(groups, MOST)`.
        start: seeds to begin with.
        effect: the distance of the number from the mean, in standard deviations.
        level: of a look; if not given, the corrected one.
    """
    rule = _rule(start, "claims")
    chosen = level_of(rule) if level is None else level
    number = float(values.mean() - effect * values.std())

    def enough(own: np.ndarray) -> bool:
        seeds = dict(enumerate(own))
        [found] = adjusted([compare(seeds, dict.fromkeys(seeds, number), chosen)], chosen)
        return found.p_holm < 1 - LEVEL

    taken = _looked(values, rule, enough)
    certain = np.array([enough(own[:count]) for own, count in zip(values, taken, strict=True)])
    return certain, taken


RACERS = 0.0, 1.0, 2.0, 5.0, 8.0, 9.5, 10.0
"""β of points that race for the highest reward."""


def raced(groups: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether the best point is still in each race at its end, and the seeds of a point."""
    rule, wanted = _rule(start, "best"), ObjectiveConfig(metric=METRIC)
    every = np.stack([_racer(beta, groups) for beta in RACERS])  # (points, groups, MOST)
    best, level = int(every.mean((1, 2)).argmax()), level_of(rule)
    kept, spent = np.zeros(groups, dtype=bool), np.zeros(groups)
    for group in range(groups):
        left, seeds = list(range(len(RACERS))), np.zeros(len(RACERS))
        for count in rule.counts:
            seeds[left] = count
            points = [_point(i, every[i, group, : int(seeds[i])]) for i in range(len(RACERS))]
            left = contenders(wanted, points, level)
            if not left:
                left = [max(range(len(RACERS)), key=lambda i: every[i, group, :count].mean())]
                break
        kept[group], spent[group] = best in left, seeds.mean()
    return kept, spent


def _racer(beta: float, groups: int) -> np.ndarray:
    return seeds_of({"curation": {"k": 2, "beta": beta}, "lam": 1}, groups)


def _point(index: int, values: np.ndarray) -> Point:
    return Point(index, {}, {LAST: {METRIC: values.tolist()}}, status="done", supremum=0.0)
