"""Figures of a sweep: curves with bands over seeds on the theory's lines, mode shares, samples.

`draw_all` draws a sweep, `draw_forecasts` the theory alone; both write PNG and PDF.
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

from luceloop.analysis.drawing.colors import color
from luceloop.analysis.drawing.panels import (
    WIDE_SWEEP,
    draw_curve,
    draw_images,
    draw_kept_against_pool,
    draw_samples,
    draw_shares,
)
from luceloop.analysis.reading import labels
from luceloop.analysis.reading.results import PointCurves, SweepResults
from luceloop.analysis.reading.store import SweepRuns
from luceloop.core.theory.bounds import BOUNDS
from luceloop.core.theory.forecast import Forecast

IMAGES = 25
"""Images of a point and iteration in the figure of samples."""
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


def draw_all(results: SweepResults, folder: Path) -> list[Path]:
    """Draw every figure of a sweep.

    Returns:
        The files written, a PNG and a PDF for each figure.
    """
    runs, curves, points = results.runs, results.curves, results.points
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
    """Samples of the first seed that can be seen: a row per point, a column per iteration."""
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
            if samples.ndim == 2:
                draw_samples(ax, samples, color(point.index))
            else:
                draw_images(ax, samples[:IMAGES])
            if row == 0:
                ax.set_title(f"t={iteration}", fontsize=9)
        axes[row][0].set_ylabel(point.name.replace(" ", "\n", 1), fontsize=8)
    if next(iter(found[shown[0].index].values())).ndim == 2:
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
    """Two-dimensional samples or images of a point's first seed, by iteration."""
    run = runs.points[index].info.run_id
    if not runs.client.list_artifacts(run, labels.SAMPLES):
        return {}
    with tempfile.TemporaryDirectory() as temporary:
        local = Path(runs.client.download_artifacts(run, labels.SAMPLES, temporary))
        found = {}
        for file in sorted(local.glob("iteration-*.npz")):
            with np.load(file, allow_pickle=False) as content:
                samples = content["samples"]
            vectors = samples.ndim == 3 and samples.shape[-1] == 2
            if vectors or (samples.ndim == 5 and samples.shape[2] in (1, 3)):
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


def _save(figure: Figure, stem: Path) -> list[Path]:
    FigureCanvasAgg(figure)
    files = [stem.with_name(stem.name + suffix) for suffix in (".png", ".pdf")]
    for file in files:
        figure.savefig(file)
        figure.set_layout_engine("none")  # laid out once, for both files
    return files
