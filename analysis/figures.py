"""Figures of a sweep: curves with bands over seeds on the theory's lines, mode shares, samples.

Every drawing function takes numbers and an `ax`, and returns the `ax`; `draw_all` draws a sweep,
`draw_forecasts` the theory alone, and both write PNG and PDF.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from analysis.curves import SweepRuns
from analysis.results import PointCurves, SweepResults
from analysis.statistics import band
from core.bounds import BOUNDS
from core.forecast import Forecast
from sweeps.naming import color

MARKERS = "os^Dv<>P"
LABELS = {
    "reward_mean": "mean reward E[r]",
    "reward_std": "std of the reward",
    "reward_min": "lowest reward",
    "reward_max": "highest reward",
    "reward_kl": "KL(rewards ‖ real rewards), nats",
    "exp_reward_mean": "E[exp β(r - r*)]",
    "exp_reward_var": "Var[exp β(r - r*)]",
    "kept_reward_mean": "mean reward of the kept",
    "class_entropy": "entropy of the class shares (nats)",
    "loss": "training loss",
}
FORECAST: dict[str, Any] = {"ls": "--", "lw": 1.0, "zorder": 1.9}
BOUND: dict[str, Any] = {"ls": ":", "lw": 1.0, "zorder": 1.8}
WIDE_SWEEP = 12
"""Points beyond which curves are drawn thin, without bands or legend entries for each."""
STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.dpi": 150,
}


def draw_curve(ax: Axes, points: Sequence[PointCurves], metric: str) -> Axes:
    """One metric over iterations: a line per point, its 95 % interval over seeds as a band.

    Beneath: dashed, the forecast; dotted, the theorems' bounds.
    """
    crowded = len(points) > WIDE_SWEEP
    for point in points:
        table = band(point.aggregates, metric)
        if point.forecast is not None:
            _draw_forecast(ax, point, point.forecast, metric, crowded)
        if table.empty:
            continue
        style: dict[str, Any] = {"lw": 0.8, "alpha": 0.6} if crowded else {"lw": 1.6, "ms": 4}
        marker = None if crowded else MARKERS[point.index % len(MARKERS)]
        tint = color(point.index)
        label = None if crowded else point.label
        ax.plot(table.index, table["mean"], color=tint, marker=marker, label=label, **style)
        if not crowded:
            _shade(ax, table, tint)
    _explain_lines(ax, points, metric, crowded)
    ax.set_ylabel(LABELS.get(metric, metric))
    return _iterations(ax)


def _draw_forecast(
    ax: Axes, point: PointCurves, found: Forecast, metric: str, crowded: bool
) -> None:
    """The forecast of a metric and the bounds on it; where nothing was measured, as the curve."""
    tint = color(point.index)
    if metric in found.curves:
        style: dict[str, Any] = dict(FORECAST)
        if point.aggregates.empty:
            label = None if crowded else point.label
            style = {"lw": 0.8 if crowded else 1.6, "label": label}
        ax.plot(range(len(found.curves[metric])), found.curves[metric], color=tint, **style)
    if not crowded:
        for curve in _bounds_on(found, metric).values():
            ax.plot(range(len(curve)), curve, color=tint, **BOUND)


def _bounds_on(found: Forecast, metric: str) -> dict[str, np.ndarray]:
    """Bounds on a metric, but for upper ones on E[w] that any law meets."""
    vacuous = {"exp_reward_mean": 1.0}.get(metric, math.inf)
    bounds = {name: b for name, b in found.bounds.items() if BOUNDS[name].metric == metric}
    return {name: bound for name, bound in bounds.items() if np.nanmin(bound) < vacuous}


def _explain_lines(ax: Axes, points: Sequence[PointCurves], metric: str, crowded: bool) -> None:
    """Legend entries for the kinds of lines."""
    found = [point.forecast for point in points if point.forecast is not None]
    measured = any(not point.aggregates.empty for point in points)
    if measured and any(metric in each.curves for each in found):
        ax.plot([], [], color="0.4", label="forecast: perfect learner, n=∞", **FORECAST)
    if not crowded and any(_bounds_on(each, metric) for each in found):
        ax.plot([], [], color="0.4", label="bounds of the theorems", **BOUND)


def draw_kept_against_pool(ax: Axes, points: Sequence[PointCurves]) -> Axes:
    """Mean reward of the pool (dots) and of what was kept of it (rings), a colour per point."""
    for point in points:
        tint = color(point.index)
        label: str | None = point.label
        for metric, face in (("reward_mean", tint), ("kept_reward_mean", "white")):
            table = band(point.aggregates, metric)
            style: dict[str, Any] = {"color": tint, "lw": 1.6, "marker": "o", "ms": 4, "mfc": face}
            ax.plot(table.index, table["mean"], label=label, **style)
            _shade(ax, table, tint)
            if point.forecast is not None:
                _draw_forecast(ax, point, point.forecast, metric, crowded=True)
            label = None  # one entry a point
    ax.plot([], [], color="0.4", marker="o", ms=4, label="the pool of p_t")
    ax.plot([], [], color="0.4", marker="o", ms=4, mfc="white", label="what was kept of it")
    _explain_lines(ax, points, "reward_mean", crowded=True)
    ax.set_ylabel(LABELS["reward_mean"])
    return _iterations(ax)


def _shade(ax: Axes, table: pd.DataFrame, tint: str) -> None:
    """The interval over seeds, as a band."""
    low, high = table["ci_low"], table["ci_high"]
    ax.fill_between(table.index, low, high, color=tint, alpha=0.2, lw=0)


def draw_shares(ax: Axes, point: PointCurves) -> Axes:
    """Shares of the classes or modes, stacked, mean over seeds; dashed, where they are forecast."""
    names = {
        metric.removesuffix(".mean")
        for metric in point.aggregates["metric"]
        if metric.startswith("class_fraction/") and metric.endswith(".mean")
    }
    ordered = sorted(names, key=lambda name: int(name.split("/")[1]))
    shares = pd.DataFrame({name: band(point.aggregates, name)["mean"] for name in ordered})
    tints = [color(i) for i in range(len(ordered))]
    labels = [name.split("/")[1] for name in ordered]
    ax.stackplot(shares.index, shares.T.to_numpy(), colors=tints, labels=labels, lw=0)
    curves = point.forecast.curves if point.forecast is not None else {}
    if ordered and set(ordered) <= set(curves):
        tops = np.cumsum([curves[name] for name in ordered[:-1]], axis=0)
        outline = withStroke(linewidth=1.4, foreground="w")
        style: dict[str, Any] = {"color": "k", "lw": 0.7, "ls": "--", "path_effects": [outline]}
        ax.plot(range(tops.shape[1]), tops.T, **style)
    ax.set_ylim(0, 1)
    ax.set_xlim(shares.index.min(), max(shares.index.max(), shares.index.min() + 1e-9))
    ax.set_title(point.name, fontsize=9)
    ax.grid(False)
    return _iterations(ax)


def draw_samples(ax: Axes, samples: np.ndarray, tint: str) -> Axes:
    """A scatter of two-dimensional samples `(N, 2)`."""
    ax.scatter(
        samples[:, 0],
        samples[:, 1],
        s=1.5,
        color=tint,
        alpha=0.5,
        lw=0,
        rasterized=True,
    )
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    return ax


def draw_all(results: SweepResults, folder: Path) -> list[Path]:
    """Draw every figure of a sweep.

    Returns:
        The files written, a PNG and a PDF for each figure; none if no point has a row.
    """
    runs, curves, points = results.runs, results.curves, results.points
    if not points:
        return []
    measured = list(curves["metric"].unique())
    margins = [m for m in measured if m.startswith("margin/")]
    metrics = [m for m in measured if not m.startswith(("class_fraction/", "seconds/", "margin/"))]
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    with rc_context(cast(Any, STYLE)):
        written += _save(_overview(points, metrics), folder / "overview")
        for metric in metrics:
            figure, ax = _single(len(points) + 2)
            draw_curve(ax, points, metric)
            _legend(figure, ax)
            written += _save(figure, folder / metric)
        if "kept_reward_mean" in metrics and len(points) <= WIDE_SWEEP:
            figure, ax = _single(len(points) + 3)
            draw_kept_against_pool(ax, points)
            _legend(figure, ax)
            written += _save(figure, folder / "kept_against_pool")
        if margins:
            written += _save(_margins(points, margins), folder / "margins")
        if any(m.startswith("class_fraction/") for m in measured):
            written += _save(_shares(points), folder / "class_shares")
        samples = _samples(runs, points)
        if samples is not None:
            written += _save(samples, folder / "samples")
    return written


def draw_forecasts(
    names: Mapping[int, str], forecasts: Mapping[int, Forecast], stem: Path
) -> list[Path]:
    """Draw the forecasts of points, by index, without any measured curve.

    Returns:
        The files written: `stem` with the endings of a PNG and a PDF.
    """
    nothing = pd.DataFrame(columns=["point", "seed", "iteration", "metric", "value"], dtype=object)
    points = [PointCurves(i, names[i], 0, nothing, found) for i, found in forecasts.items()]
    metrics = {metric for found in forecasts.values() for metric in found.curves}
    stem.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(cast(Any, STYLE)):
        return _save(_overview(points, sorted(metrics), ["reward_kl"]), stem)


def _overview(
    points: Sequence[PointCurves], metrics: Sequence[str], further: Sequence[str] = ()
) -> Figure:
    """The curves that tell the story, side by side."""
    story = ["reward_mean", "exp_reward_mean", *further, "class_entropy"]
    wanted = [metric for metric in story if metric in metrics]
    figure = Figure(figsize=(3.3 * len(wanted), 3.4), layout="constrained")
    axes = figure.subplots(1, len(wanted), squeeze=False)[0]
    for ax, metric in zip(axes, wanted, strict=True):
        draw_curve(ax, points, metric)
    _legend(figure, *axes)
    return figure


def _margins(points: Sequence[PointCurves], metrics: Sequence[str]) -> Figure:
    """How far the points stay on the right side of each bound; below 0 it is violated."""
    figure = Figure(figsize=(3.3 * len(metrics) + 1.3, 3.4), layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for ax, metric in zip(axes, metrics, strict=True):
        draw_curve(ax, points, metric)
        ax.axhline(0, color="0.2", lw=0.8)
        ax.set_title(BOUNDS[metric.removeprefix("margin/")].title, fontsize=9)
        ax.set_ylabel("margin to the bound")
    _legend(figure, *axes)
    return figure


def _shares(points: Sequence[PointCurves]) -> Figure:
    shown = list(points)[:WIDE_SWEEP]
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    size = (2.4 * columns + 0.9, 2.2 * rows + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for ax, point in zip(axes, shown, strict=False):
        draw_shares(ax, point)
    for ax in list(axes)[len(shown) :]:
        ax.set_axis_off()
    first = figure.axes[0]
    first.set_ylabel("share of the class")
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", title="class")
    return figure


def _samples(runs: SweepRuns, points: Sequence[PointCurves]) -> Figure | None:
    """Two-dimensional samples of the first seed: a row per point, a column per iteration."""
    found = {point.index: _previews(runs, point.index) for point in list(points)[:WIDE_SWEEP]}
    iterations = sorted({i for by_iteration in found.values() for i in by_iteration})
    if not iterations:
        return None
    chosen = sorted({iterations[round(i)] for i in np.linspace(0, len(iterations) - 1, 6)})
    shown = [point for point in points if found.get(point.index)]
    size = (1.5 * len(chosen) + 0.6, 1.5 * len(shown) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(shown), len(chosen), squeeze=False, sharex=True, sharey=True)
    for row, point in enumerate(shown):
        for column, iteration in enumerate(chosen):
            ax = axes[row][column]
            samples = found[point.index].get(iteration)
            if samples is None:
                ax.set_axis_off()
                continue
            draw_samples(ax, samples, color(point.index))
            if row == 0:
                ax.set_title(f"t={iteration}", fontsize=9)
        axes[row][0].set_ylabel(point.name.replace(" ", "\n", 1), fontsize=8)
    _common_limits(axes.flat[0], found)
    return figure


def _common_limits(ax: Axes, found: dict[int, dict[int, np.ndarray]]) -> None:
    """Limits that hold 99.8 % of all samples, so that a stray one does not shrink the rest."""
    together = np.concatenate([x for by_iteration in found.values() for x in by_iteration.values()])
    low, high = np.quantile(together, [0.001, 0.999], axis=0)
    margin = 0.08 * (high - low)
    ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
    ax.set_ylim(low[1] - margin[1], high[1] + margin[1])


def _previews(runs: SweepRuns, index: int) -> dict[int, np.ndarray]:
    """Two-dimensional samples of a point's first seed, by iteration."""
    run = runs.points[index].info.run_id
    if not runs.client.list_artifacts(run, "samples"):
        return {}
    with tempfile.TemporaryDirectory() as temporary:
        local = Path(runs.client.download_artifacts(run, "samples", temporary))
        found = {}
        for file in sorted(local.glob("iteration-*.npz")):
            with np.load(file, allow_pickle=False) as content:
                samples = content["samples"]
            if samples.ndim == 3 and samples.shape[-1] == 2:
                found[int(file.stem.split("-")[1])] = samples[0]
        return found


def _single(entries: int) -> tuple[Figure, Axes]:
    """A figure of one panel, with room for a legend of `entries` lines beneath."""
    height = 3.1 + 0.19 * (entries if entries <= WIDE_SWEEP + 2 else 0)
    figure = Figure(figsize=(4.6, height), layout="constrained")
    return figure, figure.subplots()


def _legend(figure: Figure, *axes: Axes) -> None:
    """One legend beneath; entries that several axes have stand once."""
    entries: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    if entries:
        columns = 1 if len(figure.axes) == 1 else min(3, len(entries))
        handles, labels = list(entries.values()), list(entries)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)


def _iterations(ax: Axes) -> Axes:
    ax.set_xlabel("retraining iteration t")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def _save(figure: Figure, stem: Path) -> list[Path]:
    FigureCanvasAgg(figure)
    files = [stem.with_suffix(suffix) for suffix in (".png", ".pdf")]
    for file in files:
        figure.savefig(file)
        figure.set_layout_engine("none")  # laid out once, for both files
    return files
