"""Response figures: where points end up, as a function of the keys that the sweep varies.

One key: the final metric with its interval. Two: a heat map of means beside one of standard
deviations. More: parallel coordinates, and how much each key matters by Optuna's estimate.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from luceloop.analysis.drawing.colors import color, identity, is_number, ordered, perceptual
from luceloop.analysis.drawing.panels import ENDS
from luceloop.analysis.drawing.styles import MARKERS, spell, spell_value
from luceloop.analysis.drawing.wording import FORECAST_LINE, Band, label
from luceloop.analysis.reading.results import PointCurves
from luceloop.analysis.statistics.seeds import band as statistics_of
from luceloop.core.config.naming import SYMBOLS

MOST_LISTED = 12
"""Values of a key that have places of their own; more, if they are numbers, lie by size."""
MOST_NUMBERS = 100
"""Cells of a heat map up to which each shows its number."""
MAP = "viridis"

Array = NDArray[np.float64]


def endings(points: Sequence[PointCurves], metric: str) -> pd.DataFrame:
    """A metric at the last iteration of each point that ran to its end, its statistics in a row."""
    rows = {}
    for point in points:
        if not has_ended(point):
            continue
        table = statistics_of(point.aggregates, metric)
        if not table.empty:
            expected = math.nan
            curve = None if point.forecast is None else point.forecast.curves.get(metric)
            if curve is not None and table.index[-1] < len(curve):
                expected = float(curve[table.index[-1]])
            rows[point.index] = table.iloc[-1].to_dict() | {"forecast": expected}
    return pd.DataFrame.from_dict(rows, orient="index")


def has_ended(point: PointCurves) -> bool:
    """Whether a point has its last iteration; one that failed or was stopped early has not."""
    if point.length is None or point.aggregates.empty:
        return True
    return int(point.aggregates["iteration"].max()) >= point.length


def draw_response(
    figure: Figure, points: Sequence[PointCurves], metric: str, keys: Sequence[str], band: Band
) -> str:
    """Draw where points end up, as suits the number of keys.

    Args:
        figure: an empty one.
        points: what is drawn.
        metric: its name.
        keys: in which points differ.
        band: what intervals show.

    Returns:
        What the figure shows, for its caption.
    """
    table = endings(points, metric)
    shown = [point for point in points if point.index in table.index]
    if len(keys) == 1:
        draw_lines(figure.subplots(), points, metric, keys[0], [], band)
        return f"{label(metric)} at the last iteration, against {keys[0]}"
    if len(keys) == 2:
        axes = figure.subplots(1, 2)
        for ax, column, title in zip(
            axes, ("mean", "std"), (label(metric), "standard deviation over seeds"), strict=True
        ):
            draw_plane(ax, shown, table[column], keys)
            ax.set_title(title, fontsize="medium")
        return f"{label(metric)} at the last iteration: mean over seeds, and standard deviation"
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1 + 0.12 * len(keys)])
    draw_parallel(upper, shown, table["mean"], metric, keys)
    draw_importances(lower, shown, table["mean"], keys)
    return (
        f"{label(metric)} at the last iteration, a line per point in parallel coordinates; "
        "beneath, how much of its variation each key accounts for (Optuna's fANOVA)"
    )


def _draw_line(
    ax: Axes,
    points: Sequence[PointCurves],
    table: pd.DataFrame,
    places: Mapping[str, float],
    key: str,
    band: Band,
    **style: Any,
) -> None:
    """The final metric of some points with its interval; dashed, the forecast."""
    chosen = sorted(points, key=lambda point: places[identity(point.values[key])])
    at = [places[identity(point.values[key])] for point in chosen]
    rows = table.loc[[point.index for point in chosen]]
    middle = rows["median"].fillna(rows["mean"]) if band == "quantiles" else rows["mean"]
    if band == "std":
        low, high = rows["std"], rows["std"]
    else:
        ends = ENDS["quantiles" if band == "quantiles" else "ci"]
        low, high = middle - rows[ends[0]], rows[ends[1]] - middle
    spread = np.nan_to_num(np.array([low, high], dtype=np.float64)).clip(0)
    ax.errorbar(at, middle, spread, ms=4, lw=1.2, capsize=2.5, **style)
    if rows["forecast"].notna().any():
        ax.plot(at, rows["forecast"], ls="--", lw=1, color=style["color"], zorder=1.9)


def _explain_forecast(ax: Axes, table: pd.DataFrame) -> None:
    """A legend entry for the dashed lines, where there are any."""
    if table["forecast"].notna().any():
        ax.plot([], [], color="0.4", ls="--", lw=1, label=FORECAST_LINE)


def _places(ax: Axes, points: Sequence[PointCurves], key: str, axis: str) -> dict[str, float]:
    """Where each value of a key lies on an axis, whose ticks are set."""
    levels = ordered([point.values[key] for point in points])
    numbers = [float(x) for x in levels if is_number(x) and math.isfinite(x)]
    set_label = ax.set_xlabel if axis == "x" else ax.set_ylabel
    set_label(SYMBOLS.get(key, key))
    if len(levels) <= MOST_LISTED or len(numbers) < len(levels):
        places = {identity(level): float(i) for i, level in enumerate(levels)}
        texts = [spell_value(level) for level in levels]
        set_ticks = ax.set_xticks if axis == "x" else ax.set_yticks
        step = math.ceil(len(texts) / (2 * MOST_LISTED))
        set_ticks(list(places.values())[::step], texts[::step])
        return places
    if numbers[0] > 0 and numbers[-1] / numbers[0] > 50:
        (ax.set_xscale if axis == "x" else ax.set_yscale)("log")
    return {identity(level): float(level) for level in levels}


def draw_plane(
    ax: Axes, points: Sequence[PointCurves], values: pd.Series[float], keys: Sequence[str]
) -> Axes:
    """A number for every point in the plane of two keys: cells of a grid, or dots.

    Args:
        ax: where.
        points: what is drawn.
        values: by the point's index.
        keys: of the horizontal and the vertical axis.
    """
    across, up = (_places(ax, points, k, axis) for k, axis in zip(keys, "xy", strict=True))
    at = np.array(
        [[across[identity(p.values[keys[0]])], up[identity(p.values[keys[1]])]] for p in points]
    )
    shown = values.loc[[point.index for point in points]].to_numpy(dtype=np.float64)
    finite = shown[np.isfinite(shown)]
    norm = Normalize(*(finite.min(), finite.max()) if len(finite) else (0, 1))
    ax.grid(False)
    if len(across) * len(up) > 1.5 * len(points):  # no grid: dots
        drawn: Any = ax.scatter(at[:, 0], at[:, 1], c=shown, cmap=MAP, norm=norm, s=22, lw=0)
    else:
        cells = np.full((len(up), len(across)), np.nan)
        order = [list(each.values()) for each in (across, up)]
        for (x, y), value in zip(at, shown, strict=True):
            cells[order[1].index(y), order[0].index(x)] = value
        drawn = ax.pcolormesh(_edges(order[0]), _edges(order[1]), cells, cmap=MAP, norm=norm)
        for (x, y), value in zip(at, shown, strict=True):
            if len(points) <= MOST_NUMBERS and np.isfinite(value):
                tint = "w" if float(norm(float(value))) < 0.6 else "k"
                ax.text(x, y, f"{value:.2g}", ha="center", va="center", fontsize=6, color=tint)
    figure: Any = ax.figure
    figure.colorbar(drawn, ax=ax, shrink=0.9)
    return ax


def _edges(centres: Sequence[float]) -> Array:
    """The borders of cells about sorted centres."""
    middle = np.asarray(centres, dtype=np.float64)
    if len(middle) == 1:
        return np.array([middle[0] - 0.5, middle[0] + 0.5])
    between = (middle[1:] + middle[:-1]) / 2
    first, last = 2 * middle[0] - between[0], 2 * middle[-1] - between[-1]
    return np.concatenate([[first], between, [last]])


def draw_parallel(
    ax: Axes,
    points: Sequence[PointCurves],
    values: pd.Series[float],
    metric: str,
    keys: Sequence[str],
) -> Axes:
    """A line per point through the values of its keys, coloured by where it ends up."""
    low, high = float(values.min()), float(values.max())
    norm = Normalize(low, high if high > low else low + 1)
    shading = ScalarMappable(norm, MAP)
    heights: list[dict[str, float]] = []
    for key in keys:
        levels = ordered([point.values[key] for point in points])
        numbers = all(is_number(level) and math.isfinite(level) for level in levels)
        if numbers and len(levels) > MOST_LISTED:
            first, span = float(levels[0]), float(levels[-1]) - float(levels[0])
            heights.append({identity(x): (float(x) - first) / span for x in levels})
        else:
            last = max(len(levels) - 1, 1)
            heights.append({identity(x): i / last for i, x in enumerate(levels)})
        ends = {0: levels[0], len(levels) - 1: levels[-1]}
        if len(levels) <= MOST_LISTED:
            ends = dict(enumerate(levels))
        for level in ends.values():
            text = f" {spell_value(level)}"
            style: dict[str, Any] = {"fc": "white", "ec": "none", "alpha": 0.7, "pad": 0.5}
            height = heights[-1][identity(level)]
            ax.text(len(heights) - 1, height, text, fontsize=7, va="center", bbox=style)
    for point in sorted(points, key=lambda p: values[p.index]):
        ys = [h[identity(point.values[key])] for h, key in zip(heights, keys, strict=True)]
        end = np.asarray(values[point.index], dtype=np.float64)
        ys.append(float(norm(end)))
        ax.plot(range(len(ys)), ys, color=shading.to_rgba(end), lw=1, alpha=0.8)
    names = [*(SYMBOLS.get(key, key.rpartition(".")[2]) for key in keys), label(metric)]
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks([])
    figure: Any = ax.figure
    figure.colorbar(shading, ax=ax, label=label(metric))
    return ax


def importances(
    points: Sequence[PointCurves], values: pd.Series[float], keys: Sequence[str]
) -> dict[str, float]:
    """The part of a metric's variation that each key accounts for, summing to 1.

    Optuna's fANOVA (Hutter, Hoos and Leyton-Brown 2014) over all points, most important first;
    nothing where all points end equal.
    """
    ends = values.loc[[point.index for point in points]].to_numpy(dtype=np.float64)
    if len(ends) < 2 or not np.isfinite(ends).all() or np.ptp(ends) == 0:
        return {}
    import optuna  # a second, that only searches of many keys need

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    spaces: dict[str, Any] = {}
    levels = {key: ordered([point.values[key] for point in points]) for key in keys}
    for key in keys:
        numbers = all(is_number(x) and math.isfinite(x) for x in levels[key])
        if numbers:
            low, high = float(levels[key][0]), float(levels[key][-1])
            spaces[key] = optuna.distributions.FloatDistribution(low, high)
        else:
            spaces[key] = optuna.distributions.CategoricalDistribution(range(len(levels[key])))
    for point in points:
        params: dict[str, Any] = {}
        for key in keys:
            value = point.values[key]
            if isinstance(spaces[key], optuna.distributions.CategoricalDistribution):
                value = [identity(x) for x in levels[key]].index(identity(value))
            params[key] = value
        value = float(values[point.index])
        study.add_trial(optuna.create_trial(params=params, distributions=spaces, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: float(value) for key, value in found.items()}


def draw_importances(
    ax: Axes, points: Sequence[PointCurves], values: pd.Series[float], keys: Sequence[str]
) -> Axes:
    """A bar per key: the part of the variation that it accounts for."""
    found = importances(points, values, keys)
    if not found:
        ax.set_axis_off()
        ax.text(0.5, 0.5, "all points end equal: no key matters", ha="center", va="center")
        return ax
    names = [SYMBOLS.get(key, key) for key in found][::-1]
    ax.barh(names, list(found.values())[::-1], color="0.5")
    ax.set_xlim(0, 1)
    ax.set_xlabel("importance")
    return ax


def draw_lines(
    ax: Axes, points: Sequence[PointCurves], metric: str, key: str, rest: Sequence[str], band: Band
) -> Axes:
    """The final metric against one key, a line for each combination of the other keys.

    Args:
        ax: where.
        points: what is drawn.
        metric: its name.
        key: on the horizontal axis.
        rest: the other keys in which points differ.
        band: what intervals show.
    """
    table = endings(points, metric)
    shown = [point for point in points if point.index in table.index]
    lines: dict[tuple[str, ...], list[PointCurves]] = {}
    places = _places(ax, shown, key, axis="x")
    order = sorted(shown, key=lambda p: [_sortable(p.values.get(k)) for k in rest])
    for point in order:
        lines.setdefault(tuple(identity(point.values.get(k)) for k in rest), []).append(point)
    for number, mine in enumerate(lines.values()):
        few = len(lines) <= len(MARKERS)
        tint = color(number) if few else perceptual(number / (len(lines) - 1))
        name = " ".join(spell(k, mine[0].values.get(k)) for k in rest) or None
        style = {"color": tint, "marker": MARKERS[number % len(MARKERS)], "label": name}
        _draw_line(ax, mine, table, places, key, band, **style)
    _explain_forecast(ax, table)
    ax.set_ylabel(label(metric))
    return ax


def _sortable(value: Any) -> tuple[bool, float, str]:
    return (False, float(value), "") if is_number(value) else (True, 0.0, identity(value))
