"""Samples as pictures: those of a point by iteration, read from the tracking store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from luceloop.analysis.drawing.panels import draw_images, draw_samples
from luceloop.analysis.drawing.squares import IMAGES, load_first, sample_limits
from luceloop.analysis.drawing.styles import Arrangement
from luceloop.analysis.reading import labels
from luceloop.analysis.reading.results import PointCurves
from luceloop.analysis.reading.store import SweepRuns

MOST_COLUMNS = 6
"""Iterations of the figure, evenly spread from the first to the last."""
Samples = Mapping[int, np.ndarray]
"""By iteration: vectors `(N, 2)` or images `(N, channels, H, W)` of one seed."""


def load_samples(runs: SweepRuns, index: int) -> dict[int, np.ndarray]:
    """Two-dimensional samples or images of a point's first seed, by iteration; empty if none are.

    Args:
        runs: of the sweep.
        index: of the point.
    """
    run = runs.points[index].info.run_id
    if not runs.client.list_artifacts(run, labels.SAMPLES):
        return {}
    with tempfile.TemporaryDirectory() as temporary:
        local = Path(runs.client.download_artifacts(run, labels.SAMPLES, temporary))
        found = {}
        for file in sorted(local.glob("iteration-*.npz")):
            samples = load_first(file)
            if samples is not None:
                found[int(file.stem.split("-")[1])] = samples
        return found


def draw_sample_grid(
    figure: Figure,
    points: Sequence[PointCurves],
    found: Mapping[int, Samples],
    looks: Arrangement,
    names: Mapping[int, str],
) -> None:
    """A row per point, a column per iteration.

    Args:
        figure: an empty one.
        points: those with samples.
        found: samples by point.
        looks: of the points.
        names: what rows are called, by point.
    """
    iterations = sorted({i for by_iteration in found.values() for i in by_iteration})
    columns = min(MOST_COLUMNS, len(iterations))
    chosen = [iterations[round(i)] for i in np.linspace(0, len(iterations) - 1, columns)]
    axes = figure.subplots(len(points), columns, squeeze=False, sharex=True, sharey=True)
    for row, point in enumerate(points):
        for column, iteration in enumerate(chosen):
            ax, samples = axes[row][column], found[point.index].get(iteration)
            if samples is None:
                ax.set_axis_off()
            elif samples.ndim == 2:
                draw_samples(ax, samples, looks.looks[point.index].color)
            else:
                draw_images(ax, samples[:IMAGES])
            if row == 0:
                ax.set_title(f"t={iteration}", fontsize="medium")
        axes[row][0].set_ylabel(names[point.index].replace(" ", "\n", 1), fontsize="small")
    if next(iter(found[points[0].index].values())).ndim == 2:
        together = [each for by_iteration in found.values() for each in by_iteration.values()]
        set_limits(axes.flat[0], together)


def row_height(found: Iterable[Samples]) -> float:
    """How high a row of the figure is, as a multiple of the width of a picture."""
    planar = [each for samples in found for each in samples.values() if each.ndim == 2]
    if not planar:
        return 1.0
    low, high = sample_limits(planar)
    width, height = high - low
    return float(np.clip(height / width, 0.3, 2.0))


def set_limits(ax: Axes, samples: Sequence[np.ndarray]) -> None:
    """Frame samples `(N, 2)`."""
    low, high = sample_limits(samples)
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
