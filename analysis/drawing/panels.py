"""Drawing on one `ax`: every function takes numbers and an `ax`, and returns the `ax`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from luceloop.analysis.drawing.colors import color
from luceloop.analysis.reading.results import PointCurves
from luceloop.analysis.statistics.seeds import band
from luceloop.core.theory.bounds import BOUNDS
from luceloop.core.theory.finite_n import FiniteN
from luceloop.core.theory.forecast import Forecast

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
    "frechet_distance": "Fréchet distance to the real data",
    "precision": "precision (realism)",
    "recall": "recall (coverage)",
    "sliced_wasserstein": "sliced W2 distance to the real data",
    "width_ratio": "width of the classes / of the real ones",
    "class_entropy": "entropy of the class shares (nats)",
    "loss": "training loss",
}
FORECAST: dict[str, Any] = {"ls": "--", "lw": 1.0, "zorder": 1.9}
FINITE_N: dict[str, Any] = {"alpha": 0.35, "lw": 0.0, "hatch": "||||", "facecolor": "none"}
BOUND: dict[str, Any] = {"ls": ":", "lw": 1.0, "zorder": 1.8}
WIDE_SWEEP = 12
"""Points beyond which curves are drawn thin, without bands or legend entries for each."""


def draw_curve(ax: Axes, points: Sequence[PointCurves], metric: str) -> Axes:
    """One metric over iterations: a line per point, its 95 % interval over seeds as a band.

    Beneath: dashed, the forecast; dotted, the theorems' bounds; hatched, where 95 % of single seeds
    of a perfect learner lie at the sweep's own sample sizes.
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
    if not crowded and metric in found.finite_n:
        _hatch(ax, found.finite_n[metric], tint)
    if not crowded:
        for curve in _bounds_on(found, metric).values():
            ax.plot(range(len(curve)), curve, color=tint, **BOUND)


def _hatch(ax: Axes, scatter: FiniteN, tint: str) -> None:
    """Where single seeds of a perfect learner lie."""
    iterations = range(len(scatter.low))
    ax.fill_between(iterations, scatter.low, scatter.high, edgecolor=tint, zorder=0.9, **FINITE_N)


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
    scatters = [each.finite_n[metric] for each in found if metric in each.finite_n]
    if scatters and not crowded:
        at = " or ".join(dict.fromkeys(scatter.at for scatter in scatters))
        label = f"95 % of seeds of a perfect learner, {at}"
        ax.fill_between([], [], [], edgecolor="0.4", label=label, **FINITE_N)
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


def draw_images(ax: Axes, images: np.ndarray) -> Axes:
    """A square of images `(N, channels, H, W)` in [-1, 1], as many as fill it."""
    side = math.isqrt(len(images))
    tiles = images[: side**2].reshape(side, side, *images.shape[1:])
    whole = tiles.transpose(0, 3, 1, 4, 2).reshape(
        side * images.shape[2], side * images.shape[3], images.shape[1]
    )
    shown = ((whole + 1) / 2).clip(0, 1)
    ax.imshow(shown.squeeze(-1) if shown.shape[-1] == 1 else shown, cmap="gray", vmin=0, vmax=1)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    return ax


def _iterations(ax: Axes) -> Axes:
    ax.set_xlabel("retraining iteration t")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax
