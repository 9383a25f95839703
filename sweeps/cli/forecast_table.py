"""What `luceloop forecast` prints: each point's curve, where it leads, and its bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from luceloop.core.theory.bounds import BOUNDS
from luceloop.core.theory.forecast import Forecast

MOST_COLUMNS = 7
"""Iterations shown of a curve."""


def curve_table(names: Mapping[int, str], forecasts: Mapping[int, Forecast]) -> Table:
    """The mean reward over iterations, a row a point, and its limit where that is known."""
    table = _table("mean reward at")
    longest = max(len(found.curves["reward_mean"]) for found in forecasts.values())
    shown = _spaced(longest - 1)
    for t in shown:
        table.add_column(f"t={t}", justify="right")
    table.add_column("t→∞", justify="right")
    for index, found in forecasts.items():
        curve, end = found.curves["reward_mean"], found.limit.get("reward_mean")
        cells = [f"{curve[t]:.4g}" if t < len(curve) else "" for t in shown]
        table.add_row(names[index], *cells, "" if end is None else f"{end:.4g}")
    return table


def bound_table(names: Mapping[int, str], forecasts: Mapping[int, Forecast]) -> Table | None:
    """The bounds on the last iteration beside what they bound; None if no point has any."""
    bounded = [name for name in BOUNDS if any(name in f.bounds for f in forecasts.values())]
    if not bounded:
        return None
    table = _table("at the last iteration")
    metrics = list(dict.fromkeys(BOUNDS[name].metric for name in bounded))
    for metric in metrics:
        table.add_column(metric, justify="right")
        for name in bounded:
            if BOUNDS[name].metric == metric:
                sign = "≥" if BOUNDS[name].side == "lower" else "≤"
                table.add_column(f"{sign} {BOUNDS[name].title}", justify="right")
    for index, found in forecasts.items():
        cells = []
        for metric in metrics:
            cells.append(f"{found.curves[metric][-1]:.4g}" if metric in found.curves else "")
            mine = [name for name in bounded if BOUNDS[name].metric == metric]
            cells += [f"{found.bounds[n][-1]:.4g}" if n in found.bounds else "" for n in mine]
        table.add_row(names[index], *cells)
    return table


def _table(first: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first)
    return table


def _spaced(last: int) -> Sequence[int]:
    """Some iterations from 0 to `last`, both included, closer together at the start."""
    if last < MOST_COLUMNS:
        return range(last + 1)
    spaced = np.geomspace(1, last, MOST_COLUMNS - 1).round().astype(int)
    return sorted({0, *(int(t) for t in spaced)})
