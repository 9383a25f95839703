"""Figures show the numbers they are given: checked on the artists, not on pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from luceloop.analysis.drawing.colors import COLORS, color
from luceloop.analysis.drawing.panels import (
    draw_curve,
    draw_kept_against_pool,
    draw_samples,
    draw_shares,
)
from luceloop.analysis.reading.results import PointCurves
from luceloop.analysis.statistics.seeds import aggregate, band
from luceloop.core.theory.forecast import Forecast

SHARES = {0: [0.5, 0.7, 0.9], 1: [0.3, 0.2, 0.1], 10: [0.2, 0.1, 0.0]}


def point(index: int, slope: float) -> PointCurves:
    rows = []
    for seed in range(4):
        for t in range(3):
            noise = 0.1 * seed
            rows += [(seed, t, "reward_mean", slope * t + noise)]
            rows += [(seed, t, "kept_reward_mean", slope * t + noise + 1)] if t < 2 else []
            rows += [(seed, t, f"class_fraction/{i}", share[t]) for i, share in SHARES.items()]
    table = pd.DataFrame(rows, columns=["seed", "iteration", "metric", "value"])
    table.insert(0, "point", index)
    curves = aggregate(table.astype({"seed": "Int64"}))
    return PointCurves(index, f"β={index} λ=1 K=2", 4, curves)


@pytest.fixture
def ax():
    return Figure().subplots()


def test_a_curve_is_the_mean_and_its_band_the_interval(ax):
    points = [point(0, 1.0), point(1, -2.0)]
    assert draw_curve(ax, points, "reward_mean") is ax
    assert len(ax.lines) == len(ax.collections) == 2
    for line, shade, drawn in zip(ax.lines, ax.collections, points, strict=True):
        expected = band(drawn.aggregates, "reward_mean")
        assert np.allclose(line.get_ydata(), expected["mean"])
        heights = np.asarray(shade.get_paths()[0].vertices)[:, 1]
        assert heights.min() == pytest.approx(expected["ci_low"].min())
        assert heights.max() == pytest.approx(expected["ci_high"].max())
        assert to_hex(line.get_color()).upper() == color(drawn.index)
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["β=0 λ=1 K=2 (4 seeds)", "β=1 λ=1 K=2 (4 seeds)"]
    assert ax.get_xlabel() == "retraining iteration t" and "E[r]" in ax.get_ylabel()


def test_many_points_get_thin_lines_and_no_legend(ax):
    draw_curve(ax, [point(i, 1.0) for i in range(20)], "reward_mean")
    assert len(ax.lines) == 20 and not ax.collections
    assert ax.get_legend_handles_labels()[1] == []


def forecast_of(lift: float = 0.0) -> Forecast:
    """Over t = 0, 1, 2: a line of its own, a lower and an upper bound, and a vacuous one."""
    bounds = {"lemma_2_2": 0.1 * LINE, "theorem_2_4": 0.9 * LINE, "theorem_2_4_sup": 2 + LINE}
    curves = {"reward_mean": LINE + lift, "exp_reward_mean": LINE / 9, "reward_kl": LINE / 8}
    return Forecast(curves, bounds, {})


LINE = np.array([np.nan, 0.5, 0.7])


def test_forecasts_and_bounds_lie_beneath_the_curve_in_its_colour(ax):
    points = [replace(point(i, 1.0), forecast=forecast_of(i)) for i in (0, 1)]
    draw_curve(ax, points, "reward_mean")
    dashed = [line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert len(dashed) == 2
    for index, line in enumerate(dashed):
        assert np.array_equal(line.get_ydata(), LINE + index, equal_nan=True)
        assert line.get_color() == color(index)
        measured = [other for other in ax.lines if other.get_label() == points[index].label]
        assert line.get_zorder() < measured[0].get_zorder()
    labels = ax.get_legend_handles_labels()[1]
    assert sum("forecast" in label for label in labels) == 1  # explained once
    assert not any("bounds" in label for label in labels)  # there are none on this metric


@pytest.mark.parametrize(
    ("metric", "expected"), [("exp_reward_mean", [0.1 * LINE]), ("reward_kl", [0.9 * LINE])]
)
def test_only_bounds_on_the_metric_that_say_something_are_drawn(ax, metric, expected):
    draw_curve(ax, [replace(point(0, 1.0), forecast=forecast_of())], metric)
    dotted = [line for line in ax.lines if line.get_linestyle() == ":" and len(line.get_xdata())]
    assert len(dotted) == len(expected)
    for line, bound in zip(dotted, expected, strict=True):
        assert np.array_equal(line.get_ydata(), bound, equal_nan=True)


def test_a_forecast_alone_is_the_curve_and_has_the_name(ax):
    alone = PointCurves(2, "β=2", 0, point(2, 1.0).aggregates.iloc[:0], forecast_of())
    draw_curve(ax, [alone], "reward_mean")
    [line] = ax.lines
    assert line.get_linestyle() == "-" and line.get_label() == "β=2"


def test_kept_is_drawn_over_pool_in_the_points_colour(ax):
    draw_kept_against_pool(ax, [point(3, 1.0)])
    pool, kept = ax.lines[:2]
    assert (kept.get_ydata() > pool.get_ydata()[:2]).all()
    assert kept.get_markerfacecolor() == "white" != pool.get_markerfacecolor()
    assert pool.get_color() == kept.get_color() == color(3)


def test_shares_are_stacked_in_the_order_of_the_classes(ax):
    draw_shares(ax, point(0, 1.0))
    tops = [shade.get_paths()[0].vertices[:, 1].max() for shade in ax.collections]
    assert tops == pytest.approx([0.9, 1.0, 1.0])
    assert ax.get_legend_handles_labels()[1] == ["0", "1", "10"]


def test_forecast_shares_are_lines_between_the_areas(ax):
    shares = {f"class_fraction/{i}": np.array(share) for i, share in SHARES.items()}
    draw_shares(ax, replace(point(0, 1.0), forecast=Forecast(shares, {}, {})))
    tops = [shade.get_paths()[0].vertices[:, 1].max() for shade in ax.collections]
    assert [max(line.get_ydata()) for line in ax.lines] == pytest.approx(tops[:-1])


def test_samples_are_where_they_are(ax):
    samples = np.random.default_rng(0).normal(size=(50, 2))
    draw_samples(ax, samples, COLORS[0])
    assert np.allclose(ax.collections[0].get_offsets(), samples)


def test_colours_are_distinct_for_colour_blind_readers():
    """Okabe and Ito's set: every pair differs in lightness or hue also under deuteranopia."""
    assert len(set(COLORS)) == 8
    # Machado et al. 2009, deuteranopia, severity 1.
    blind = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLORS])
    seen = (rgb**2.2) @ blind.T
    distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
    assert distance[~np.eye(8, dtype=bool)].min() > 0.05
