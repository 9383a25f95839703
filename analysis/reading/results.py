"""Everything that figures and the report show of a sweep, loaded once: curves beside forecasts."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from luceloop.analysis.reading import labels
from luceloop.analysis.reading.curves import load_curves
from luceloop.analysis.reading.forecasts import (
    average,
    configs_of,
    forecast_from,
    load_config,
)
from luceloop.analysis.reading.real_rewards import recorded_law
from luceloop.analysis.reading.store import SweepRuns, find_runs
from luceloop.analysis.statistics.seeds import aggregate
from luceloop.core.config.point import PointConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.fields import flatten
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
    values: Mapping[str, Any] = field(default_factory=dict)
    """By searched dotted key."""
    length: int | None = None
    """The last iteration that it is to have, T; None if that is not known."""
    by_seed: pd.DataFrame | None = None
    """Tidy rows of the point's seeds; None where nothing was measured."""


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
    config: SweepConfig | None = None
    """What was run; None if the store lacks it."""
    configs: Mapping[int, PointConfig] = field(default_factory=dict)
    """Of every point, by index; empty if the store lacks them."""


def load_results(
    tracking_uri: str,
    sweep: str,
    start: Start = "law",
    cache: Folder | None = None,
    metrics: Collection[str] | None = None,
) -> SweepResults:
    """Load a sweep's curves and forecasts.

    Args:
        tracking_uri: of the tracking store.
        sweep: the sweep's id.
        start: where forecasts start.
        cache: folder of trained classifiers, where rewards need one.
        metrics: those that are read; all if not given.

    What was measured can be shown where the code or the data of the sweep are not: then there is a
    remark instead of forecasts.

    Raises:
        ConfigError: if the tracking store does not have the sweep, or no point of it has a row.
    """
    return results_of(find_runs(tracking_uri, sweep), start, cache, metrics)


def results_of(
    runs: SweepRuns,
    start: Start = "law",
    cache: Folder | None = None,
    metrics: Collection[str] | None = None,
) -> SweepResults:
    """The same of a sweep whose runs have been found; see `load_results`.

    Raises:
        ConfigError: if no point of it has a row.
    """
    curves = load_curves(runs, metrics)
    if curves.empty:
        raise ConfigError("SWEEP", runs.sweep, "has no iteration on record")
    forecasts, remark, config = dict[int, Forecast](), "", None
    configs: dict[int, PointConfig] = {}
    try:
        config = load_config(runs)
        configs = configs_of(runs, config)
        present = set(curves["point"])
        shown = {index: each for index, each in configs.items() if index in present}
        known = {index: each for index, each in shown.items() if not each.curation.is_custom}
        if len(known) < len(shown) and start != "off":
            remark = "no forecast of points whose curation.kind is code of your own"
        forecasts = _forecasts(runs, known, start, cache)
    except (ConfigError, LoopError) as error:
        remark = f"no forecast: {error}"
    points = _points(runs, curves, forecasts, configs)
    return SweepResults(runs, curves, points, remark, config, configs)


def _points(
    runs: SweepRuns,
    curves: pd.DataFrame,
    forecasts: Mapping[int, Forecast],
    configs: Mapping[int, PointConfig],
) -> list[PointCurves]:
    by_seed = {int(str(index)): rows for index, rows in curves.groupby("point")}
    every = aggregate(curves, runs.suprema, runs.level)
    by_point = {int(str(i)): rows for i, rows in every.groupby("point")}
    return [
        PointCurves(
            index,
            run.info.run_name or str(index),
            int(by_seed[index]["seed"].nunique()),
            by_point[index],
            forecasts.get(index),
            _values(run.data.tags.get(labels.VALUES, "{}")),
            configs[index].iterations if index in configs else None,
            by_seed[index],
        )
        for index, run in runs.points.items()
        if index in by_point
    ]


def _values(text: str) -> dict[str, Any]:
    """A point's values by searched key; the parts of a mapping besides, by dotted keys."""
    values: dict[str, Any] = json.loads(text)
    parts = {key: value for key, value in values.items() if isinstance(value, dict)}
    return values | flatten(parts)


def _forecasts(
    runs: SweepRuns, configs: Mapping[int, PointConfig], start: Start, cache: Folder | None
) -> dict[int, Forecast]:
    if start == "off":
        return {}
    replicates = usual_replicates(len(configs))
    if start == "measured":
        by_seed = forecast_from(runs, configs, cache, replicates=replicates, most_draws=MOST_DRAWS)
        return {i: average(found) for i, found in by_seed.items()}
    laws = [recorded_law(runs, index, config) for index, config in configs.items()]
    found = forecast(
        list(configs.values()), laws, cache, replicates=replicates, most_draws=MOST_DRAWS
    )
    return dict(zip(configs, found, strict=True))
