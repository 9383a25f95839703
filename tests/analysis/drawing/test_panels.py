"""Figures show the numbers they are given: checked on the artists, not on pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy import stats

from luceloop.analysis.drawing.colors import COLORS, color
from luceloop.analysis.drawing.panels import (
    draw_curve,
    draw_kept_against_pool,
    draw_samples,
    draw_shares,
)
from luceloop.analysis.drawing.styles import Look
from luceloop.analysis.drawing.wording import BANDS
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
    table = table.astype({"seed": "Int64"})
    name = f"β={index} λ=1 K=2"
    return PointCurves(index, name, 4, aggregate(table), values={"lam": 1}, by_seed=table)


LOOKS = {index: Look(color(index), "o", 0) for index in range(20)}


@pytest.fixture
def ax():
    return Figure().subplots()


def test_a_curve_is_the_mean_and_its_band_the_interval(ax):
    points = [point(0, 1.0), point(1, -2.0)]
    assert draw_curve(ax, points, "reward_mean", LOOKS) is ax
    assert len(ax.lines) == 2 and len(ax.collections) == 3  # the last explains the bands
    for line, shade, drawn in zip(ax.lines, ax.collections, points, strict=False):
        expected = band(drawn.aggregates, "reward_mean")
        assert np.allclose(line.get_ydata(), expected["mean"])
        heights = np.asarray(shade.get_paths()[0].vertices)[:, 1]
        assert heights.min() == pytest.approx(expected["ci_low"].min())
        assert heights.max() == pytest.approx(expected["ci_high"].max())
        assert to_hex(line.get_color()).upper() == color(drawn.index)
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["95 % interval of the mean, 4 seeds"]
    assert ax.get_xlabel() == "retraining iteration t" and "E[r]" in ax.get_ylabel()


@pytest.mark.parametrize("band_", BANDS)
def test_bands_show_what_they_are_called(ax, band_):
    drawn = point(1, -2.0)
    draw_curve(ax, [drawn], "reward_mean", LOOKS, band_)
    values = np.array([[-2.0 * t + 0.1 * seed for seed in range(4)] for t in range(3)])
    middle, std = values.mean(1), values.std(1, ddof=1)
    half = stats.t.ppf(0.975, 3) * std / 2
    ends = {
        "ci": (middle - half, middle + half),
        "std": (middle - std, middle + std),
        "quantiles": tuple(np.quantile(values, [0.25, 0.75], axis=1)),
        "seeds": (middle - half, middle + half),
    }[band_]
    corners = np.asarray(ax.collections[0].get_paths()[0].vertices)
    for t, low, high in zip(range(3), *ends, strict=True):
        here = corners[corners[:, 0] == t, 1]
        assert (here.min(), here.max()) == pytest.approx((low, high))
    line, *thin = ax.lines
    assert np.allclose(line.get_ydata(), np.median(values, 1) if band_ == "quantiles" else middle)
    assert len(thin) == (4 if band_ == "seeds" else 0)
    for seed, each in enumerate(thin):
        assert np.allclose(each.get_ydata(), values[:, seed])
    assert ax.get_legend_handles_labels()[1] == [f"{BANDS[band_]}, 4 seeds"]


def test_of_many_points_all_have_their_band(ax):
    draw_curve(ax, [point(i, 1.0) for i in range(20)], "reward_mean", LOOKS)
    assert len(ax.lines) == 20 and len(ax.collections) == 21


def forecast_of(lift: float = 0.0) -> Forecast:
    """Over t = 0, 1, 2: a line of its own, a lower and an upper bound, and a vacuous one."""
    bounds = {"lemma_2_2": 0.1 * LINE, "theorem_2_4": 0.9 * LINE, "theorem_2_4_sup": 2 + LINE}
    curves = {"reward_mean": LINE + lift, "exp_reward_mean": LINE / 9, "reward_kl": LINE / 8}
    return Forecast(curves, bounds, {})


LINE = np.array([np.nan, 0.5, 0.7])


def test_forecasts_and_bounds_lie_beneath_the_curve_in_its_colour(ax):
    points = [replace(point(i, 1.0), forecast=forecast_of(i)) for i in (0, 1)]
    draw_curve(ax, points, "reward_mean", LOOKS)
    dashed = [line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert len(dashed) == 2
    for index, line in enumerate(dashed):
        assert np.array_equal(line.get_ydata(), LINE + index, equal_nan=True)
        assert line.get_color() == color(index)
        measured = [other for other in ax.lines if other.get_linestyle() == "-"]
        assert len(measured) == 2
        assert line.get_zorder() < measured[0].get_zorder()
    labels = ax.get_legend_handles_labels()[1]
    assert sum("forecast" in label for label in labels) == 1  # explained once
    assert not any("bounds" in label for label in labels)  # there are none on this metric


@pytest.mark.parametrize(
    ("metric", "expected"), [("exp_reward_mean", [0.1 * LINE]), ("reward_kl", [0.9 * LINE])]
)
def test_only_bounds_on_the_metric_that_say_something_are_drawn(ax, metric, expected):
    draw_curve(ax, [replace(point(0, 1.0), forecast=forecast_of())], metric, LOOKS)
    dotted = [line for line in ax.lines if line.get_linestyle() == ":" and len(line.get_xdata())]
    assert len(dotted) == len(expected)
    for line, bound in zip(dotted, expected, strict=True):
        assert np.array_equal(line.get_ydata(), bound, equal_nan=True)


def test_a_bound_starts_from_the_measured_p_0(ax):
    """It is what the curve was held to: the curve less its margin, where margins were measured."""
    rows = []
    for seed in range(3):
        for t in range(3):
            rows.append((5, seed, t, "exp_reward_mean", 0.2 + 0.1 * t + 0.01 * seed))
            rows += [(5, seed, t, "margin/lemma_2_2", 0.04 * t + 0.01 * seed)] if t else []
    table = pd.DataFrame(rows, columns=["point", "seed", "iteration", "metric", "value"])
    curves = aggregate(table.astype({"seed": "Int64"}))
    drawn = PointCurves(5, "β=5", 3, curves, forecast_of())
    draw_curve(ax, [drawn], "exp_reward_mean", LOOKS)
    [dotted] = [line for line in ax.lines if line.get_linestyle() == ":" and len(line.get_xdata())]
    expected = [np.nan, 0.3 - 0.04, 0.4 - 0.08]
    assert np.allclose(dotted.get_ydata(), expected, equal_nan=True)


def test_a_forecast_alone_is_the_curve(ax):
    alone = PointCurves(2, "β=2", 0, point(2, 1.0).aggregates.iloc[:0], forecast_of())
    draw_curve(ax, [alone], "reward_mean", LOOKS)
    [line] = ax.lines
    assert line.get_linestyle() == "-" and line.get_color() == LOOKS[2].color


def test_kept_is_drawn_over_pool_in_the_points_colour(ax):
    draw_kept_against_pool(ax, [point(3, 1.0)], LOOKS)
    pool, kept = ax.lines[:2]
    assert (kept.get_ydata() > pool.get_ydata()[:2]).all()
    assert kept.get_markerfacecolor() == "white" != pool.get_markerfacecolor()
    assert pool.get_color() == kept.get_color() == color(3)


def test_shares_are_stacked_in_the_order_of_the_classes(ax):
    draw_shares(ax, point(0, 1.0), "β=0", {1: "ones (rewarded)"})
    tops = [shade.get_paths()[0].vertices[:, 1].max() for shade in ax.collections]
    assert tops == pytest.approx([0.9, 1.0, 1.0])
    assert ax.get_legend_handles_labels()[1] == ["0", "ones (rewarded)", "10"]
    assert ax.get_title() == "β=0"


def test_forecast_shares_are_lines_between_the_areas(ax):
    shares = {f"class_fraction/{i}": np.array(share) for i, share in SHARES.items()}
    draw_shares(ax, replace(point(0, 1.0), forecast=Forecast(shares, {}, {})), "", {})
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
