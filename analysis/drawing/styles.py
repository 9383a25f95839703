"""How the points of a sweep look in a figure: a colour, a marker and a panel, no two alike.

Up to eight points have a colour and a marker of their own. In a larger sweep the colour stands for
one searched key, the panel for others, and the marker for a third one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from luceloop.analysis.drawing.colors import (
    BETA,
    COLORS,
    Palette,
    Scale,
    color,
    identity,
    is_number,
    ordered,
    perceptual,
)
from luceloop.analysis.reading.results import PointCurves
from luceloop.core.config.naming import SYMBOLS, number

MARKERS = "os^Dv<>P"
KEY_COLOR = "0.4"
"""Of legend entries that explain a marker alone."""
MOST_PANELS = 12
"""Panels of one metric; more values than this share panels, by ranges."""
PER_PANEL = 16
"""Points of a panel, about, where a searched range is cut into panels of as many points each."""
MOST_ENTRIES = 10
"""Legend entries of a key; more are a colour bar."""


@dataclass(frozen=True)
class Look:
    """How one point looks."""

    color: str
    marker: str
    panel: int
    """Position of its panel."""


@dataclass(frozen=True)
class Arrangement:
    """How the points of a figure look, and what its legend says of that."""

    looks: Mapping[int, Look]
    """By the point's index."""
    panels: tuple[str, ...]
    """Titles, in order; one that is empty where there is one panel."""
    entries: tuple[tuple[str, str, str], ...]
    """Label, colour and marker of the legend's entries."""
    bar: Scale | None = None
    """The key that a colour bar explains, where entries would be too many."""
    by_rank: bool = False
    """Whether colours number the points, because their values alone could not tell them apart."""

    def members(self, points: Sequence[PointCurves], panel: int) -> list[PointCurves]:
        """The points of a panel."""
        return [point for point in points if self.looks[point.index].panel == panel]


def spell(key: str, value: Any) -> str:
    """A searched key and its value as figures write them, like `λ=∞`."""
    return f"{SYMBOLS.get(key, key)}={spell_value(value)}"


def spell_value(value: Any) -> str:
    """A value as figures write it."""
    if is_number(value) and math.isinf(value):
        return "∞" if value > 0 else "-∞"
    text = number(value) if not isinstance(value, dict) else str(value.get("name", value))
    return text if len(text) <= 40 else text[:39] + "…"


def varying(points: Sequence[PointCurves]) -> list[str]:
    """The searched keys in which points differ, in the order of the search.

    Of a searched mapping those of its parts that tell its values apart: its name, if that does.
    """
    keys = dict.fromkeys(key for point in points for key in point.values)
    differing = [key for key in keys if _count(points, key) > 1]
    mappings = [
        key for key in differing if any(isinstance(p.values.get(key), dict) for p in points)
    ]
    for whole in mappings:
        parts = [key for key in differing if key.startswith(f"{whole}.")]
        name = f"{whole}.name"
        enough = name in parts and _count(points, name) == _count(points, whole)
        dropped = {whole, *(part for part in parts if enough and part != name)}
        differing = [key for key in differing if key not in dropped]
    return differing


def _is_mapping(points: Sequence[PointCurves], key: str) -> bool:
    return any(isinstance(point.values.get(key), dict) for point in points)


def short_name(point: PointCurves, keys: Sequence[str]) -> str:
    """A point's name without what all points share."""
    if not keys:
        return point.name.replace("=inf", "=∞")
    return " ".join(spell(key, point.values.get(key)) for key in keys)


def arrange(points: Sequence[PointCurves], palette: Palette, *, apart: bool = False) -> Arrangement:
    """Give every point a look.

    Args:
        points: of the figure.
        palette: colours of the sweep.
        apart: whether points of different β must not share a panel, because their metric is
            another quantity for each.
    """
    keys = varying(points)
    colors = {p.index: palette.color(p.index, p.values) for p in points}
    scale = palette.scale
    if scale is not None and scale.key not in keys:  # of a part of a sweep
        scale = _other_scale(points, keys)
        colors = {p.index: _color(scale, p, rank) for rank, p in enumerate(points)}
    if scale is None:
        groups = _grouped(points, [BETA] if apart and BETA in keys else [])
        markers = {p.index: MARKERS[p.index % len(MARKERS)] for p in points}
        entries = [(short_name(p, keys), colors[p.index], markers[p.index]) for p in points]
        return _checked(points, colors, markers, groups, entries, None)
    others = [key for key in keys if key != scale.key]
    rest = sorted(others, key=lambda key: (key != BETA, -_count(points, key)))
    marked = rest.pop() if len(rest) > 1 and _count(points, rest[-1]) <= len(MARKERS) else None
    if apart and scale.key == BETA:
        rest = [BETA, *rest]
    markers, entries = dict.fromkeys(colors, MARKERS[0]), []
    present = [p.values[scale.key] for p in points]
    levels = ordered(present)
    bar = scale if len(levels) > MOST_ENTRIES else None
    if bar is None:
        first = {identity(p.values[scale.key]): colors[p.index] for p in points}
        entries += [(spell(scale.key, each), first[identity(each)], "") for each in levels]
    if marked is not None:
        kinds = [identity(each) for each in ordered([p.values.get(marked) for p in points])]
        markers = {p.index: MARKERS[kinds.index(identity(p.values.get(marked)))] for p in points}
        by_name = {identity(p.values.get(marked)): p.values.get(marked) for p in points}
        entries += [(spell(marked, by_name[k]), KEY_COLOR, MARKERS[i]) for i, k in enumerate(kinds)]
    return _checked(points, colors, markers, _grouped(points, rest), entries, bar)


def _checked(
    points: Sequence[PointCurves],
    colors: Mapping[int, str],
    markers: Mapping[int, str],
    groups: Mapping[int, str],
    entries: Sequence[tuple[str, str, str]],
    bar: Scale | None,
) -> Arrangement:
    """The arrangement; points that would look alike are coloured by their number instead."""
    panels = tuple(dict.fromkeys(groups.values()))
    places = {point.index: panels.index(groups[point.index]) for point in points}
    if not any(marker for _, _, marker in entries):  # else markers have a meaning
        markers = _told_apart(points, colors, places)
    seen = Counter((colors[i], markers[i], places[i]) for i in colors)
    by_rank = any(count > 1 for count in seen.values())
    if by_rank:
        last = max(len(points) - 1, 1)
        colors = {point.index: perceptual(rank / last) for rank, point in enumerate(points)}
        bar = Scale("point", tuple(point.index for point in points))
        entries = [entry for entry in entries if entry[1] == KEY_COLOR]
    looks = {i: Look(colors[i], markers[i], places[i]) for i in colors}
    return Arrangement(looks, panels, tuple(entries), bar, by_rank)


def _told_apart(
    points: Sequence[PointCurves], colors: Mapping[int, str], places: Mapping[int, int]
) -> dict[int, str]:
    """A marker for each point; those of the same colour and panel get different ones."""
    seen: Counter[tuple[str, int]] = Counter()
    found = {}
    for point in points:
        here = colors[point.index], places[point.index]
        found[point.index] = MARKERS[seen[here] % len(MARKERS)]
        seen[here] += 1
    return found


def _other_scale(points: Sequence[PointCurves], keys: Sequence[str]) -> Scale | None:
    """Of the key that takes most values; none where points are few enough to name."""
    if len(points) <= len(COLORS) or not keys:
        return None
    others = [key for key in keys if key != BETA] or list(keys)
    key = max(others, key=lambda k: _count(points, k))
    return Scale(key, ordered([point.values.get(key) for point in points]))


def _color(scale: Scale | None, point: PointCurves, rank: int) -> str:
    return color(rank) if scale is None else perceptual(scale.position(point.values[scale.key]))


def _count(points: Sequence[PointCurves], key: str) -> int:
    return len({identity(point.values.get(key)) for point in points})


def _grouped(points: Sequence[PointCurves], keys: Sequence[str]) -> dict[int, str]:
    """The title of each point's panel, panels in the order of their values."""
    titles: dict[int, list[str]] = {point.index: [] for point in points}
    for key in keys:
        most = MOST_PANELS if len(keys) == 1 else MOST_PANELS // 2
        for index, title in _split(points, key, most).items():
            titles[index].append(title)
    found = {index: "  ".join(parts) for index, parts in titles.items()}
    if len(set(found.values())) <= MOST_PANELS:
        order = sorted(points, key=lambda p: [_rank(p.values.get(key)) for key in keys])
        return {point.index: found[point.index] for point in order}
    size = math.ceil(len(points) / MOST_PANELS)
    chunks = [points[first : first + size] for first in range(0, len(points), size)]
    return {
        p.index: f"points {chunk[0].index} to {chunk[-1].index}" for chunk in chunks for p in chunk
    }


def _rank(value: Any) -> tuple[bool, float, str]:
    return (False, float(value), "") if is_number(value) else (True, 0.0, identity(value))


def _split(points: Sequence[PointCurves], key: str, most: int) -> dict[int, str]:
    """A title for each point by its value of a key, or by the range that its value is in."""
    values = {point.index: point.values.get(key) for point in points}
    levels = ordered(list(values.values()))
    if len(levels) <= most or not all(is_number(level) for level in levels):
        return {index: spell(key, value) for index, value in values.items()}
    finite = np.array(list(values.values()), dtype=np.float64)
    bins = min(max(math.ceil(len(points) / PER_PANEL), 2), most)
    edges = np.quantile(finite, np.linspace(0, 1, bins + 1), method="nearest")
    which = np.searchsorted(edges[1:-1], finite, side="right")
    symbol = SYMBOLS.get(key, key)
    titles = [
        f"{spell_value(float(low))} ≤ {symbol} {'≤' if i == bins - 1 else '<'} "
        f"{spell_value(float(high))}"
        for i, (low, high) in enumerate(pairwise(edges))
    ]
    return {index: titles[bin_] for index, bin_ in zip(values, which, strict=True)}
