"""Rounds of seeds: which points get further ones, decided whenever all points have ended.

A decision depends on the record alone, and is itself put on record whole, so that neither timing
nor interruptions change which seeds are run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from luceloop.analysis.statistics.comparison import compare
from luceloop.analysis.statistics.looks import level_of
from luceloop.analysis.statistics.seeds import LEVEL, over_seeds
from luceloop.core.config.search import ObjectiveConfig
from luceloop.core.config.seed_rule import SeedRule, WidthGoal
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.measures.ranges import count_classes, metric_range
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger, Point, recorded_config
from luceloop.sweeps.run.answers import answers
from luceloop.sweeps.search import objective


@dataclass(frozen=True)
class Round:
    """What a look at a sweep has shown."""

    batches: dict[int, tuple[int, ...]]
    """Seeds to be added, by the index of the point; none where enough is known."""
    words: str
    """The same for the user, in a line."""


def next_round(config: SweepConfig, ledger: Ledger, folder: SweepFolder) -> Round | None:
    """Decide which points get further seeds; None where seeds are not added by a rule.

    Args:
        config: of the sweep.
        ledger: its record; all points have ended.
        folder: its folder, with the real rewards that claims about the forecast need.
    """
    rule = config.seed_rule
    if rule is None:
        return None
    done = [point for point in ledger.points.values() if point.status == "done"]
    counts = {point.index: len(recorded_config(config, point).seeds) for point in done}
    needy = set(_needy(config, rule, ledger, folder, done))
    batches = {
        index: tuple(range(count, min(more for more in rule.counts if more > count)))
        for index, count in counts.items()
        if index in needy and count < rule.most
    }
    return Round(batches, _words(rule, counts, needy, batches))


def _words(
    rule: SeedRule, counts: dict[int, int], needy: set[int], batches: dict[int, tuple[int, ...]]
) -> str:
    few, many = min(counts.values(), default=0), max(counts.values(), default=0)
    seeds = f"{few} seeds" if few == many else f"{few} to {many} seeds"
    wanted = rule.until if isinstance(rule.until, str) else rule.until.metric
    if batches:
        return f"{seeds}: {len(batches)} of {len(counts)} points need more ({wanted})"
    if needy:
        return f"{seeds}: {len(needy)} points are not decided by the most seeds, {rule.most}"
    return f"{seeds}: enough is known ({wanted})"


def _needy(
    config: SweepConfig, rule: SeedRule, ledger: Ledger, folder: SweepFolder, done: list[Point]
) -> Iterable[int]:
    """The points of which not enough is known, whatever number of seeds they have."""
    level = level_of(rule)
    if isinstance(rule.until, WidthGoal):
        goal = rule.until
        return [p.index for p in done if not half_width(goal, p, level) <= goal.half_width]
    if rule.until == "claims":
        return _undecided(config, ledger, folder)
    return contenders(config.search.objective[0], done, level)


def half_width(goal: WidthGoal, point: Point, level: float) -> float:
    """Half the length of the interval of a metric's mean over a point's seeds.

    Raises:
        ConfigError: if the point has no such metric at that iteration.
    """
    rows = {t: row for t, row in point.rows.items() if goal.metric in row}
    at = max(rows, default=-1) if goal.at == "last" else goal.at
    if at not in rows:
        allowed = "must be a metric that every point has at that iteration"
        raise ConfigError("seeds.until.metric", goal.metric, allowed)
    row = rows[at]
    ends = metric_range(goal.metric, count_classes(row), point.supremum)
    found = over_seeds(row[goal.metric], *ends, level)
    return float(found["ci_high"] - found["ci_low"]) / 2


def _undecided(config: SweepConfig, ledger: Ledger, folder: SweepFolder) -> Iterable[int]:
    """The points that undecided claims rest on, but for comparisons that support them already."""
    for verdict in answers(config, ledger, folder):
        if verdict.answer == "undecided":
            for comparison in verdict.comparisons:
                if comparison.answer == "undecided":
                    yield from comparison.points


def contenders(wanted: ObjectiveConfig, points: list[Point], level: float) -> list[int]:
    """The points that may still be the best one, by paired tests against the best so far.

    A race in the sense of Maron & Moore 1994: who is surely behind gets no more seeds. The 5 % are
    divided among the points (Bonferroni) and, by `level`, among the looks.

    Args:
        wanted: what makes a point better; means over seeds are compared.
        points: those that have run to their end.
        level: of a single look.

    Returns:
        Indices; none if only one is left, which is the best.
    """
    sign = 1 if wanted.mode == "max" else -1
    values = {point.index: sign * _by_seed(wanted, point) for point in points}
    if not values:
        return []
    best = max(values, key=lambda index: (values[index].mean(), -index))
    raised = (1 - LEVEL) / (1 - level) * max(1, len(values) - 1)
    leader = dict(enumerate(values[best]))
    left = [best]
    for index, own in values.items():
        if index != best:
            found = compare(leader, dict(enumerate(own)))
            behind = found.difference > 0 and found.p * raised < 1 - LEVEL
            if not behind:
                left.append(index)
    return left if len(left) > 1 else []


def _by_seed(wanted: ObjectiveConfig, point: Point) -> np.ndarray:
    """The objective's metric of every seed, at the iteration where the objective is taken."""
    rows = {t: row for t, row in sorted(point.rows.items()) if wanted.metric in row}
    if wanted.at == "best":
        signed = {"max": 1, "min": -1}[wanted.mode]
        at = max(rows, key=lambda t: signed * objective.at_iteration(wanted, rows[t]))
    else:
        last = max(rows)
        at = last if wanted.at == "last" else min(wanted.at, last)
    return np.asarray(rows[at][wanted.metric], dtype=np.float64)
