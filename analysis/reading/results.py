"""Everything that figures and the report show of a sweep, loaded once: curves beside forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from luceloop.analysis.reading.curves import load_curves
from luceloop.analysis.reading.forecasts import average, forecast_from, load_configs
from luceloop.analysis.reading.real_rewards import recorded_law
from luceloop.analysis.reading.store import SweepRuns, find_runs
from luceloop.analysis.statistics.seeds import aggregate
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.io.places import Folder
from luceloop.core.theory.finite_n import MOST_DRAWS, usual_replicates
from luceloop.core.theory.forecast import Forecast, forecast

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
    remark: str
    """Why there are no forecasts; empty if there are, or none were asked for."""


def load_results(
    tracking_uri: str, sweep: str, start: Start = "law", cache: Folder | None = None
) -> SweepResults:
    """Load the sweep with this id, its forecasts starting at `start`.

    `cache` is the folder of trained classifiers, where rewards need one.

    What was measured can be shown where the code or the data of the sweep are not: then there is a
    remark instead of forecasts.

    Raises:
        ConfigError: if the tracking store does not have the sweep, or no point of it has a row.
    """
    runs = find_runs(tracking_uri, sweep)
    curves = load_curves(runs)
    if curves.empty:
        raise ConfigError("SWEEP", sweep, "has no iteration on record")
    forecasts, remark = dict[int, Forecast](), ""
    try:
        present = set(curves["point"])
        shown = [index for index in runs.points if index in present]
        forecasts = _forecasts(runs, shown, start, cache)
    except (ConfigError, LoopError) as error:
        remark = f"no forecast: {error}"
    return SweepResults(runs, curves, _points(runs, curves, forecasts), remark)


def _points(
    runs: SweepRuns, curves: pd.DataFrame, forecasts: Mapping[int, Forecast]
) -> list[PointCurves]:
    seeds = curves.groupby("point")["seed"].nunique()
    by_point = dict(list(aggregate(curves, runs.suprema).groupby("point")))
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


def _forecasts(
    runs: SweepRuns, present: Sequence[int], start: Start, cache: Folder | None
) -> dict[int, Forecast]:
    if start == "off":
        return {}
    configs = {index: config for index, config in load_configs(runs).items() if index in present}
    replicates = usual_replicates(len(configs))
    if start == "measured":
        by_seed = forecast_from(runs, configs, cache, replicates=replicates, most_draws=MOST_DRAWS)
        return {i: average(found) for i, found in by_seed.items()}
    laws = [recorded_law(runs, index, config) for index, config in configs.items()]
    found = forecast(
        list(configs.values()), laws, cache, replicates=replicates, most_draws=MOST_DRAWS
    )
    return dict(zip(configs, found, strict=True))
