"""Drawing on one `ax`: every function takes numbers and an `ax`, and returns the `ax`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from luceloop.analysis.drawing.colors import color
from luceloop.analysis.drawing.squares import tiled
from luceloop.analysis.drawing.styles import Look
from luceloop.analysis.drawing.wording import BOUND_LINE, FORECAST_LINE, Band, band_line, label
from luceloop.analysis.reading.results import PointCurves
from luceloop.analysis.statistics.seeds import band as statistics_of
from luceloop.core.theory.bounds import BOUNDS
from luceloop.core.theory.finite_n import FiniteN
from luceloop.core.theory.forecast import Forecast

FORECAST: dict[str, Any] = {"ls": "--", "lw": 1.0, "zorder": 1.9}
FINITE_N: dict[str, Any] = {"alpha": 0.35, "lw": 0.0, "hatch": "||||", "facecolor": "none"}
BOUND: dict[str, Any] = {"ls": ":", "lw": 1.0, "zorder": 1.8}
FEW = 8
"""Curves of a panel up to which each has bounds, and shows where seeds at finite n would lie."""
ENDS: dict[Band, tuple[str, str]] = {"ci": ("ci_low", "ci_high"), "quantiles": ("q25", "q75")}
"""The statistics at the ends of a band."""


def draw_curve(
    ax: Axes,
    points: Sequence[PointCurves],
    metric: str,
    looks: Mapping[int, Look],
    band: Band = "ci",
) -> Axes:
    """One metric over iterations: a line per point, and a band that shows how seeds differ.

    Beneath: dashed, the forecast; dotted, the theorems' bounds; hatched, where 95 % of single seeds
    of a perfect learner lie at the sweep's own sample sizes.

    Args:
        ax: where.
        points: what is drawn.
        metric: its name.
        looks: of the points, by index.
        band: what the band shows.
    """
    crowded = len(points) > FEW
    for point in points:
        look, table = looks[point.index], statistics_of(point.aggregates, metric)
        if point.forecast is not None:
            _draw_forecast(ax, point, point.forecast, metric, look, crowded)
        if table.empty:
            continue
        style: dict[str, Any] = {"lw": 1.0, "ms": 2.5} if crowded else {"lw": 1.6, "ms": 4}
        marker = look.marker if len(table) <= 30 else None
        line = table["median"].fillna(table["mean"]) if band == "quantiles" else table["mean"]
        ax.plot(table.index, line, color=look.color, marker=marker, **style)
        if band == "seeds" and point.by_seed is not None:
            _draw_seeds(ax, point.by_seed, metric, look.color)
        if point.seeds > 1:
            low, high = _ends(table, band)
            alpha = 0.12 if crowded or band == "seeds" else 0.2
            ax.fill_between(table.index, low, high, color=look.color, alpha=alpha, lw=0)
    explain_lines(ax, points, metric, band)
    ax.set_ylabel(label(metric))
    return iterations(ax)


def _ends(table: pd.DataFrame, band: Band) -> tuple[pd.Series[float], pd.Series[float]]:
    if band == "std":
        return table["mean"] - table["std"], table["mean"] + table["std"]
    low, high = ENDS["quantiles" if band == "quantiles" else "ci"]
    return table[low], table[high]


def _draw_seeds(ax: Axes, rows: pd.DataFrame, metric: str, tint: str) -> None:
    """A thin line for each seed."""
    for _, mine in rows[rows["metric"] == metric].groupby("seed"):
        curve = mine.sort_values("iteration")
        ax.plot(curve["iteration"], curve["value"], color=tint, lw=0.5, alpha=0.6, zorder=1.95)


def _draw_forecast(
    ax: Axes, point: PointCurves, found: Forecast, metric: str, look: Look, crowded: bool
) -> None:
    """The forecast of a metric and the bounds on it; where nothing was measured, as the curve."""
    if metric in found.curves:
        style: dict[str, Any] = dict(FORECAST)
        if point.aggregates.empty:
            style = {"lw": 1.0 if crowded else 1.6, "marker": look.marker, "ms": 3}
        ax.plot(range(len(found.curves[metric])), found.curves[metric], color=look.color, **style)
    if crowded:
        return
    if metric in found.finite_n:
        _hatch(ax, found.finite_n[metric], look.color)
    for curve in bounds_on(point, found, metric).values():
        ax.plot(range(len(curve)), curve, color=look.color, **BOUND)


def _hatch(ax: Axes, scatter: FiniteN, tint: str) -> None:
    """Where single seeds of a perfect learner lie."""
    times = range(len(scatter.low))
    ax.fill_between(times, scatter.low, scatter.high, edgecolor=tint, zorder=0.9, **FINITE_N)


def bounds_on(point: PointCurves, found: Forecast, metric: str) -> dict[str, np.ndarray]:
    """Bounds on a metric, but for upper ones on E[w] that any law meets.

    Where margins were measured, a bound is what the measured curve's own p_0 and moments allow, not
    what those of the real data's law would.
    """
    vacuous = {"exp_reward_mean": 1.0}.get(metric, math.inf)
    bounds = {name: b for name, b in found.bounds.items() if BOUNDS[name].metric == metric}
    bounds = {name: _measured_bound(point, name, bound) for name, bound in bounds.items()}
    return {name: bound for name, bound in bounds.items() if np.nanmin(bound) < vacuous}


def _measured_bound(point: PointCurves, name: str, bound: np.ndarray) -> np.ndarray:
    """The bound that a point's curves were held to, mean over seeds; else the given one."""
    margins = statistics_of(point.aggregates, f"margin/{name}")["mean"]
    if margins.empty:
        return bound
    values = statistics_of(point.aggregates, BOUNDS[name].metric)["mean"]
    sign = -1 if BOUNDS[name].side == "lower" else 1
    own = (values + sign * margins).reindex(range(len(bound)))
    return np.asarray(own, dtype=np.float64)


def explain_lines(ax: Axes, points: Sequence[PointCurves], metric: str, band: Band) -> None:
    """Legend entries for the kinds of lines and bands."""
    found = [(point, point.forecast) for point in points if point.forecast is not None]
    measured = [point for point in points if not point.aggregates.empty]
    text = band_line(band, measured)
    if text:
        ax.fill_between([], [], [], color="0.4", alpha=0.3, lw=0, label=text)
    if measured and any(metric in each.curves for _, each in found):
        ax.plot([], [], color="0.4", label=FORECAST_LINE, **FORECAST)
    if len(points) > FEW:
        return
    scatters = [each.finite_n[metric] for _, each in found if metric in each.finite_n]
    if scatters:
        at = " or ".join(dict.fromkeys(scatter.at for scatter in scatters))
        text = f"95 % of seeds of a perfect learner, {at}"
        ax.fill_between([], [], [], edgecolor="0.4", label=text, **FINITE_N)
    if any(bounds_on(point, each, metric) for point, each in found):
        ax.plot([], [], color="0.4", label=BOUND_LINE, **BOUND)


def draw_kept_against_pool(
    ax: Axes, points: Sequence[PointCurves], looks: Mapping[int, Look], band: Band = "ci"
) -> Axes:
    """Mean reward of the pool (dots) and of what was kept of it (rings), a colour per point."""
    for point in points:
        tint = looks[point.index].color
        for metric, face in (("reward_mean", tint), ("kept_reward_mean", "white")):
            table = statistics_of(point.aggregates, metric)
            if band == "quantiles":
                table["mean"] = table["median"].fillna(table["mean"])
            style: dict[str, Any] = {"color": tint, "lw": 1.2, "marker": "o", "ms": 4, "mfc": face}
            ax.plot(table.index, table["mean"], **style)
            if point.seeds > 1:
                ax.fill_between(table.index, *_ends(table, band), color=tint, alpha=0.2, lw=0)
            curves = {} if point.forecast is None else point.forecast.curves
            if metric in curves:
                ax.plot(range(len(curves[metric])), curves[metric], color=tint, **FORECAST)
    ax.plot([], [], color="0.4", marker="o", ms=4, label="the pool of p_t")
    ax.plot([], [], color="0.4", marker="o", ms=4, mfc="white", label="what was kept of it")
    text = band_line(band, points)
    if text:
        ax.fill_between([], [], [], color="0.4", alpha=0.3, lw=0, label=text)
    if any(p.forecast is not None and "reward_mean" in p.forecast.curves for p in points):
        ax.plot([], [], color="0.4", label=FORECAST_LINE, **FORECAST)
    ax.set_ylabel(label("reward_mean"))
    return iterations(ax)


def class_metrics(point: PointCurves) -> list[str]:
    """The metrics of a point's class shares, in the order of the classes."""
    names = {
        metric.removesuffix(".mean")
        for metric in point.aggregates["metric"]
        if metric.startswith("class_fraction/") and metric.endswith(".mean")
    }
    return sorted(names, key=lambda name: int(name.split("/")[1]))


def draw_shares(ax: Axes, point: PointCurves, title: str, names: Mapping[int, str]) -> Axes:
    """Shares of the classes or modes, stacked, mean over seeds; dashed, where they are forecast.

    Args:
        ax: where.
        point: whose.
        title: of the panel.
        names: what classes are called, by number, where they have names.
    """
    ordered = class_metrics(point)
    shares = pd.DataFrame({n: statistics_of(point.aggregates, n)["mean"] for n in ordered})
    tints = [color(i) for i in range(len(ordered))]
    numbers = [int(name.split("/")[1]) for name in ordered]
    labels = [names.get(each, str(each)) for each in numbers]
    if len(shares) == 1:  # T=0: a block about its one iteration
        shares = pd.concat([shares, shares]).set_axis([-0.4, 0.4])
    ax.stackplot(shares.index, shares.T.to_numpy(), colors=tints, labels=labels, lw=0)
    for area, index in zip(ax.collections, range(len(ordered)), strict=True):
        if index >= 8:  # colours repeat: hatching tells the second eight from the first
            area.set(hatch="////", edgecolor="white")
    curves = point.forecast.curves if point.forecast is not None else {}
    if ordered and set(ordered) <= set(curves):
        tops = np.cumsum([curves[name] for name in ordered[:-1]], axis=0)
        outline = withStroke(linewidth=1.4, foreground="w")
        style: dict[str, Any] = {"color": "k", "lw": 0.7, "ls": "--", "path_effects": [outline]}
        ax.plot(range(tops.shape[1]), tops.T, **style)
    ax.set_ylim(0, 1)
    ax.set_xlim(shares.index.min(), shares.index.max())
    ax.set_title(title, fontsize="medium")
    ax.grid(False)
    return iterations(ax)


def draw_samples(ax: Axes, samples: np.ndarray, tint: str) -> Axes:
    """A scatter of two-dimensional samples `(N, 2)`."""
    style: dict[str, Any] = {"s": 1.5, "alpha": 0.5, "lw": 0, "rasterized": True}
    ax.scatter(samples[:, 0], samples[:, 1], color=tint, **style)
    ax.set_aspect("equal")
    return bare(ax)


def draw_images(ax: Axes, images: np.ndarray) -> Axes:
    """A square of images `(N, channels, H, W)` in [-1, 1], as many as fill it."""
    ax.imshow(tiled(images), cmap="gray", vmin=0, vmax=1)
    return bare(ax)


def bare(ax: Axes) -> Axes:
    """Take off ticks and grid, of pictures."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    return ax


def iterations(ax: Axes) -> Axes:
    """Make the horizontal axis one of retrainings."""
    ax.set_xlabel("retraining iteration t")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax
