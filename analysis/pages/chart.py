"""The data of the report's interactive chart: curves, bands, seeds and theory, as small as can be.

A page's chart is drawn by Vega-Lite (Satyanarayan et al. 2017) from what this module gives it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from luceloop.analysis.drawing.colors import BETA, Palette, ordered
from luceloop.analysis.drawing.figures import STORY, is_constant
from luceloop.analysis.drawing.panels import bounds_on
from luceloop.analysis.drawing.styles import Look, arrange, short_name, spell_value, varying
from luceloop.analysis.drawing.wording import label
from luceloop.analysis.reading.results import PointCurves, SweepResults
from luceloop.analysis.statistics.seeds import band
from luceloop.core.config.naming import SYMBOLS

SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right")
"""Of marks, for points of the same colour."""
MOST_NUMBERS = 110_000
"""Numbers in a page, at about seven characters each; curves of single seeds go first."""


def chart_data(results: SweepResults) -> dict[str, Any]:
    """What the chart shows, as plain values.

    Returns:
        `points` with their names, looks and values; `keys` to filter by, and `apart`, the one of
        which a single value is shown at first; `metrics`, the main one first; `curves` by metric
        and point; `seeds`, whether single seeds are among them.
    """
    palette, points = Palette(results.config), results.points
    metrics = _metrics(results)
    rows = {
        point.index: {metric: rows for metric, rows in _seed_rows(point, metrics)}
        for point in points
    }
    length = int(results.curves["iteration"].max()) + 1
    summaries = 6 * length * len(metrics) * len(points)
    seeds = summaries + sum(len(x["value"]) for own in rows.values() for x in own.values())
    keep = seeds <= MOST_NUMBERS
    curves: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        curves[metric] = {
            str(point.index): _curve(point, metric, rows[point.index].get(metric) if keep else None)
            for point in points
        }
    keys = varying(points)
    looks = arrange(points, palette)
    kinds = sorted({_kind(look) for look in looks.looks.values()})
    return {
        "points": [
            {
                "index": str(point.index),
                "name": short_name(point, keys),
                "color": looks.looks[point.index].color,
                "shape": SHAPES[kinds.index(_kind(looks.looks[point.index])) % len(SHAPES)],
                "values": {key: spell_value(point.values.get(key)) for key in keys},
            }
            for point in points
        ],
        "keys": [_key(points, key) for key in keys],
        "apart": BETA if len(looks.panels) > 1 and BETA in keys else None,
        "metrics": [{"name": metric, "label": label(metric)} for metric in metrics],
        "curves": curves,
        "seeds": keep,
    }


def _kind(look: Look) -> tuple[int, str]:
    """What tells points of one colour apart in a figure, for which the page has a shape."""
    return look.panel, look.marker


def _metrics(results: SweepResults) -> list[str]:
    """Metrics that change, those of the story first."""
    found = [str(metric) for metric in results.curves["metric"].unique()]
    found = [metric for metric in found if not metric.startswith("seconds/")]
    objectives = [] if results.config is None else results.config.search.objective
    first = [*(objective.metric for objective in objectives), *STORY]
    order = [m for m in dict.fromkeys(first) if m in found]
    order += sorted(set(found) - set(order))
    return [metric for metric in order if not is_constant(results.points, metric)]


def _seed_rows(point: PointCurves, metrics: Sequence[str]) -> list[tuple[str, Any]]:
    if point.by_seed is None:
        return []
    grouped = point.by_seed.groupby("metric")
    return [(str(metric), rows) for metric, rows in grouped if metric in metrics]


def _curve(point: PointCurves, metric: str, rows: Any) -> dict[str, Any]:
    """A point's `t`, `mean`, `low`, `high`, and where known `seeds`, `forecast`, `bounds`."""
    table = band(point.aggregates, metric)
    found: dict[str, Any] = {"t": [int(t) for t in table.index]}
    for name, column in (("mean", "mean"), ("low", "ci_low"), ("high", "ci_high")):
        found[name] = _short(table[column])
    if rows is not None and point.seeds > 1:
        wide = rows.pivot(index="seed", columns="iteration", values="value")
        found["seeds"] = {str(seed): _short(values) for seed, values in wide.iterrows()}
    if point.forecast is not None:
        if metric in point.forecast.curves:
            found["forecast"] = _short(point.forecast.curves[metric])
        bounds = bounds_on(point, point.forecast, metric)
        if bounds:
            found["bounds"] = [_short(curve) for curve in bounds.values()]
    return found


def _short(values: ArrayLike) -> list[float | None]:
    """Numbers of four digits; None where there is none."""
    return [
        float(f"{value:.4g}") if np.isfinite(value) else None
        for value in np.asarray(values, dtype=np.float64)
    ]


def _key(points: Sequence[PointCurves], key: str) -> dict[str, Any]:
    """A key that the page can filter by."""
    return {
        "key": key,
        "symbol": SYMBOLS.get(key, key),
        "values": [spell_value(x) for x in ordered([p.values.get(key) for p in points])],
    }


@functools.cache
def chart_library() -> str:
    """The JavaScript that draws charts, about 0.9 MB, which needs no network."""
    import vl_convert  # only a report needs it

    bundle: str = vl_convert.javascript_bundle("window.drawChart = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")


def as_script(data: Mapping[str, Any]) -> str:
    """JSON that may stand in an HTML script element, whatever its texts hold."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
