"""The command `forecast`: what a perfect learner would do, printed, written and drawn."""

from __future__ import annotations

from pathlib import Path

from luceloop.analysis.curves import write_table
from luceloop.analysis.figures import draw_forecasts
from luceloop.analysis.forecasts import average, forecast_from, forecast_table
from luceloop.analysis.store import find_runs
from luceloop.core.config.naming import describe, point_name
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.theory.forecast import forecast
from luceloop.sweeps.cli.forecast_table import bound_table, curve_table
from luceloop.sweeps.console import console, print_figures, print_remark
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.search.space import planned_points


def forecast_points(
    config: SweepConfig, output: Output, file: Path | None, start: str | None, *, figures: bool
) -> None:
    """Print, write and draw the forecast of a configuration's points.

    Args:
        config: what is forecast.
        output: the output folder.
        file: of the tidy table, if wanted.
        start: a sweep whose p_0 the forecast starts from.
        figures: whether to draw.
    """
    points, searched = dict(enumerate(planned_points(config))), list(config.search.space)
    names = {index: point_name(point.flat(), searched) for index, point in points.items()}
    seeds: tuple[int, ...] = ()
    if start is None:
        every = {
            i: [found]
            for i, found in enumerate(forecast(list(points.values()), cache=output.cache))
        }
    else:
        folder = output.find(start)
        seeds = folder.config().point.seeds
        every = forecast_from(find_runs(output.tracking_uri, folder.id), points, output.cache)
    forecasts = {index: average(found) for index, found in every.items()}
    console.print(describe(config), style="dim", highlight=False)
    if config.search.learns_values:
        print_remark(f"{config.search.sampler} chooses as it goes: these are ends of its ranges")
    for table in (curve_table(names, forecasts), bound_table(names, forecasts)):
        if table is not None:
            console.print(table)
    if file is not None:
        rows = forecast_table(config.name, searched, points, every, seeds)
        write_table(rows, file)
        console.print(f"{len(rows)} rows in {file}", highlight=False)
    if figures:
        print_figures(draw_forecasts(names, forecasts, output.forecasts / config.name))
