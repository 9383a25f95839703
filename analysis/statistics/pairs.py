"""Pairs of points: which are compared, at which iteration, and the table that comes of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd

from luceloop.analysis.statistics.comparison import LEVEL, Difference, adjusted, compare
from luceloop.core.errors import ConfigError

At = Literal["last", "best"] | int
"""The iteration: each point's last, its best on average over seeds, or a number."""
COLUMNS = [
    "a",
    "b",
    "metric",
    "at",
    "paired",
    "difference",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
    "correlation",
    "seeds",
    "seeds_needed",
    "better",
]
"""Columns of a table of comparisons."""


MOST_PAIRS = 5000
"""The most comparisons of one table; each takes some milliseconds, and a line."""


@dataclass(frozen=True)
class Measured:
    """A metric of one point at one iteration."""

    name: str
    """The point's name."""
    iteration: int
    values: Mapping[int, float]
    """By seed."""


def measure(
    curves: pd.DataFrame, names: Mapping[int, str], metric: str, at: At, mode: str = "max"
) -> dict[int, Measured]:
    """A metric of every point that has it, by index.

    Args:
        curves: tidy rows of seeds.
        names: of the points, by index.
        metric: what is compared.
        at: at which iteration.
        mode: which mean over seeds is best, `max` or `min`.

    Raises:
        ConfigError: if no point has the metric, or not at that iteration.
    """
    rows = curves[curves["metric"] == metric]
    if rows.empty:
        known = ", ".join(sorted(curves["metric"].unique()))
        raise ConfigError("--metric", metric, f"must be one of {known}")
    found = {}
    for index, mine in rows.groupby("point"):
        iteration = _iteration(mine, at, mode)
        chosen = mine[mine["iteration"] == iteration]
        if chosen.empty:
            continue
        values = {int(s): float(v) for s, v in zip(chosen["seed"], chosen["value"], strict=True)}
        found[int(str(index))] = Measured(names[int(str(index))], iteration, values)
    if not found:
        reached = int(rows["iteration"].max())
        raise ConfigError("--at", at, f"must be last, best, or at most {reached}")
    return found


def _iteration(rows: pd.DataFrame, at: At, mode: str) -> int:
    if isinstance(at, int):
        return at
    if at == "last":
        return int(rows["iteration"].max())
    means = rows.groupby("iteration")["value"].mean()
    best = means.idxmax() if mode == "max" else means.idxmin()
    return int(str(best))


def compare_within(
    points: Mapping[int, Measured],
    metric: str,
    against: Sequence[int] | None = None,
    level: float = LEVEL,
) -> pd.DataFrame:
    """All pairs of a sweep's points, the later minus the earlier; or all minus chosen ones.

    Args:
        points: a metric of each.
        metric: its name.
        against: indices of the points that every other is compared with; all pairs if not given.
        level: of a single look at the sweep, as in `adjusted`.

    Returns:
        A row for each pair, with the columns `COLUMNS`.

    Raises:
        ConfigError: if there are more than `MOST_PAIRS`.
    """
    if against is None:
        pairs = [(later, earlier) for earlier, later in itertools.combinations(points, 2)]
    else:
        pairs = [(i, j) for j in against if j in points for i in points if i not in against]
    if len(pairs) > MOST_PAIRS:
        allowed = f"would make {len(pairs)} comparisons; compare with some points by --point"
        raise ConfigError("SWEEP", f"{len(points)} points", allowed)
    return _table([(points[i], points[j]) for i, j in pairs], metric, level)


def compare_across(
    first: Mapping[int, Measured],
    second: Mapping[int, Measured],
    metric: str,
    level: float = LEVEL,
) -> pd.DataFrame:
    """Points of one sweep minus those of another: of the same name, or all where no name is shared.

    Returns:
        A row for each pair, with the columns `COLUMNS`.
    """
    every = list(itertools.product(first.values(), second.values()))
    same = [(a, b) for a, b in every if a.name == b.name]
    return _table(same or every, metric, level)


def _table(pairs: Sequence[tuple[Measured, Measured]], metric: str, level: float) -> pd.DataFrame:
    found = adjusted([compare(a.values, b.values, level) for a, b in pairs], level)
    rows = [_row(a, b, metric, each) for (a, b), each in zip(pairs, found, strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(a: Measured, b: Measured, metric: str, found: Difference) -> dict[str, Any]:
    at = str(a.iteration) if a.iteration == b.iteration else f"{a.iteration}, {b.iteration}"
    return {"a": a.name, "b": b.name, "metric": metric, "at": at} | asdict(found)


def verdict(row: Mapping[str, Any]) -> str:
    """What a comparison shows at 5 %, all comparisons together, or what it would take."""
    needed = row["seeds_needed"]
    if math.isnan(row["p_holm"]):
        return "undecided: too few seeds, or no spread"
    if row["p_holm"] < 0.05:
        return "above" if row["difference"] > 0 else "below"
    if not math.isfinite(needed):
        return "undecided: no difference seen"
    more = max(0, int(needed) - int(row["seeds"]))
    plural = "" if more == 1 else "s"
    return f"undecided: about {more} seed{plural} more" if more else "undecided"
