"""The claims of a sweep, answered from the runs that its tracking store has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from luceloop.analysis.reading.forecasts import load_config, load_configs
from luceloop.analysis.reading.results import SweepResults
from luceloop.analysis.statistics.claims import BySeed, Verdict, answer_claims
from luceloop.core.config.claims import ClaimConfig, Iteration
from luceloop.core.theory.forecast import Forecast


def load_answers(
    results: SweepResults, claims: Sequence[ClaimConfig] | None = None
) -> list[Verdict]:
    """What a sweep's seeds say of claims.

    Args:
        results: what the sweep came to.
        claims: what is claimed; if not given, what the sweep was run to find out.

    Raises:
        ConfigError: if the store lacks the sweep's configuration.
    """
    if claims is None:
        claims = (results.config or load_config(results.runs)).claims
    if not claims:
        return []
    configs = results.configs or load_configs(results.runs)
    points = {point.index: configs[point.index].flat() for point in results.points}
    names = {point.index: point.name for point in results.points}
    last = results.curves.groupby("point")["iteration"].max().to_dict()
    ended = [index for index in points if last[index] == configs[index].iterations]
    curves = by_point_and_metric(results.curves)
    found = {p.index: p.forecast for p in results.points if p.forecast is not None}

    def measure(index: int, metric: str, at: Iteration) -> BySeed:
        return values_at(curves, index, metric, at)

    def expect(index: int, metric: str, at: Iteration) -> float | None:
        return forecast_at(found, index, metric, at)

    return answer_claims(claims, points, names, measure, expect, ended, level=results.runs.level)


Curves = Mapping[tuple[int, str], pd.DataFrame]
"""Rows of seeds by point and metric."""


def by_point_and_metric(curves: pd.DataFrame) -> Curves:
    """Tidy rows of seeds, sorted once for many look-ups."""
    return {(int(str(p)), str(m)): rows for (p, m), rows in curves.groupby(["point", "metric"])}


def values_at(curves: Curves, index: int, metric: str, at: Iteration) -> BySeed:
    """A metric of a point by seed, at an iteration; empty if there are no values.

    Args:
        curves: rows of seeds.
        index: of the point.
        metric: its name.
        at: the last iteration that has the metric, or a number.
    """
    rows = curves.get((index, metric))
    if rows is None:
        return {}
    iteration = int(rows["iteration"].max()) if at == "last" else at
    chosen = rows[rows["iteration"] == iteration]
    return {int(s): float(v) for s, v in zip(chosen["seed"], chosen["value"], strict=True)}


def forecast_at(
    forecasts: Mapping[int, Forecast], index: int, metric: str, at: Iteration
) -> float | None:
    """The forecast of a point's metric at an iteration; None where there is none."""
    found = forecasts.get(index)
    if found is None or metric not in found.curves:
        return None
    curve = found.curves[metric]
    known = [t for t, value in enumerate(curve) if not math.isnan(value)]
    wanted = known[-1] if at == "last" and known else at
    return float(curve[wanted]) if wanted in known else None
