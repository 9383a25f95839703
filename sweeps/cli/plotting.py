"""The commands `plot` and `report`: a sweep's figures, and its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from luceloop.analysis.drawing.figures import Wish, draw_all, draw_one
from luceloop.analysis.drawing.sheets import Size
from luceloop.analysis.drawing.wording import Band
from luceloop.analysis.pages.report import EMBEDDED
from luceloop.analysis.reading.results import Start, SweepResults, results_of
from luceloop.analysis.reading.store import find_runs
from luceloop.core.config.search import SHORT_KEYS
from luceloop.core.errors import ConfigError
from luceloop.core.theory.bounds import BOUNDS
from luceloop.sweeps.comparisons import matching_points
from luceloop.sweeps.console import console, print_figures, print_remark
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.results import draw_and_report


@dataclass(frozen=True)
class Plot:
    """Which figures `plot` draws, and how."""

    figure: str | None = None
    """One figure by its name; if not given, that which the other options speak of, else all."""
    metric: str | None = None
    points: Sequence[str] = ()
    """`key=value` of the points that are drawn; all if there are none."""
    x: str | None = None
    band: Band = "ci"
    size: Size = "paper"
    against: str | None = None
    """Another sweep."""

    @property
    def name(self) -> str | None:
        """The one figure that is wanted; None for all."""
        if self.figure is None and self.x is not None:
            return "response"
        if self.figure is None and (self.metric is not None or self.against is not None):
            return "curve"
        return self.figure


def plot(sweep: str, output: Output, to: Path | None, start: Start, wanted: Plot) -> None:
    """Draw a sweep's figures, or one of them, into its folder if no other is given."""
    folder, where = output.find_readable(sweep), to
    if where is None:
        where = folder.figures
    objective = folder.config().search.objective[0].metric
    metrics = _needed(wanted, wanted.metric or objective)
    results = _results(folder, output, start, metrics)
    print_remark(results.remark)
    if wanted.points:
        chosen = matching_points(folder, wanted.points, "--points")
        kept = [point for point in results.points if point.index in chosen]
        results = replace(results, points=kept)
    against = None
    if wanted.against is not None:
        against = _results(output.find_readable(wanted.against), output, "off", metrics)
    x = None if wanted.x is None else SHORT_KEYS.get(wanted.x, wanted.x)
    wish = Wish(wanted.metric, x, wanted.band, wanted.size, against)
    if wanted.name is None:
        drawn = draw_all(results, where, wish)
    else:
        drawn = [draw_one(results, wanted.name, where, wish)]
    print_figures(each.files[0] for each in drawn)


def _needed(wanted: Plot, metric: str) -> list[str] | None:
    """The metrics that a figure is drawn of; None for all."""
    if wanted.name in ("response", "samples"):
        return [metric]
    if wanted.name == "curve":
        return [metric, *(f"margin/{name}" for name in BOUNDS)]
    return None


def _results(
    folder: SweepFolder, output: Output, start: Start, metrics: Sequence[str] | None
) -> SweepResults:
    """What a sweep came to.

    Raises:
        ConfigError: if it has no such metric.
    """
    runs = find_runs(output.tracking_uri, folder.id)
    known = runs.metrics
    if metrics is not None and known and metrics[0] not in known:
        raise ConfigError("--metric", metrics[0], f"must be one of {', '.join(known)}")
    return results_of(runs, start, folder.cache, metrics)


def report(sweep: str, output: Output, file: Path | None, start: Start) -> None:
    """Write a sweep's report, into its folder if no file is given."""
    folder = output.find_readable(sweep)
    written = file or folder.report
    draw_and_report(output, folder, written, start, print_remark, EMBEDDED)
    console.print(f"report {written}", highlight=False, soft_wrap=True)
