"""The number a search optimizes: a metric of a point, reduced over seeds and iterations."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from luceloop.analysis.statistics.seeds import over_seeds
from luceloop.core.config.search import ObjectiveConfig
from luceloop.core.errors import ConfigError
from luceloop.core.measures.ranges import count_classes, metric_range
from luceloop.sweeps.record.events import Row
from luceloop.sweeps.record.ledger import Point


def at_iteration(objective: ObjectiveConfig, row: Row, supremum: float | None = None) -> float:
    """The objective at one iteration.

    Args:
        objective: what is wanted.
        row: metrics of the iteration.
        supremum: r* of the point's reward, if known.

    Raises:
        ConfigError: if the loop has no such metric, or one seed has no spread.
    """
    if objective.metric not in row:
        raise ConfigError(
            "search.objective.metric",
            objective.metric,
            f"is not one of {', '.join(sorted(row))}",
        )
    values = np.array(row[objective.metric])
    match objective.over_seeds:
        case "median" | "min" | "max":
            return float(getattr(np, objective.over_seeds)(values))
        case statistic:
            ends = metric_range(objective.metric, count_classes(row), supremum)
            return float(over_seeds(values, *ends)[statistic])


def is_measured(objectives: Iterable[ObjectiveConfig], point: Point) -> bool:
    """Whether a point has every objective's metric at some iteration."""
    rows = point.rows.values()
    return all(any(objective.metric in row for row in rows) for objective in objectives)


def of_point(objective: ObjectiveConfig, point: Point) -> float:
    """The objective of a point, from the iterations on record that have the metric.

    `at: last` is the last of them; a numbered iteration that was not reached counts as the last.
    """
    rows = {i: row for i, row in sorted(point.rows.items()) if objective.metric in row}
    if objective.at == "best":
        best = max if objective.mode == "max" else min
        return best(at_iteration(objective, row, point.supremum) for row in rows.values())
    wanted = max(rows) if objective.at == "last" else objective.at
    reached = max((i for i in rows if i <= wanted), default=max(rows))
    return at_iteration(objective, rows[reached], point.supremum)
