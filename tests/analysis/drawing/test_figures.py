"""Figures of sweeps of any size: no two points look alike, all have bands, nothing is dropped."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from luceloop.analysis.drawing.colors import COLORS, Palette, Scale, perceptual
from luceloop.analysis.drawing.figures import (
    FIGURES,
    Scene,
    Wish,
    draw_forecasts,
    forecast_curves,
    is_constant,
)
from luceloop.analysis.drawing.response import endings, importances
from luceloop.analysis.drawing.sheets import Drawing, columns_for, style
from luceloop.analysis.drawing.styles import arrange, short_name, varying
from luceloop.analysis.reading.results import PointCurves
from luceloop.core.fields import flatten
from luceloop.core.theory.forecast import Forecast
from luceloop.sweeps.cli.conclusions import FIGURES as LISTED
from tests.analysis.made_up import SIZES, made_up, of_size

INF = float("inf")


def _length(line: Line2D) -> int:
    return len(np.asarray(line.get_xdata()))


def drawn(name: str, points: list[PointCurves], palette: Palette, **wish: str) -> Drawing:
    with style("paper"):
        found = FIGURES[name](Scene(points, palette, Wish(**wish)))  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.fixture(scope="module", params=sorted(SIZES))
def sweep(request: pytest.FixtureRequest) -> tuple[list[PointCurves], Palette]:
    config, points = of_size(request.param)
    assert len(points) == request.param
    return points, Palette(config)


@pytest.mark.parametrize("metric", ["reward_mean", "exp_reward_mean", "class_entropy"])
def test_no_two_points_look_alike_and_every_one_has_its_band(sweep, metric):
    points, palette = sweep
    figure = drawn("curve", points, palette, metric=metric).figure
    panels = [ax for ax in figure.axes if ax.get_xlabel()]
    seen: Counter[tuple[int, str, str]] = Counter()
    bands = 0
    for number, ax in enumerate(panels):
        solid = [line for line in ax.lines if line.get_linestyle() == "-" and _length(line)]
        seen.update((number, str(each.get_color()), str(each.get_marker())) for each in solid)
        filled = [c for c in ax.collections if isinstance(c, FillBetweenPolyCollection)]
        own = [c for c in filled if c.get_paths() and not str(c.get_label()).startswith("95")]
        assert len(own) == len(solid) > 0  # no empty panel
        bands += len(own)
    assert max(seen.values()) == 1
    assert sum(seen.values()) == bands == len(points)


def test_metrics_that_differ_in_kind_between_betas_share_no_panel():
    for search in (SIZES[9], {"beta": {"grid": [0.5, 10]}, "lam": {"grid": [1, INF]}}):
        config, points = made_up(search)
        looks = arrange(points, Palette(config), apart=True)
        by_panel: dict[int, set[float]] = {}
        for point in points:
            panel = looks.looks[point.index].panel
            by_panel.setdefault(panel, set()).add(point.values["curation.beta"])
        assert all(len(betas) == 1 for betas in by_panel.values())
        assert len(by_panel) == len(looks.panels) > 1


def test_of_a_large_sweep_colour_panel_and_marker_each_stand_for_a_key():
    config, points = of_size(64)
    looks = arrange(points, Palette(config)).looks
    for key, part in (("lam", "color"), ("curation.beta", "panel"), ("curation.k", "marker")):
        pairs = {(point.values[key], getattr(looks[point.index], part)) for point in points}
        assert len(pairs) == 4  # one to one
    colors = [looks[i].color for i in range(16) if i % 4 == 0]
    weights = [0.3, 0.59, 0.11]
    lightness = [np.dot([int(c[i : i + 2], 16) for i in (1, 3, 5)], weights) for c in colors]
    assert lightness == sorted(lightness)  # λ = 0.5, 1, 2, inf from dark to light


def test_up_to_eight_points_have_colours_of_their_own():
    config, points = made_up({"beta": {"grid": [0, 10]}, "lam": {"grid": [1, INF]}})
    looks = arrange(points, Palette(config))
    assert [looks.looks[i].color for i in range(4)] == list(COLORS[:4])
    labels = [label for label, _, _ in looks.entries]
    assert labels == ["β=0 λ=1", "β=0 λ=∞", "β=10 λ=1", "β=10 λ=∞"]  # K does not vary


def test_a_part_of_a_large_sweep_is_told_apart_too():
    config, points = of_size(9)
    part = [point for point in points if point.values["lam"] == 1]  # the key of the colours
    looks = arrange(part, Palette(config))
    assert len({look.color for look in looks.looks.values()}) == len(part) == 3
    assert [label for label, _, _ in looks.entries] == ["β=0", "β=1", "β=10"]


def test_the_colour_scale_follows_the_search():
    log = Scale("lam", None, 0.1, 10.0, is_log=True)
    assert log.position(1.0) == pytest.approx(0.5)
    ranked = Scale("lam", (0.5, 1, INF))
    assert [ranked.position(x) for x in (0.5, 1.0, INF)] == [0, 0.5, 1]
    steps = [perceptual(i / 199) for i in range(200)]
    assert len(set(steps)) == 200


@pytest.mark.parametrize("size", sorted(SIZES))
def test_the_response_figure_has_every_point(size):
    config, points = of_size(size)
    figure = drawn("response", points, Palette(config)).figure
    keys = varying(points)
    if len(keys) > 2:
        lines = [line for line in figure.axes[0].lines if _length(line) == len(keys) + 1]
        assert len(lines) == size
        return
    means = endings(points, "reward_mean")
    for ax, column in zip(figure.axes, ("mean", "std"), strict=False):
        [shown] = ax.collections
        values = np.asarray(shown.get_array()).ravel()
        assert sorted(values) == pytest.approx(sorted(means[column]))
    assert figure.axes[1].get_title() == "standard deviation over seeds"


def test_a_response_to_one_key_has_intervals_and_the_forecast():
    config, points = made_up({"lam": {"grid": [INF, 0.5, 1]}})
    figure = drawn("response", points, Palette(config)).figure
    [ax] = figure.axes
    bars: Any = ax.containers[0]
    table = endings(points, "reward_mean").loc[[1, 2, 0]]  # λ in order
    line, _, (segments,) = bars.lines
    assert np.allclose(line.get_ydata(), table["mean"])
    ends = np.array([segment[:, 1] for segment in segments.get_segments()])
    assert np.allclose(ends, table[["ci_low", "ci_high"]])
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert np.allclose(dashed[0].get_ydata(), table["forecast"])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0.5", "1", "∞"]


def test_against_a_key_there_is_a_line_for_each_value_of_the_others():
    config, points = of_size(9)
    figure = drawn("response", points, Palette(config), x="lam").figure
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert [text for text in labels if "β" in text] == ["β=0", "β=1", "β=10"]


def test_importance_goes_to_the_key_that_matters():
    search = {"beta": {"grid": [5]}, "lam": {"grid": [1, 2, INF]}, "k": {"grid": [2, 4, 8]}}
    _, points = made_up(search)
    values = pd.Series({p.index: {1: 0.0, 2: 1.0, INF: 3.0}[p.values["lam"]] for p in points})
    found = importances(points, values, ["lam", "curation.k"])
    assert found["lam"] > 0.95 and sum(found.values()) == pytest.approx(1)


def test_what_never_changes_has_no_figure():
    config, points = made_up({"lam": {"grid": [1, INF]}})
    still = [replace(p, aggregates=p.aggregates.assign(value=3.0)) for p in points]
    assert is_constant(still, "reward_mean") and not is_constant(points, "reward_mean")
    with style("paper"):
        assert FIGURES["curve"](Scene(still, Palette(config))) is None
        overview = FIGURES["overview"](Scene(still, Palette(config)))
    assert overview is not None and len(overview.figure.axes) == 1  # but for the main one alone


def test_a_forecast_in_which_nothing_changes_is_drawn(tmp_path):
    config, points = made_up({"k": {"grid": [1, 2, 3]}, "beta": {"grid": [0, 1, 5]}}, lam=0)
    drawn = [forecast_curves(p.index, p.name, p.values, found(p)) for p in points]
    files = draw_forecasts(drawn, config, tmp_path / "still")
    assert [file.suffix for file in files] == [".png", ".pdf"]


def found(point: PointCurves) -> Forecast:
    assert point.forecast is not None
    return point.forecast


def test_class_shares_of_any_number_of_points_have_no_empty_panel():
    for size in (9, 64):
        config, points = of_size(size)
        figure: Figure = drawn("class_shares", points, Palette(config)).figure
        panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
        assert all(ax.collections or ax.images for ax in panels)
        if size == 9:
            assert len(panels) == 9
        else:
            assert np.asarray(panels[0].images[0].get_array()).shape == (64, 8)


def test_captions_name_the_band_and_what_is_left_out():
    config, points = of_size(200)
    caption = drawn("curve", points, Palette(config), band="std").caption
    assert "mean ± standard deviation, 4 seeds" in caption and "are left out" in caption
    config, points = of_size(9)
    caption = drawn("curve", points, Palette(config)).caption
    assert "95 % interval of the mean, 4 seeds" in caption and "left out" not in caption


def test_names_leave_out_what_does_not_vary():
    _, points = of_size(9)
    assert short_name(points[-1], varying(points)) == "β=10 λ=∞"
    assert short_name(points[-1], []) == "β=10 λ=∞ K=2"


def test_panels_fill_their_rows():
    for panels in range(1, 25):
        columns = columns_for(panels, 4)
        assert 1 <= columns <= 4
        if panels > 4:
            empty = math.ceil(panels / columns) * columns - panels
            assert empty <= min(math.ceil(panels / c) * c - panels for c in (2, 3, 4))


def test_the_command_line_lists_the_figures():
    assert LISTED == tuple(FIGURES)


def _with(point: PointCurves, **changes: Any) -> PointCurves:
    return replace(point, **changes)


def test_values_are_told_apart_however_they_are_spelled():
    """YAML takes 1e-4 for text, and `inf` too; points have numbers."""
    rates: list[Any] = ["1e-5", "1e-4", "1e-3", "1e-2", 0.1]
    search = {"learner.lr": {"grid": rates}, "beta": {"grid": [0, 10]}}
    config, points = made_up(search, learner={"name": "otcfm"})
    palette = Palette(config)
    colors = {palette.color(p.index, {**p.values}) for p in points}
    read = {palette.color(0, {"learner.lr": float(rate)}) for rate in rates}
    assert colors == read and len(colors) == 5


def test_searched_mappings_are_named_by_what_tells_them_apart():
    rewards = [{"name": "mode_distance", "mode": mode} for mode in range(3)]
    config, points = made_up({"reward": {"grid": rewards}, "lam": {"grid": [1, INF]}})
    flat = [
        _with(p, values={**p.values, **flatten({"reward": p.values["reward"]})}) for p in points
    ]
    keys = varying(flat)
    assert set(keys) == {"reward.mode", "lam"}
    assert len({short_name(point, keys) for point in flat}) == 6
    looks = arrange(flat, Palette(config)).looks
    assert len(set(looks.values())) == 6


def test_points_that_did_not_run_to_their_end_are_not_among_the_last_values():
    config, points = made_up({"lam": {"grid": [0.5, 1, INF]}})
    short = points[0].aggregates[points[0].aggregates["iteration"] < 2]
    some = [_with(points[0], aggregates=short, length=4), *(_with(p, length=4) for p in points[1:])]
    drawing = drawn("response", some, Palette(config))
    assert "1 of 3 points did not run to their end: left out" in drawing.caption
    assert endings(some, "reward_mean").index.tolist() == [1, 2]


def test_captions_say_what_the_bars_of_a_response_are():
    config, points = made_up({"lam": {"grid": [0.5, 1]}})
    palette = Palette(config)
    for band, words in (("quantiles", "Median over 4 seeds; bars: quartiles"), ("seeds", "95 %")):
        assert words in drawn("response", points, palette, band=band).caption
    config, points = made_up({"lam": {"grid": [0.5, 1]}}, seeds=1)
    assert drawn("response", points, palette).caption.endswith("Mean over 1 seed.")


def test_where_all_points_end_equal_no_key_matters():
    config, points = made_up(
        {"lam": {"grid": [1, 2]}, "k": {"grid": [2, 3]}, "beta": {"grid": [1, 2, 3]}}
    )
    still = [_with(p, aggregates=p.aggregates.assign(value=1.0)) for p in points]
    assert importances(still, endings(still, "reward_mean")["mean"], varying(still)) == {}
    assert drawn("response", still, Palette(config)).figure.axes


def test_shares_of_a_single_iteration_fill_their_panel():
    config, points = made_up({"lam": {"grid": [1, 2]}}, iterations=0)
    figure = drawn("class_shares", points, Palette(config)).figure
    for ax in figure.axes:
        low, high = ax.get_xlim()
        assert high - low > 0.5 and len(ax.collections) == 8


def test_a_metric_named_like_a_figure_has_a_file_of_its_own():
    config, points = made_up({"lam": {"grid": [1, 2]}})
    renamed = []
    for point in points:
        rows = point.aggregates.copy()
        rows["metric"] = rows["metric"].str.replace("reward_mean", "overview")
        renamed.append(_with(point, aggregates=rows))
    assert drawn("curve", renamed, Palette(config), metric="overview").name == "metric-overview"


def test_numbered_points_have_a_bar_of_their_numbers():
    _, points = made_up({"lam": {"grid": list(range(12))}})
    nameless = [_with(p, values={}) for p in points if p.index not in (3, 7)]
    bar = arrange(nameless, Palette(None)).bar
    assert bar is not None and bar.levels == (0, 1, 2, 4, 5, 6, 8, 9, 10, 11)


def test_legends_name_what_is_drawn_and_no_marker_that_is_not():
    config, points = made_up({"beta": {"grid": [0, 10]}, "lam": {"grid": [1, INF]}})
    palette, bounded = Palette(config), []
    for point in points:  # without a preference a margin is 0 at all times
        rows = point.aggregates[point.aggregates["metric"].str.startswith("exp_reward_mean.")]
        size = rows["value"] * (point.values["curation.beta"] > 0)
        name = rows["metric"].str.replace("exp_reward_mean", "margin/lemma_2_2")
        both = pd.concat([point.aggregates, rows.assign(metric=name, value=size)])
        bounded.append(_with(point, aggregates=both))
    named = [text.get_text() for text in _legend(drawn("margins", bounded, palette).figure)]
    assert [text for text in named if text.startswith("β")] == ["β=10 λ=1", "β=10 λ=∞"]
    [legend] = drawn("kept_against_pool", points, palette).figure.legends
    pairs = zip(legend.get_texts(), legend.legend_handles, strict=True)
    of_points = [handle for text, handle in pairs if text.get_text().startswith("β")]
    markers = {handle.get_marker() for handle in of_points if isinstance(handle, Line2D)}
    assert len(of_points) == 4 and markers == {"o", "none"}  # dots are the pool, rings the kept
    _, many = of_size(64)
    large = drawn("curve", many, Palette(of_size(64)[0])).figure
    assert [t.get_text() for t in _legend(large)][:2] == ["λ=0.5", "λ=1"]


def _legend(figure: Figure) -> list[Text]:
    return list(figure.legends[0].get_texts())
