"""Everything that figures and the report show of a sweep, loaded once: curves beside forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.curves import SweepRuns, find_runs, load_curves
from analysis.forecasts import average, forecast_from, load_configs
from analysis.statistics import aggregate
from core.forecast import Forecast, forecast

Start = Literal["law", "measured", "off"]
"""Where forecasts start: at the real data's law, at the measured p_0, or not at all."""


@dataclass(frozen=True)
class PointCurves:
    """What a figure needs of one point."""

    index: int
    name: str
    seeds: int
    aggregates: pd.DataFrame
    """Tidy aggregate rows of the point; empty where nothing was measured."""
    forecast: Forecast | None = None
    """What the theory says of the point."""

    @property
    def label(self) -> str:
        """The point's name and its number of seeds."""
        if not self.seeds:
            return self.name
        return f"{self.name} ({self.seeds} seed{'s' if self.seeds != 1 else ''})"


@dataclass(frozen=True)
class SweepResults:
    """A sweep as its tracking store has it."""

    runs: SweepRuns
    curves: pd.DataFrame
    """Tidy rows of the seeds."""
    points: list[PointCurves]
    """Those that have rows."""


def load_results(tracking_uri: str, sweep: str, start: Start = "law") -> SweepResults:
    """Load the sweep with this id, its forecasts starting at `start`.

    Raises:
        ConfigError: if the tracking store does not have the sweep, or a point cannot be forecast.
        LoopError: if a reward breaks its contract on the real data.
    """
    runs = find_runs(tracking_uri, sweep)
    curves = load_curves(runs)
    return SweepResults(runs, curves, [] if curves.empty else _points(runs, curves, start))


def _points(runs: SweepRuns, curves: pd.DataFrame, start: Start) -> list[PointCurves]:
    seeds = curves.groupby("point")["seed"].nunique()
    by_point = dict(list(aggregate(curves).groupby("point")))
    forecasts = _forecasts(runs, [index for index in runs.points if index in by_point], start)
    return [
        PointCurves(
            index,
            run.info.run_name or str(index),
            int(seeds[index]),
            by_point[index],
            forecasts.get(index),
        )
        for index, run in runs.points.items()
        if index in by_point
    ]


def _forecasts(runs: SweepRuns, present: Sequence[int], start: Start) -> dict[int, Forecast]:
    if start == "off":
        return {}
    configs = {index: config for index, config in load_configs(runs).items() if index in present}
    if start == "measured":
        return {i: average(found) for i, found in forecast_from(runs, configs).items()}
    return dict(zip(configs, forecast(list(configs.values())), strict=True))
