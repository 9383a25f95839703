"""The Python interface: what the commands do, from a notebook or a script, raising and not exiting.

import luceloop

results = luceloop.run("mog", "seeds=3")
results.curves.query("metric == 'reward_mean.mean'")
results.plot("figures")
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from luceloop.analysis.drawing.figures import Wish, draw_all, figure_of
from luceloop.analysis.drawing.sheets import Size
from luceloop.analysis.drawing.wording import Band
from luceloop.analysis.reading.forecasts import forecast_table
from luceloop.analysis.reading.results import Start, load_results
from luceloop.analysis.statistics.pairs import At
from luceloop.core.config.naming import point_name
from luceloop.core.config.parsing import at_point, override, parse_config
from luceloop.core.config.search import SHORT_KEYS
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.io.plain import taken_over
from luceloop.core.io.plugins import use_folder
from luceloop.core.theory.finite_n import MOST_DRAWS, usual_replicates
from luceloop.core.theory.forecast import forecast as forecast_points
from luceloop.sweeps.comparisons import comparison_table
from luceloop.sweeps.console import console
from luceloop.sweeps.costs.recorded import Pricing
from luceloop.sweeps.costs.table import COST_COLUMNS, cost_cells
from luceloop.sweeps.presets.reading import read_config
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.record.table import recorded_table
from luceloop.sweeps.results import check_outcome, finish
from luceloop.sweeps.run.driver import run_sweep
from luceloop.sweeps.run.start import create, extension
from luceloop.sweeps.search.space import check_repeats, planned_points

Source = str | Path | Mapping[str, Any] | SweepConfig
"""A configuration: a preset's name, a YAML file, its plain values, or itself."""


@dataclass(frozen=True)
class SweepHandle:
    """A sweep in an output folder, to be read and drawn.

    What is read is kept: a handle of a running sweep shows it as it was when it was first asked.
    """

    folder: SweepFolder
    output: Output

    @property
    def id(self) -> str:
        """The sweep's id, which `luceloop show` and the other commands take."""
        return self.folder.id

    @functools.cached_property
    def config(self) -> SweepConfig:
        """The sweep's configuration."""
        return self.folder.config()

    @property
    def stopped(self) -> str:
        """What limit of its budget the sweep has stopped at; empty if it goes on or has ended."""
        return Ledger(self.folder.ledger, writable=False).stopped

    @functools.cached_property
    def curves(self) -> pd.DataFrame:
        """The tidy table that `luceloop export` writes: seeds, then aggregates over seeds."""
        return recorded_table(self.folder)

    @functools.cached_property
    def points(self) -> pd.DataFrame:
        """The points that have begun, a row each: name, searched keys, how far it is, its costs.

        Costs are `samples` generated, `choices` and `comparisons` by pickers, and `device_seconds`
        of what this sweep computed; `rows_taken` counts rows that other sweeps had on record.
        """
        searched = list(self.config.search.space)
        rows, pricing = [], Pricing(self.config)
        for point in Ledger(self.folder.ledger, writable=False).points.values():
            name = point_name(at_point(self.config, point.values).flat(), searched)
            state = {"iteration": point.last, "status": point.status or "", "reason": point.reason}
            costs = cost_cells(pricing.try_costs(point))
            rows.append({"point": point.index, "name": name, **point.values, **state, **costs})
        columns = ["point", "name", *searched, "iteration", "status", "reason", *COST_COLUMNS]
        return pd.DataFrame(rows, columns=columns)

    def compare(
        self,
        other: SweepHandle | None = None,
        *,
        metric: str | None = None,
        at: At = "last",
        point: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Compare the sweep's points with each other, or with those of another sweep.

        Args:
            other: the other sweep, whose points of the same name are compared with.
            metric: what is compared; the first objective's metric if not given.
            at: at which iteration.
            point: values of searched keys of the points that all others are compared with.

        Returns:
            The table of `luceloop compare -o`: a row for each pair.

        Raises:
            ConfigError: if there is no such metric, iteration or point.
        """
        sweeps = [self.folder] if other is None else [self.folder, other.folder]
        chosen = metric or self.config.search.objective[0].metric
        given = [f"{key}={value}" for key, value in (point or {}).items()]
        return comparison_table(sweeps, self.output, chosen, at, given)

    def figure(
        self,
        name: str = "overview",
        *,
        metric: str | None = None,
        x: str | None = None,
        band: Band = "ci",
        size: Size = "paper",
        forecast: Start = "law",
    ) -> Figure:
        """One figure, for a notebook to show or a script to change.

        Args:
            name: what `luceloop plot --figure` takes: `overview`, `curve`, `response`, …
            metric: what is drawn; the first objective's metric if not given.
            x: the searched key on the horizontal axis of a `response`.
            band: how seeds differ: `ci`, `std`, `quantiles` or `seeds`.
            size: `paper` or `slide`.
            forecast: the theory beneath: from the real data's law, the measured p_0, or none.

        Returns:
            Matplotlib's figure.

        Raises:
            ConfigError: if there is no such figure, metric or key, or nothing to show in it.
        """
        results = load_results(self.output.tracking_uri, self.id, forecast, self.folder.cache)
        key = None if x is None else SHORT_KEYS.get(x, x)
        return figure_of(results, name, Wish(metric, key, band, size))

    def plot(self, folder: str | Path | None = None, *, forecast: Start = "law") -> list[Path]:
        """Draw all figures, PNG and PDF.

        Args:
            folder: where; the sweep's own if not given.
            forecast: the theory beneath: from the real data's law, the measured p_0, or none.

        Returns:
            The files written.

        Raises:
            ConfigError: if the tracking store does not have the sweep, or no point of it has a row.
        """
        where = self.folder.figures if folder is None else Path(folder)
        results = load_results(self.output.tracking_uri, self.id, forecast, self.folder.cache)
        return [path for each in draw_all(results, where) for path in each.files]


def run(
    config: Source,
    *overrides: str,
    output: str | Path | None = None,
    storage: str | None = None,
    figures: bool = False,
) -> SweepHandle:
    """Run a sweep as `luceloop run` does, and return it.

    Args:
        config: what to run.
        overrides: `key=value`, values in YAML.
        output: the output folder; `$LUCELOOP_OUTPUT`, else ./luceloop-out if not given.
        storage: where workers keep what they share, if not there.
        figures: whether to draw at the end.

    Returns:
        The sweep; where it stopped at its budget, `stopped` says so.

    Raises:
        ConfigError: if a point cannot run; nothing is written then.
        LoopError: if points failed; what the others came to can be loaded.
        StorageError: if the tracking store does not have all of it.
        DiskFullError: if there is no room left in the output folder.
        SessionError: if Ray has ended, or does not answer. Where this thread is stuck within Ray,
            the process ends with that line, as it would by Ray itself a minute later.
        KeyboardInterrupt: after Ctrl-C; `luceloop resume` goes on.
    """
    use_folder(Path.cwd())
    return _run(_config(config, overrides), _output(output, storage), figures=figures)


def extend(
    sweep: str,
    *overrides: str,
    output: str | Path | None = None,
    storage: str | None = None,
    figures: bool = False,
) -> SweepHandle:
    """Run a sweep again with more seeds, points or iterations, as `luceloop extend` does.

    A new sweep is made, whose table is that of running all of it anew; nothing is computed twice.

    Args:
        sweep: its name, an unambiguous start of its id, or `latest`; its whole id, if it ran on
            another machine and its record is to be read from the storage.
        overrides: `key=value`, values in YAML: what is more.
        output: the output folder; `$LUCELOOP_OUTPUT`, else ./luceloop-out if not given.
        storage: where workers keep what they share; where the sweep keeps it if not given.
        figures: whether to draw at the end.

    Raises:
        ConfigError: if there is no such sweep, or a point cannot run; nothing is run then.
        LoopError: if points failed; what the others came to can be loaded.
        StorageError: if the tracking store does not have all of it, or the storage does not answer.
        DiskFullError: if there is no room left in the output folder.
        SessionError: if Ray has ended, or does not answer. Where this thread is stuck within Ray,
            the process ends with that line, as it would by Ray itself a minute later.
        KeyboardInterrupt: after Ctrl-C; `luceloop resume` goes on.
    """
    use_folder(Path.cwd())
    return _run(*extension(sweep, overrides, _output(output, storage)), figures=figures)


def _run(config: SweepConfig, output: Output, *, figures: bool) -> SweepHandle:
    folder = create(config, output)
    outcome = run_sweep(folder, output, console)
    delivery = finish(outcome.delivery, output, folder, figures=figures)
    check_outcome(outcome, delivery, output)
    return SweepHandle(folder, output)


def load(sweep: str = "latest", *, output: str | Path | None = None) -> SweepHandle:
    """A sweep of an output folder.

    Args:
        sweep: its name, an unambiguous start of its id, or `latest`.
        output: the output folder; `$LUCELOOP_OUTPUT`, else ./luceloop-out if not given.

    Raises:
        ConfigError: if there is none, or the start of an id fits several.
    """
    use_folder(Path.cwd())
    found = _output(output)
    return SweepHandle(found.find_readable(sweep), found)


def forecast(config: Source, *overrides: str, replicates: int | None = None) -> pd.DataFrame:
    """What a perfect learner would do with infinitely many samples, and the theorems' bounds.

    Args:
        config: what is forecast.
        overrides: `key=value`, values in YAML.
        replicates: seeds of a perfect learner at finite n that are simulated; if not given, 200 for
            at most 24 points, where that takes little time.

    Returns:
        The tidy table of `luceloop forecast -o`: a row for each point, metric and iteration.

    Raises:
        ConfigError: if data or a reward cannot be built.
        LoopError: if a reward breaks its contract on the real data.
    """
    use_folder(Path.cwd())
    parsed = _config(config, overrides)
    check_repeats(parsed.search)
    points = dict(enumerate(planned_points(parsed)))
    found = forecast_points(
        list(points.values()),
        cache=_output(None).cache,
        replicates=usual_replicates(len(points)) if replicates is None else replicates,
        most_draws=MOST_DRAWS if replicates is None else math.inf,
    )
    every = {index: [each] for index, each in enumerate(found)}
    return forecast_table(parsed.name, list(parsed.search.space), points, every, ())


def _config(source: Source, overrides: tuple[str, ...]) -> SweepConfig:
    match source:
        case SweepConfig():
            if overrides:
                raise TypeError("overrides are for configurations that are not parsed yet")
            return source
        case Mapping():
            return parse_config(override(taken_over(source), list(overrides)))
        case _:
            return read_config(str(source), list(overrides))


def _output(given: str | Path | None, storage: str | None = None) -> Output:
    return Output.of(None if given is None else Path(given), storage)
