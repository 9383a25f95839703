"""The claims of a sweep, answered from the runs that its tracking store has."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
import yaml

from luceloop.analysis.reading.forecasts import load_config_text, load_configs
from luceloop.analysis.reading.results import SweepResults
from luceloop.analysis.statistics.claims import BySeed, Verdict, answer_claims
from luceloop.core.config.claims import Iteration
from luceloop.core.config.parsing import parse_config
from luceloop.core.theory.forecast import Forecast


def load_answers(results: SweepResults) -> list[Verdict]:
    """What a sweep's seeds say of its claims; nothing if it makes none.

    Raises:
        ConfigError: if the store lacks the sweep's configuration.
    """
    claims = parse_config(yaml.safe_load(load_config_text(results.runs))).claims
    if not claims:
        return []
    configs = load_configs(results.runs)
    points = {point.index: configs[point.index].flat() for point in results.points}
    names = {point.index: point.name for point in results.points}
    found = {p.index: p.forecast for p in results.points if p.forecast is not None}

    def measure(index: int, metric: str, at: Iteration) -> BySeed:
        return values_at(results.curves, index, metric, at)

    def expect(index: int, metric: str, at: Iteration) -> float | None:
        return forecast_at(found, index, metric, at)

    return answer_claims(claims, points, names, measure, expect)


def values_at(curves: pd.DataFrame, index: int, metric: str, at: Iteration) -> BySeed:
    """A metric of a point by seed, at an iteration; empty if there are no values.

    Args:
        curves: tidy rows of seeds.
        index: of the point.
        metric: its name.
        at: the last iteration that has the metric, that of its highest mean, or a number.
    """
    rows = curves[(curves["point"] == index) & (curves["metric"] == metric)]
    if rows.empty:
        return {}
    iteration = at
    if at == "last":
        iteration = int(rows["iteration"].max())
    elif at == "best":
        iteration = int(str(rows.groupby("iteration")["value"].mean().idxmax()))
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
    if at == "last":
        return float(curve[known[-1]])
    if at == "best":
        return float(max(curve[t] for t in known))
    return float(curve[at]) if at in known else None
