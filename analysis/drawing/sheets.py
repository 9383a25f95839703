"""A sheet: panels of one or several metrics with one legend, in the size of a paper or a slide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from luceloop.analysis.drawing.colors import Scale, perceptual
from luceloop.analysis.drawing.styles import KEY_COLOR, Arrangement, spell_value
from luceloop.core.config.naming import SYMBOLS

Size = Literal["paper", "slide"]
"""What a figure is for: 9 pt letters and a panel of 3.3 inches, or both 1.6 times as large."""

STYLE: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.dpi": 150,
    "font.size": 9,
}
WIDTH, HEIGHT = 3.3, 2.9
"""Inches of a panel on paper."""
SLIDE = 1.6
MOST_COLUMNS = 4


@dataclass(frozen=True)
class Drawing:
    """A figure, what it is called and what it shows."""

    name: str
    """Of its files."""
    caption: str
    """Whole sentences, which also say what was left out."""
    figure: Figure

    def save(self, folder: Path) -> list[Path]:
        """Write a PNG and a PDF, and return their paths."""
        FigureCanvasAgg(self.figure)
        files = [folder / f"{self.name}{suffix}" for suffix in (".png", ".pdf")]
        for file in files:
            self.figure.savefig(file)
            self.figure.set_layout_engine("none")  # laid out once, for both files
        return files


@contextmanager
def style(size: Size) -> Iterator[float]:
    """Matplotlib's settings for figures of a size; yields how much larger than on paper."""
    scale = SLIDE if size == "slide" else 1.0
    larger = {"font.size": 9 * scale, "lines.linewidth": 1.5 * scale}
    with rc_context(cast(Any, STYLE | larger)):
        yield scale


@dataclass(frozen=True)
class Cell:
    """One panel of a sheet."""

    draw: Callable[[Axes], object]
    title: str = ""
    shares: str = ""
    """Panels of the same name share their vertical axis; none if empty."""


def sheet(
    cells: Sequence[Cell], scale: float, looks: Arrangement, most_columns: int = MOST_COLUMNS
) -> Figure:
    """Panels in rows, and beneath them one legend that says what lines, colours and bands are.

    Args:
        cells: the panels.
        scale: how much larger than on paper.
        looks: of the points, for the legend.
        most_columns: panels side by side.
    """
    columns = columns_for(len(cells), most_columns)
    rows = math.ceil(len(cells) / columns)
    width = (WIDTH if columns < 4 else 2.6) * columns + (1.3 if columns == 1 else 0)
    height = (HEIGHT if rows < 3 else 2.3) * rows + 0.6
    figure = Figure(figsize=(width * scale, height * scale), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax, cell in zip(axes, cells, strict=False):
        cell.draw(ax)
        if cell.title:
            ax.set_title(cell.title, fontsize="medium")
    for ax in axes[len(cells) :]:
        ax.remove()
    _share([(ax, cell.shares) for ax, cell in zip(axes, cells, strict=False)])
    legend(figure, looks, scale)
    return figure


def columns_for(panels: int, most: int) -> int:
    """How many panels stand side by side, so that the last row is as full as can be."""
    if panels <= most:
        return panels
    return min(range(most, 1, -1), key=lambda columns: math.ceil(panels / columns) * columns)


def _share(panels: Sequence[tuple[Axes, str]]) -> None:
    """Give panels of one name the same vertical limits."""
    by_name: dict[str, list[Axes]] = {}
    for ax, name in panels:
        if name:
            by_name.setdefault(name, []).append(ax)
    for axes in by_name.values():
        lows, highs = zip(*(ax.get_ylim() for ax in axes), strict=True)
        for ax in axes:
            ax.set_ylim(min(lows), max(highs))


def legend(figure: Figure, looks: Arrangement | None, scale: float) -> None:
    """One legend beneath: points or keys that are drawn, then lines and bands, each once."""
    entries: dict[str, Any] = {}
    drawn = _drawn(figure)
    colors, markers = {color for color, _ in drawn}, {marker for _, marker in drawn}
    for label, color, marker in () if looks is None else looks.entries:
        alone = color == KEY_COLOR  # a marker that stands for a value, whatever the colour
        if (marker if alone else color) not in (markers if alone else colors):
            continue
        shape = marker if alone or (color, marker) in drawn else ""
        entries[label] = Line2D([], [], color=color, marker=shape or "none", ms=4, lw=1.6 * scale)
        if alone:
            entries[label].set_linestyle("none")
    for ax in figure.axes:
        handles, labels = ax.get_legend_handles_labels()
        entries |= {k: v for k, v in zip(labels, handles, strict=True) if k not in entries}
    if entries:
        width = figure.get_figwidth() / scale
        longest = max(len(label) for label in entries)
        columns = max(1, min(len(entries), int(width / (0.35 + 0.062 * longest)), 4))
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="outside lower center",
            ncols=columns,
            fontsize="small",
        )
    if looks is not None and looks.bar is not None:
        _color_bar(figure, looks.bar)


def _drawn(figure: Figure) -> set[tuple[str, str]]:
    """Colours and markers of the lines that have points."""
    lines = [line for ax in figure.axes for line in ax.lines if np.size(line.get_xdata())]
    return {(str(line.get_color()), str(line.get_marker())) for line in lines}


def _color_bar(figure: Figure, scale: Scale) -> None:
    """What colours stand for, where values are too many to list."""
    stops = [perceptual(i / 32) for i in range(33)]
    shades = LinearSegmentedColormap.from_list("points", stops)
    symbol = SYMBOLS.get(scale.key, scale.key)
    if scale.levels is None:
        norm: Normalize = (
            LogNorm(scale.low, scale.high) if scale.is_log else Normalize(scale.low, scale.high)
        )
        figure.colorbar(ScalarMappable(norm, shades), ax=figure.axes, label=symbol, shrink=0.8)
        return
    last = len(scale.levels) - 1
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, last), shades), ax=figure.axes, label=symbol, shrink=0.8
    )
    step = math.ceil(len(scale.levels) / 10)
    places = list(range(0, last + 1, step))
    bar.set_ticks(places, labels=[spell_value(scale.levels[i]) for i in places])
