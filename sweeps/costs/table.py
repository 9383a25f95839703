"""What points have cost, as a table and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.table import Table

from luceloop.sweeps.costs.recorded import PointCosts, total

COLUMNS = ("samples", "choices", "comparisons", "device-seconds")
COST_COLUMNS = ("samples", "choices", "comparisons", "device_seconds", "rows_taken")
"""Columns of `luceloop.load(...).points`."""


def cost_table(costs: Mapping[str, PointCosts]) -> Table:
    """What points have cost, by their names, and all of them together where there are several."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("cost")
    taken = any(each.taken.rows for each in costs.values())
    for column in (*COLUMNS, *(("rows taken from others",) if taken else ())):
        table.add_column(column, justify="right")
    rows = dict(costs)
    if len(rows) > 1:
        rows["all points"] = total(costs.values())
    for name, each in rows.items():
        own, last = each.computed, [count(each.taken.rows)] if taken else []
        spent = f"{own.device_seconds:,.1f}"
        counts = map(count, (own.samples, own.choices, own.comparisons))
        table.add_row(name, *counts, spent, *last)
    return table


def cost_cells(costs: PointCosts | None) -> dict[str, float | None]:
    """The values of `COST_COLUMNS`; all None where it is not known."""
    if costs is None:
        return dict.fromkeys(COST_COLUMNS)
    own = costs.computed
    values = (own.samples, own.choices, own.comparisons, own.device_seconds, costs.taken.rows)
    return dict(zip(COST_COLUMNS, values, strict=True))


def count(number: float) -> str:
    """A count as people write it: 1,200,000, or inf."""
    return "inf" if math.isinf(number) else f"{round(number):,}"
