"""The command `forecast`: what a perfect learner would do, printed, written and drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luceloop.analysis.drawing.figures import draw_forecasts, forecast_curves
from luceloop.analysis.reading.curves import write_table
from luceloop.analysis.reading.forecasts import average, forecast_from, forecast_table
from luceloop.analysis.reading.store import find_runs
from luceloop.core.config.naming import describe, point_name
from luceloop.core.config.parsing import values_of
from luceloop.core.config.point import PointConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.theory.finite_n import MOST_DRAWS, MOST_POINTS, usual_replicates
from luceloop.core.theory.forecast import Forecast, forecast
from luceloop.sweeps.cli.forecast_table import bound_table, curve_table
from luceloop.sweeps.console import console, print_figures, print_remark
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.search.space import check_repeats, planned_points


def forecast_points(
    config: SweepConfig,
    output: Output,
    file: Path | None,
    start: str | None,
    *,
    figures: bool,
    replicates: int | None = None,
) -> None:
    """Print, write and draw the forecast of a configuration's points.

    Args:
        config: what is forecast.
        output: the output folder.
        file: of the tidy table, if wanted.
        start: a sweep whose p_0 the forecast starts from.
        figures: whether to draw.
        replicates: of a perfect learner at finite n; if not given, as many as take little time.
    """
    check_repeats(config.search)
    points, searched = dict(enumerate(planned_points(config))), list(config.search.space)
    names = {index: point_name(point.flat(), searched) for index, point in points.items()}
    every, seeds = _every_forecast(points, output, start, replicates)
    forecasts = {index: average(found) for index, found in every.items()}
    console.print(describe(config), style="dim", highlight=False)
    if config.search.learns_values:
        print_remark(f"{config.search.sampler} chooses as it goes: these are ends of its ranges")
    if replicates is None:
        _tell_what_is_left_out(forecasts)
    for table in (curve_table(names, forecasts), bound_table(names, forecasts)):
        if table is not None:
            console.print(table)
    if file is not None:
        rows = forecast_table(config.name, searched, points, every, seeds)
        write_table(rows, file)
        console.print(f"{len(rows)} rows in {file}", highlight=False)
    if figures:
        drawn = [
            forecast_curves(i, names[i], values_of(points[i], searched), forecasts[i])
            for i in points
        ]
        print_figures(draw_forecasts(drawn, config, output.forecasts / config.name))


def _every_forecast(
    points: Mapping[int, PointConfig], output: Output, start: str | None, replicates: int | None
) -> tuple[dict[int, list[Forecast]], tuple[int, ...]]:
    """Forecasts of each point, one, or one for each of the seeds whose p_0 they start from."""
    count = usual_replicates(len(points)) if replicates is None else replicates
    most = MOST_DRAWS if replicates is None else math.inf
    options: dict[str, Any] = {"replicates": count, "limits": True, "most_draws": most}
    if start is None:
        found = forecast(list(points.values()), cache=output.cache, **options)
        return {index: [each] for index, each in zip(points, found, strict=True)}, ()
    folder = output.find_readable(start)
    runs = find_runs(output.tracking_uri, folder.id)
    every = forecast_from(runs, points, output.cache, **options)
    config = folder.config()
    seeds = config.point.seeds if config.seed_rule is None else range(config.seed_rule.most)
    return every, tuple(seeds)


def _tell_what_is_left_out(forecasts: Mapping[int, Forecast]) -> None:
    """Say so where finite n was not simulated because it would take long."""
    if len(forecasts) > MOST_POINTS:
        print_remark(f"more than {MOST_POINTS} points: no bands at finite n without --replicates N")
        return
    without = sum(not found.finite_n for found in forecasts.values())
    if without:
        print_remark(f"{without} points are large: no bands at finite n without --replicates N")
