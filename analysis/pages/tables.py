"""The tables of the report: points beside the theory, bounds, comparisons, failures, times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from luceloop.analysis.drawing.colors import Palette
from luceloop.analysis.drawing.styles import arrange, short_name, varying
from luceloop.analysis.reading import labels
from luceloop.analysis.reading.results import PointCurves, SweepResults
from luceloop.analysis.statistics.pairs import MOST_PAIRS, compare_within, measure, verdict
from luceloop.analysis.statistics.seeds import over_seeds
from luceloop.analysis.statistics.verdicts import at, judge_bound, split_gap, values_at
from luceloop.core.errors import ConfigError
from luceloop.core.measures.ranges import metric_range
from luceloop.core.theory.bounds import BOUNDS, is_identity

SHOWN_PAIRS = 500
"""Comparisons of a page; `luceloop compare` has the others."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and what it is sorted by."""

    text: str
    order: float | None = None
    """A number to sort by; the text itself if not given."""
    color: str = ""
    """Of a dot before the text."""
    alarming: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a heading for each column."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def points_table(results: SweepResults) -> Table:
    """The mean reward of every point at its last iteration, beside its forecast."""
    head = ["point", "seeds", "t", "mean reward", "std", "95 % interval", "forecast", "gap"]
    head += ["from finite n", "the learner's"]
    looks, keys = arrange(results.points, Palette(results.config)).looks, varying(results.points)
    rows = [_point_row(results, p, looks[p.index].color, keys) for p in results.points]
    return Table(head, rows)


def _point_row(
    results: SweepResults, point: PointCurves, color: str, keys: Sequence[str]
) -> list[Cell]:
    last, values = _last(results.curves, point.index, "reward_mean")
    level = results.runs.level
    ends = metric_range("reward_mean", supremum=results.runs.suprema.get(point.index))
    over = {name: float(value) for name, value in over_seeds(values, *ends, level).items()}
    spread = ["", ""]
    if "std" in over:
        spread = [f"{over['std']:.2g}", f"{over['ci_low']:.4g} to {over['ci_high']:.4g}"]
    forecast = ["", "", "", ""]
    if point.forecast is not None:
        expected = float(point.forecast.curves["reward_mean"][last])
        simulated = at(point.forecast.finite_n.get("reward_mean"), last)
        found = split_gap(values, expected, simulated, *ends, level)
        parts = (found.whole, found.from_n, found.learner)
        forecast = [f"{expected:.4g}", *("" if part is None else part.words for part in parts)]
    name = Cell(short_name(point, keys), color=color)
    counts = [Cell(str(point.seeds), point.seeds), Cell(str(last), last)]
    mean = Cell(f"{over['mean']:.4g}", over["mean"])
    return [name, *counts, mean, *map(_numbered, [*spread, *forecast])]


def _numbered(text: str) -> Cell:
    """A cell that sorts by the number its text starts with."""
    try:
        return Cell(text, float(text.split()[0]))
    except (IndexError, ValueError):
        return Cell(text)


def bounds_table(results: SweepResults) -> Table:
    """For every point and bound, the retraining that speaks most against the bound."""
    head = ("point", "bound", "mean margin", "95 % interval", "at t", "seeds beyond", "verdict")
    margins = results.curves[results.curves["metric"].str.startswith("margin/")]
    keys, rows = varying(results.points), []
    for point in results.points:
        mine = margins[margins["point"] == point.index]
        for metric, group in mine.groupby("metric"):
            rows.append(_margin_row(results, point, str(metric), group, keys))
    return Table(head, rows)


def _margin_row(
    results: SweepResults,
    point: PointCurves,
    metric: str,
    margins: pd.DataFrame,
    keys: Sequence[str],
) -> list[Cell]:
    name = metric.removeprefix("margin/")
    by_t = {
        int(str(t)): group["value"].to_numpy(dtype=np.float64)
        for t, group in margins.groupby("iteration")
    }
    simulated = None if point.forecast is None else point.forecast.finite_n.get(metric)
    perfect = {t: own for t in by_t if (own := values_at(simulated, t)) is not None}
    params = results.runs.points[point.index].data.params
    key = (float(params[name]) for name in (labels.BETA, labels.LAM, labels.K))
    bound = BOUNDS[name]
    found = judge_bound(by_t, perfect, identity=is_identity(*key), is_biased=bound.is_biased)
    interval = "" if np.isnan(found.low) else f"{found.low:+.3g} to {found.high:+.3g}"
    beyond = Cell(f"{found.below} of {found.seeds}", found.below)
    return [
        Cell(short_name(point, keys)),
        Cell(bound.title),
        Cell(f"{found.margin:+.3g}", found.margin),
        _numbered(interval),
        Cell(str(found.iteration), found.iteration),
        beyond,
        Cell(found.words, alarming=found.violated),
    ]


def comparisons_table(results: SweepResults, metric: str) -> tuple[Table | None, str]:
    """All pairs of points, and why there are none or not all."""
    keys = varying(results.points)
    names = {point.index: short_name(point, keys) for point in results.points}
    count = len(names) * (len(names) - 1) // 2
    if count > MOST_PAIRS:
        return None, f"{count:,} pairs are too many to test at once"
    try:
        table = compare_within(
            measure(results.curves, names, metric, "last"), metric, level=results.runs.level
        )
    except ConfigError as error:
        return None, str(error)
    if table.empty:
        return None, "the sweep has no two points"
    head = ("A", "against B", "A - B", "95 % interval", "p (Holm)", "A > B", "seeds", "A is")
    rows = []
    strongest = table.reindex(table["p_holm"].fillna(2).sort_values(kind="stable").index)
    for row in strongest.head(SHOWN_PAIRS).to_dict("records"):
        low, high, p = (float(row[name]) for name in ("ci_low", "ci_high", "p_holm"))
        rows.append(
            [
                Cell(row["a"]),
                Cell(row["b"]),
                Cell(f"{row['difference']:+.4g}", row["difference"]),
                _numbered("" if np.isnan(low) else f"{low:+.3g} to {high:+.3g}"),
                _numbered("" if np.isnan(p) else f"{p:.2g}"),
                Cell(f"{row['better']:.0%}", row["better"]),
                Cell(str(row["seeds"]), row["seeds"]),
                Cell(verdict({str(key): value for key, value in row.items()})),
            ]
        )
    left = f"the {SHOWN_PAIRS:,} surest of {count:,} pairs" if count > SHOWN_PAIRS else ""
    return Table(head, rows), left


def failures_table(results: SweepResults) -> Table:
    """The points that failed, were lost or were stopped early, with the reason on record."""
    rows = []
    for run in results.runs.points.values():
        reason = run.data.tags.get(labels.NOTE, "")
        failed = run.info.status == "FAILED"
        ended = run.data.tags.get(labels.STATUS, "failed" if failed else "done")
        if ended != "done":
            state = "stopped early" if ended == "stopped" else ended
            name = Cell((run.info.run_name or "").replace("=inf", "=∞"))
            rows.append([name, Cell(state, alarming=failed), Cell(reason)])
    return Table(("point", "state", "reason"), rows)


def times_table(results: SweepResults) -> Table:
    """What the parts of an iteration took, in seconds, mean over seeds, points and iterations."""
    rows = results.curves[results.curves["metric"].str.startswith("seconds/")]
    found = []
    for metric, mine in rows.groupby("metric"):
        values = mine["value"]
        part = Cell(str(metric).removeprefix("seconds/"))
        cells = [Cell(f"{x:.3g}", float(x)) for x in (values.mean(), values.max(), values.sum())]
        found.append([part, *cells])
    return Table(("part", "mean", "longest", "all together"), found)


def first_metrics(results: SweepResults) -> Iterator[Mapping[str, Sequence[float]]]:
    """Metrics of each point at t=0, a value per seed."""
    first = results.curves[results.curves["iteration"] == 0]
    for _, mine in first.groupby("point"):
        yield {str(metric): rows["value"].tolist() for metric, rows in mine.groupby("metric")}


def _last(
    curves: pd.DataFrame, point: int, metric: str
) -> tuple[int, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """The last iteration of a metric and its value for each seed."""
    mine = curves[(curves["point"] == point) & (curves["metric"] == metric)]
    last = int(mine["iteration"].max())
    return last, mine.loc[mine["iteration"] == last, "value"].to_numpy(dtype=np.float64)
