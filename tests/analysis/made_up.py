"""Sweeps of any size that nobody ran: the forecast of each point, and seeds scattered about it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from luceloop.analysis.drawing.figures import forecast_curves
from luceloop.analysis.reading.results import PointCurves
from luceloop.analysis.statistics.seeds import aggregate
from luceloop.core.config.naming import point_name
from luceloop.core.config.parsing import at_point, parse_config
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.measures.ranges import metric_range
from luceloop.core.theory.forecast import forecast
from luceloop.sweeps.search.space import build_suggestions

EMPTY: Any = None
"""The suggestions of a sampler that does not learn need no ledger."""


def made_up(
    search: Mapping[str, Any], seeds: int = 4, **keys: Any
) -> tuple[SweepConfig, list[PointCurves]]:
    """A sweep of eight Gaussians.

    Args:
        search: what it searches.
        seeds: of each point.
        keys: others of its configuration.
    """
    plain: dict[str, Any] = {"name": "made up", "data": {"name": "eight_gaussians"}}
    plain |= {"iterations": 4, "learner": {"name": "empirical"}, "seeds": seeds}
    config = parse_config(plain | {"search": dict(search)} | keys)
    suggested = build_suggestions(config.search, EMPTY)
    values = [suggested.get(index) for index in range(suggested.total)]
    points = [at_point(config, each) for each in values]
    noise, made = np.random.default_rng(0), []
    for index, (point, found) in enumerate(zip(points, forecast(points), strict=True)):
        rows = [
            (index, seed, t, metric, _within(metric, value * (1 + 0.05 * noise.normal())))
            for metric, curve in found.curves.items()
            for t, value in enumerate(curve)
            if not np.isnan(value)
            for seed in range(seeds)
        ]
        table = pd.DataFrame(rows, columns=["point", "seed", "iteration", "metric", "value"])
        table = table.astype({"seed": "Int64"})
        name = point_name(point.flat(), list(config.search.space))
        alone = forecast_curves(index, name, values[index], found)
        aggregates = aggregate(table)
        made.append(PointCurves(index, name, seeds, aggregates, found, alone.values, by_seed=table))
    return config, made


def _within(metric: str, value: float) -> float:
    """The value that the metric may have next to this one."""
    low, high = metric_range(metric, 8, 0.0)
    return min(max(value, low), high)


BETA_LAM = {"beta": {"grid": [0, 1, 10]}, "lam": {"grid": [0.5, 1, float("inf")]}}
SIXTEEN = {"beta": {"grid": [0, 1, 3, 10]}, "lam": {"grid": [0.5, 1, 2, float("inf")]}}
SIXTY_FOUR = SIXTEEN | {"k": {"grid": [2, 4, 8, 16]}}
TWO_HUNDRED = {
    "beta": {"uniform": [0, 10]},
    "lam": {"loguniform": [0.1, 10]},
    "sampler": "random",
    "trials": 200,
}
SIZES: dict[int, dict[str, Any]] = {9: BETA_LAM, 16: SIXTEEN, 64: SIXTY_FOUR, 200: TWO_HUNDRED}
"""Searches by how many points they have."""


@functools.cache
def of_size(points: int) -> tuple[SweepConfig, list[PointCurves]]:
    """A sweep of 9, 16, 64 or 200 points, made once."""
    return made_up(SIZES[points])
