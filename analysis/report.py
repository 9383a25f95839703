"""A sweep as one HTML page that needs nothing else: points beside the theory, bounds, figures."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from luceloop.analysis.colors import color
from luceloop.analysis.forecasts import load_config_text
from luceloop.analysis.results import PointCurves, SweepResults
from luceloop.analysis.statistics import gap, over_seeds
from luceloop.core.theory.bounds import BOUNDS

FIRST = ("overview", "margins", "samples", "class_shares", "kept_against_pool")
"""Figures in this order, then the rest by name."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .5em; }
figure { margin: 1.5em 0; } img { max-width: 100%; } .violated { color: #b00; }
pre { background: #f6f6f6; padding: 1em; overflow: auto; } .note { color: #555; }
"""


def write_report(results: SweepResults, figures: Sequence[Path], file: Path) -> Path:
    """Write the page.

    Args:
        results: what the sweep came to.
        figures: files of drawn figures, of which the PNG are embedded.
        file: the page.
    """
    title = html.escape(f"{results.runs.name} ({results.runs.sweep})")
    body = [
        f"<h1>{title}</h1>",
        f"<p>{html.escape(results.runs.description)}</p>",
        f'<p class="violated">{html.escape(results.remark)}</p>' if results.remark else "",
        *_points_section(results),
        *_bounds_section(results),
        "<h2>Figures</h2>",
        *(_figure(path) for path in _ordered(figures)),
        f"<h2>Configuration</h2><pre>{html.escape(load_config_text(results.runs))}</pre>",
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style>{''.join(body)}</html>",
        encoding="utf-8",
    )
    return file


def _points_section(results: SweepResults) -> Iterable[str]:
    yield "<h2>Points at their last iteration</h2>"
    yield (
        '<p class="note">The gap is from the mean over seeds to the forecast of a perfect learner '
        "with infinitely many samples, in standard errors of that mean.</p>"
    )
    head = ("point", "seeds", "t", "mean reward", "std", "95 % interval", "forecast", "gap")
    yield _table(head, (_point_row(results, point) for point in results.points))


def _point_row(results: SweepResults, point: PointCurves) -> Sequence[str]:
    last, values = _last(results.curves, point.index, "reward_mean")
    over = {name: float(value) for name, value in over_seeds(values).items()}
    spread = ["", ""]
    if "std" in over:
        spread = [f"{over['std']:.2g}", f"{over['ci_low']:.4g} to {over['ci_high']:.4g}"]
    forecast = ["", ""]
    if point.forecast is not None:
        expected = float(point.forecast.curves["reward_mean"][last])
        errors = gap(values, expected)
        forecast = [f"{expected:.4g}", "" if errors is None else f"{errors:+.1f}"]
    name = f'<i style="background: {color(point.index)}"></i>{html.escape(point.name)}'
    return [name, str(point.seeds), str(last), f"{over['mean']:.4g}", *spread, *forecast]


def _bounds_section(results: SweepResults) -> Iterable[str]:
    margins = results.curves[results.curves["metric"].str.startswith("margin/")]
    if margins.empty:
        return
    yield "<h2>The theorems' bounds</h2>"
    yield (
        '<p class="note">Where the mean margin over seeds is smallest, over all retrainings; red '
        "where it is below zero by more than two standard errors. The theorems assume infinitely "
        "many samples and a perfect learner, 2.3 and 2.4 also that p_0 is the law of the real "
        "data; and the divergence that 2.4 bounds is estimated a little too high.</p>"
    )
    rows = []
    for point in results.points:
        mine = margins[margins["point"] == point.index]
        for metric, group in mine.groupby("metric"):
            rows.append(_margin_row(point, str(metric), group))
    head = ("point", "bound", "smallest mean margin", "standard errors", "at t", "seeds below zero")
    yield _table(head, rows)


def _margin_row(point: PointCurves, metric: str, margins: pd.DataFrame) -> Sequence[str]:
    means = margins.groupby("iteration")["value"].mean()
    worst = int(means.index.to_numpy(dtype=np.int64)[means.to_numpy().argmin()])
    values = margins.loc[margins["iteration"] == worst, "value"]
    title = BOUNDS[metric.removeprefix("margin/")].title
    smallest, errors = f"{means[worst]:+.3g}", gap(values.to_numpy(dtype=np.float64), 0.0)
    if means[worst] < 0 and (errors is None or errors < -2):
        smallest = f'<span class="violated">{smallest}</span>'
    noise = "" if errors is None else f"{errors:+.1f}"
    below = f"{int((values < 0).sum())} of {len(values)}"
    return [html.escape(point.name), html.escape(title), smallest, noise, str(worst), below]


def _last(
    curves: pd.DataFrame, point: int, metric: str
) -> tuple[int, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """The last iteration of a metric and its value for each seed."""
    mine = curves[(curves["point"] == point) & (curves["metric"] == metric)]
    last = int(mine["iteration"].max())
    return last, mine.loc[mine["iteration"] == last, "value"].to_numpy(dtype=np.float64)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _ordered(figures: Sequence[Path]) -> list[Path]:
    images = {path.stem: path for path in sorted(figures) if path.suffix == ".png"}
    first = [images.pop(name) for name in FIRST if name in images]
    return first + list(images.values())


def _figure(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(path.stem)
    return f'<figure><img alt="{name}" src="data:image/png;base64,{data}"></figure>'
