"""The figures of a sweep, by name, and the files they become.

`draw_all` draws a sweep, `draw_one` a figure of it, `draw_forecasts` the theory alone. A figure
brings the caption that says what it shows and what it leaves out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from luceloop.analysis.drawing.colors import Palette
from luceloop.analysis.drawing.panels import (
    FEW,
    class_metrics,
    draw_curve,
    draw_kept_against_pool,
    draw_shares,
)
from luceloop.analysis.drawing.pictures import draw_sample_grid, load_samples, row_height
from luceloop.analysis.drawing.response import draw_lines, draw_response, has_ended
from luceloop.analysis.drawing.sheets import Cell, Drawing, Size, columns_for, legend, sheet, style
from luceloop.analysis.drawing.styles import Arrangement, arrange, short_name, varying
from luceloop.analysis.drawing.wording import (
    Band,
    band_line,
    differs_in_kind,
    label,
    seed_count,
)
from luceloop.analysis.reading.results import PointCurves, SweepResults
from luceloop.analysis.statistics.seeds import band as statistics_of
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.rewards.mode_distance import ModeDistanceConfig
from luceloop.core.theory.bounds import BOUNDS
from luceloop.core.theory.forecast import Forecast

STORY = ("reward_mean", "exp_reward_mean", "reward_kl", "class_entropy", "recall", "width_ratio")
"""The metrics that every loop is about, in this order."""
MOST_ROWS = 8
"""Points of the figure of samples."""
MOST_SHARES = 24
"""Points whose class shares have a panel each; of more, the last shares are one picture."""


@dataclass(frozen=True)
class Wish:
    """How figures are wanted."""

    metric: str | None = None
    """What is drawn; the first objective's metric if not given."""
    x: str | None = None
    """The key on the horizontal axis of a response figure."""
    band: Band = "ci"
    size: Size = "paper"
    against: SweepResults | None = None
    """Another sweep, whose curves are drawn besides."""


@dataclass(frozen=True)
class Drawn:
    """A figure that lies on disk."""

    name: str
    caption: str
    files: tuple[Path, ...]
    """A PNG, then a PDF."""


@dataclass(frozen=True)
class Scene:
    """What figures are drawn of."""

    points: Sequence[PointCurves]
    palette: Palette
    wish: Wish = field(default_factory=Wish)
    scale: float = 1.0
    results: SweepResults | None = None

    @property
    def config(self) -> SweepConfig | None:
        """What was run."""
        return None if self.results is None else self.results.config

    @property
    def metric(self) -> str:
        """What the sweep is judged by, unless another metric is wished for."""
        if self.wish.metric is not None:
            return self.wish.metric
        return "reward_mean" if self.config is None else self.config.search.objective[0].metric

    @property
    def measured(self) -> list[str]:
        """The metrics that any point has, measured or forecast."""
        found: dict[str, None] = {}
        for point in self.points:
            means = point.aggregates["metric"]
            found |= dict.fromkeys(m.removesuffix(".mean") for m in means if m.endswith(".mean"))
            if point.forecast is not None and point.aggregates.empty:
                found |= dict.fromkeys(point.forecast.curves)
        return sorted(found)

    def having(self, metric: str) -> list[PointCurves]:
        """The points that have a metric."""
        return [point for point in self.points if _curve_of(point, metric).size]


def draw_all(
    results: SweepResults,
    folder: Path,
    wish: Wish | None = None,
    names: Collection[str] | None = None,
) -> list[Drawn]:
    """Draw the figures of a sweep, and write their captions beside them.

    Of more than eight points the response figure comes first, and of metrics only those that tell
    the story are drawn; `draw_one` draws the others.

    Args:
        results: what the sweep came to.
        folder: where.
        wish: how.
        names: of those that are drawn; all if not given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with style((wish or Wish()).size) as scale:
        scene = _scene(results, wish or Wish(), scale)
        for drawing in _all(scene, names):
            written.append(Drawn(drawing.name, drawing.caption, tuple(drawing.save(folder))))
    captions = [f"**{each.name}.** {each.caption}\n" for each in written]
    (folder / "captions.md").write_text("\n".join(captions), encoding="utf-8")
    return written


def draw_one(results: SweepResults, name: str, folder: Path, wish: Wish | None = None) -> Drawn:
    """Draw one figure of a sweep.

    Raises:
        ConfigError: if there is no such figure or metric, or the sweep has nothing to show in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with style((wish or Wish()).size) as scale:
        drawing = _one(results, name, wish or Wish(), scale)
        return Drawn(drawing.name, drawing.caption, tuple(drawing.save(folder)))


def figure_of(results: SweepResults, name: str, wish: Wish | None = None) -> Figure:
    """One figure of a sweep as a Matplotlib figure, for notebooks.

    Raises:
        ConfigError: if there is no such figure or metric, or the sweep has nothing to show in it.
    """
    with style((wish or Wish()).size) as scale:
        figure = _one(results, name, wish or Wish(), scale).figure
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()  # laid out while the style is in force
        return figure


def _one(results: SweepResults, name: str, wish: Wish, scale: float) -> Drawing:
    if name not in FIGURES:
        raise ConfigError("--figure", name, f"must be one of {', '.join(FIGURES)}")
    drawing = FIGURES[name](_scene(results, wish, scale))
    if drawing is None:
        raise ConfigError("--figure", name, f"shows nothing of this sweep: {WHY_NOT[name]}")
    return drawing


def draw_forecasts(points: Sequence[PointCurves], config: SweepConfig, stem: Path) -> list[Path]:
    """Draw the forecasts of points, without any measured curve.

    Returns:
        The files written: `stem` with the endings of a PNG and a PDF.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    with style("paper") as scale:
        drawing = _overview(Scene(points, Palette(config), Wish(), scale))
        assert drawing is not None
        return Drawing(stem.name, drawing.caption, drawing.figure).save(stem.parent)


def forecast_curves(
    index: int, name: str, values: Mapping[str, object], found: Forecast
) -> PointCurves:
    """A point that has a forecast and no measured curve."""
    columns = ["point", "seed", "iteration", "metric", "value"]
    return PointCurves(index, name, 0, pd.DataFrame(columns=columns, dtype=object), found, values)


def _scene(results: SweepResults, wish: Wish, scale: float) -> Scene:
    return Scene(results.points, Palette(results.config), wish, scale, results)


def _all(scene: Scene, names: Collection[str] | None = None) -> Iterator[Drawing]:
    many = len(scene.points) > FEW
    order: list[str] = ["response"] if many else []
    order += ["overview", "samples", "class_shares", "kept_against_pool", "margins"]
    if scene.metric not in scene.measured:  # no point came so far as to have it
        order = [name for name in order if name != "response"]
    for name in order:
        drawing = FIGURES[name](scene) if names is None or name in names else None
        if drawing is not None:
            yield drawing
    chosen = [m for m in scene.measured if _is_curve(m)]
    if many:
        objectives = [] if scene.config is None else scene.config.search.objective
        story = {*STORY, *(objective.metric for objective in objectives)}
        chosen = [metric for metric in chosen if metric in story]
    for metric in chosen if names is None else ():
        drawing = _curve_figure(scene, metric)
        if drawing is not None:
            yield drawing


def _is_curve(metric: str) -> bool:
    """Whether a metric has a figure of its own, not one together with others."""
    return not metric.startswith(("class_fraction/", "seconds/", "margin/"))


def _curve_of(point: PointCurves, metric: str) -> np.ndarray:
    """Means over seeds, or the forecast where nothing was measured."""
    rows = point.aggregates
    if rows.empty:
        curve = None if point.forecast is None else point.forecast.curves.get(metric)
        return np.empty(0) if curve is None else curve[~np.isnan(curve)]
    values: np.ndarray = rows.loc[rows["metric"] == f"{metric}.mean", "value"].to_numpy()
    return values


def is_constant(points: Sequence[PointCurves], metric: str) -> bool:
    """Whether a metric is one and the same number at all iterations of all points."""
    together = np.concatenate([_curve_of(point, metric) for point in points] or [np.empty(0)])
    if len(together) < 2 or all(_curve_of(point, metric).size < 2 for point in points):
        return False
    size = max(float(np.abs(together).max()), 1e-300)
    return float(np.ptp(together)) <= 1e-9 * size


def _curves(
    scene: Scene, metric: str, title: str = "", *, still: bool = False
) -> tuple[list[Cell], Arrangement] | None:
    """The panels of a metric, but for those in which nothing ever changes, unless `still`."""
    points = scene.having(metric)
    if not points or (is_constant(points, metric) and not still):
        return None
    apart = differs_in_kind(metric)
    looks = arrange(scene.points, scene.palette, apart=apart)
    cells = []
    for panel, name in enumerate(looks.panels):
        mine = looks.members(points, panel)
        if mine and (still or not is_constant(mine, metric)):
            draw = _drawer(scene, mine, metric, looks)
            text = "  ".join(filter(None, [title, name]))
            cells.append(Cell(draw, text, "" if apart else metric))
    return (cells, looks) if cells else None


def _drawer(
    scene: Scene, points: Sequence[PointCurves], metric: str, looks: Arrangement
) -> Callable[[Axes], object]:
    def draw(ax: Axes) -> None:
        draw_curve(ax, points, metric, looks.looks, scene.wish.band)
        if metric.startswith("margin/"):
            ax.axhline(0, color="0.2", lw=0.8)
            ax.set_ylabel("margin to the bound")
        if scene.wish.against is not None:
            _draw_other(ax, points, scene.wish.against, metric, looks)

    return draw


def _draw_other(
    ax: Axes,
    points: Sequence[PointCurves],
    other: SweepResults,
    metric: str,
    looks: Arrangement,
) -> None:
    """The curves of another sweep's points of the same name, in the same colours."""
    named = {point.name: point for point in other.points}
    for point in points:
        if point.name not in named:
            continue
        look, table = looks.looks[point.index], statistics_of(named[point.name].aggregates, metric)
        style = {"color": look.color, "marker": look.marker, "mfc": "white", "ls": "-.", "ms": 4.0}
        ax.plot(table.index, table["mean"], **style)  # type: ignore[arg-type]
        if named[point.name].seeds > 1:
            ends = table["ci_low"], table["ci_high"]
            ax.fill_between(table.index, *ends, color=look.color, alpha=0.1, lw=0, hatch="..")
    text = f"sweep {other.runs.name} ({other.runs.sweep})"
    ax.plot([], [], color="0.4", ls="-.", marker="o", mfc="white", ms=4, label=text)


def _curve_figure(scene: Scene, metric: str) -> Drawing | None:
    found = _curves(scene, metric)
    if found is None:
        return None
    cells, looks = found
    name = metric.replace("/", "--")
    if name in FIGURES or name == "captions":  # a user's own metric of that name
        name = f"metric-{name}"
    return Drawing(name, _caption(scene, [metric], looks), sheet(cells, scene.scale, looks))


def _curve(scene: Scene) -> Drawing | None:
    known = [*scene.measured]
    if scene.metric not in known:
        raise ConfigError("--metric", scene.metric, f"must be one of {', '.join(known)}")
    return _curve_figure(scene, scene.metric)


def _caption(scene: Scene, metrics: Sequence[str], looks: Arrangement) -> str:
    """What a figure of curves shows."""
    points = [point for point in scene.points if point.index in looks.looks]
    curve = "Median" if scene.wish.band == "quantiles" else "Mean"
    names = ", ".join(label(metric) for metric in metrics)
    parts = [f"{names[0].upper()}{names[1:]} over retraining iterations t."]
    measured = [point for point in points if point.seeds]
    if measured:
        parts.append(f"{curve} over {seed_count(points)}.")
    text = band_line(scene.wish.band, measured)
    if text:
        parts.append(f"Band: {text}.")
    crowd = max(Counter(look.panel for look in looks.looks.values()).values())
    found = [point.forecast for point in points if point.forecast is not None]
    if found and measured:
        parts.append("Dashed: forecast of a perfect learner with infinitely many samples.")
    if any(m in each.finite_n for m in metrics for each in found) and crowd <= FEW:
        parts.append("Hatched: where 95 % of single seeds of a perfect learner lie at these sizes.")
    elif found and crowd > FEW:
        parts.append("Bounds and finite-n bands are left out where a panel has many curves.")
    if looks.by_rank:
        parts.append("Colours number the points in their order.")
    return " ".join(parts)


def _overview(scene: Scene) -> Drawing | None:
    """The curves that tell the story, side by side; of many points, the main one by panels."""
    metrics = dict.fromkeys([scene.metric, "reward_mean", "exp_reward_mean"])
    if scene.results is None and not any(point.seeds for point in scene.points):
        metrics["reward_kl"] = None  # of a forecast, which has few other curves
    metrics["class_entropy"] = None
    found = [(m, curves) for m in metrics if (curves := _curves(scene, m)) is not None]
    small = [(m, curves) for m, curves in found if len(curves[0]) <= 4]
    if len(scene.points) > FEW:
        small = [(m, c) for m, c in small if not differs_in_kind(m)]
    chosen = small or found[:1]
    if not chosen:  # nothing changes, as where no sample is picked: then that is the news
        alone = _curves(scene, scene.metric, still=True)
        if alone is None:
            return None
        chosen = [(scene.metric, alone)]
    cells = [cell for _, (own, _) in chosen for cell in own]
    looks = chosen[0][1][1]
    widest = max(len(own) for _, (own, _) in chosen)
    columns = widest if len(chosen) > 1 and widest > 1 and len(scene.points) > FEW else 4
    figure = sheet(cells, scene.scale, looks, columns)
    return Drawing("overview", _caption(scene, [m for m, _ in chosen], looks), figure)


def _margins(scene: Scene) -> Drawing | None:
    """How far the points stay on the right side of each bound; below 0 it is violated."""
    cells: list[Cell] = []
    for metric in scene.measured:
        if metric.startswith("margin/"):
            title = BOUNDS[metric.removeprefix("margin/")].title
            found = _curves(scene, metric, title)
            if found is not None:
                cells += found[0]
    if not cells:
        return None
    looks = arrange(scene.points, scene.palette, apart=True)
    caption = (
        "How far each point stays on the right side of the theorems' bounds: below 0 a bound is "
        f"violated. Mean over {seed_count(scene.points)}."
    )
    return Drawing("margins", caption, sheet(cells, scene.scale, looks))


def _kept(scene: Scene) -> Drawing | None:
    points = scene.having("kept_reward_mean")
    if not points:
        return None
    looks = arrange(scene.points, scene.palette)

    def drawer(panel: int) -> Callable[[Axes], object]:
        mine = looks.members(points, panel)
        return lambda ax: draw_kept_against_pool(ax, mine, looks.looks, scene.wish.band)

    cells = [Cell(drawer(i), title, "reward") for i, title in enumerate(looks.panels)]
    caption = (
        "What pickers do: the mean reward of what was generated (dots) and of what was kept of it "
        f"(rings). Mean over {seed_count(points)}."
    )
    return Drawing("kept_against_pool", caption, sheet(cells, scene.scale, looks))


def _shares(scene: Scene) -> Drawing | None:
    points = [point for point in scene.points if class_metrics(point)]
    if not points:
        return None
    ended = [point for point in points if has_ended(point)]
    names, keys = _class_names(scene.config), varying(scene.points)
    if len(points) > MOST_SHARES:
        return _last_shares(scene, ended or points, names)
    columns = columns_for(len(points), 4)
    rows = math.ceil(len(points) / columns)
    size = (2.4 * columns + 1.3) * scene.scale, (2.2 * rows + 0.3) * scene.scale
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for ax, point in zip(axes, points, strict=False):
        draw_shares(ax, point, short_name(point, keys), names)
    for ax in axes[len(points) :]:
        ax.remove()
    axes[0].set_ylabel("share of the class")
    entries = {
        text: handle
        for ax in figure.axes
        for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    handles, texts = list(entries.values())[::-1], list(entries)[::-1]
    figure.legend(handles, texts, loc="outside right upper", title="class")
    caption = f"Shares of the classes, mean over {seed_count(points)}; dashed: forecast."
    return Drawing("class_shares", caption, figure)


def _last_shares(scene: Scene, points: Sequence[PointCurves], names: Mapping[int, str]) -> Drawing:
    """The last class shares of many points as one picture, a row each."""
    metrics = list(dict.fromkeys(metric for point in points for metric in class_metrics(point)))
    rows = [
        [float(_curve_of(point, m)[-1]) if _curve_of(point, m).size else np.nan for m in metrics]
        for point in points
    ]
    figure = Figure(figsize=(5 * scene.scale, (1.2 + 0.12 * len(points)) * scene.scale))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    ax.grid(False)
    shown = ax.imshow(np.array(rows), aspect="auto", cmap="viridis", vmin=0, vmax=1)
    numbers = [int(metric.split("/")[1]) for metric in metrics]
    ax.set_xticks(range(len(metrics)), [names.get(each, str(each)) for each in numbers])
    keys = varying(points)
    ax.set_yticks(range(len(points)), [short_name(p, keys) for p in points], fontsize=5.5)
    ax.set_xlabel("class")
    figure.colorbar(shown, ax=ax, label="share at the last iteration")
    caption = f"Shares of the classes at the last iteration, mean over {seed_count(points)}."
    return Drawing("class_shares", caption, figure)


def _class_names(config: SweepConfig | None) -> dict[int, str]:
    """What classes are called, the rewarded ones marked."""
    if config is None:
        return {}
    parts = {key.split(".")[0] for key in config.search.space}
    if parts & {"data", "classifier"}:  # every point has classes of its own
        return {}
    names = dict(enumerate(config.point.data.class_names()))
    if "reward" in parts:
        return names
    if any(".reward" in key for key in config.search.space):
        return names
    rewarded = []
    for reward in config.point.rewards:
        rewarded += list(reward.rewarded_classes)
        if isinstance(reward, ModeDistanceConfig):  # where modes are the classes
            rewarded += [i for i, name in names.items() if name == f"mode {reward.rewarded_mode}"]
    return names | {index: f"{names.get(index, index)} (rewarded)" for index in rewarded}


def _samples(scene: Scene) -> Drawing | None:
    if scene.results is None:
        return None
    found = {}
    for point in scene.points:
        samples = load_samples(scene.results.runs, point.index)
        if samples:
            found[point.index] = samples
        if len(found) == MOST_ROWS:
            break
    shown = [point for point in scene.points if point.index in found]
    if not shown:
        return None
    keys = varying(scene.points)
    names = {point.index: short_name(point, keys) for point in shown}
    row = 1.5 * row_height(found.values())
    size = (1.5 * 6 + 0.6) * scene.scale, (row * len(shown) + 0.5) * scene.scale
    figure = Figure(figsize=size, layout="constrained")
    draw_sample_grid(figure, shown, found, arrange(scene.points, scene.palette), names)
    caption = "Samples of the first seed at iterations t."
    if len(shown) < len(scene.points):
        caption += f" The first {len(shown)} of {len(scene.points)} points."
    return Drawing("samples", caption, figure)


def _response(scene: Scene) -> Drawing | None:
    having, metric = scene.having(scene.metric), scene.metric
    points = [point for point in having if has_ended(point)]
    keys, x = varying(points), scene.wish.x
    if metric not in scene.measured:
        raise ConfigError("--metric", metric, f"must be one of {', '.join(scene.measured)}")
    if x is not None and x not in keys:
        raise ConfigError(
            "--x", x, f"must be a key in which points differ: {', '.join(keys) or 'none'}"
        )
    if not keys or any(set(keys) - set(point.values) for point in points):
        return None
    wide = 3.3 * (2 if len(keys) > 1 and x is None else 1.4)
    tall = 3.0 if len(keys) < 3 or x is not None else 4.6
    figure = Figure(figsize=(wide * scene.scale, tall * scene.scale), layout="constrained")
    if x is not None:
        rest = [key for key in keys if key != x]
        draw_lines(figure.subplots(), points, metric, x, rest, scene.wish.band)
        shows = f"{label(metric)} at the last iteration, against {x}"
    else:
        shows = draw_response(figure, points, metric, keys, scene.wish.band)
    legend(figure, None, scene.scale)
    lines = len(keys) == 1 or x is not None
    band: Band = "ci" if scene.wish.band == "seeds" else scene.wish.band
    middle = "Median" if lines and band == "quantiles" else "Mean"
    caption = f"{shows[0].upper()}{shows[1:]}. {middle} over {seed_count(points)}"
    if lines and band_line(band, points):
        caption += f"; bars: {band_line(band, points)}"
    if len(points) < len(having):
        unfinished = len(having) - len(points)
        caption += f". {unfinished} of {len(having)} points did not run to their end: left out"
    return Drawing("response", caption + ".", figure)


FIGURES: dict[str, Callable[[Scene], Drawing | None]] = {
    "overview": _overview,
    "curve": _curve,
    "response": _response,
    "samples": _samples,
    "class_shares": _shares,
    "kept_against_pool": _kept,
    "margins": _margins,
}
"""By the names that `luceloop plot --figure` takes."""
WHY_NOT = {
    "overview": "none of its metrics ever changes",
    "curve": "the metric never changes",
    "response": "its points differ in no key",
    "samples": "it keeps none, or none that a page can show",
    "class_shares": "its data has no classes",
    "kept_against_pool": "it has not curated yet",
    "margins": "no bound applies to it",
}
"""Why a sweep may have no such figure."""
