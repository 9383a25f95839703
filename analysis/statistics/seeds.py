"""Statistics over the seeds of a point: the one place where a spread or an interval is defined.

Axes: S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import t as student_t

from luceloop.core.measures.ranges import count_classes, metric_range

LEVEL = 0.95
"""Coverage of the confidence intervals."""
QUARTILES = {"q25": 0.25, "median": 0.5, "q75": 0.75}
"""Quantiles over seeds that are on record, NumPy's linear ones."""

Array = NDArray[np.float64]


def over_seeds(
    values: ArrayLike,
    low: ArrayLike = -math.inf,
    high: ArrayLike = math.inf,
    level: float = LEVEL,
) -> dict[str, Array]:
    """Mean, spread, quartiles and interval over the last axis.

    Args:
        values: `(..., S)`, one per seed.
        low: least value that there can be, one or `(...)`.
        high: largest value that there can be, one or `(...)`.
        level: of the interval; above 0.95 where seeds are added until enough is known, such that it
            covers 95 % then (`looks.level_of`).

    Returns:
        `mean`, `std` (ddof=1), `median`, `q25`, `q75`, `ci_low`, `ci_high` (see `interval`) and
        `n`, each `(...)`. With one seed there is no spread: `mean` and `n` only.
    """
    values = np.asarray(values, dtype=np.float64)
    count = values.shape[-1]
    mean = values.mean(-1)
    found = {"mean": mean, "n": np.full(mean.shape, float(count))}
    if count > 1:
        std = values.std(-1, ddof=1)
        quartiles = np.quantile(values, list(QUARTILES.values()), axis=-1)
        found |= {"std": std} | dict(zip(QUARTILES, quartiles, strict=True))
        found["ci_low"], found["ci_high"] = interval(mean, std, count, low, high, level)
    return found


def interval(
    mean: ArrayLike,
    std: ArrayLike,
    count: int,
    low: ArrayLike = -math.inf,
    high: ArrayLike = math.inf,
    level: float = LEVEL,
) -> tuple[Array, Array]:
    """Student's interval of a mean, on a scale on which the metric has no ends.

    The scale is the metric's own where it has no range, the logarithm of the distance from the one
    end that it has, or the logit between two. There the mean's standard error is that of the metric
    by the scale's slope (the delta method). Ends of such an interval lie within the range, and it
    covers better than Student's where seeds are skewed; docs/statistics.md has the figures. Of two
    seeds of a metric with one end it is Student's own, cut off at that end.

    Args:
        mean: over seeds `(...)`.
        std: over seeds, ddof=1 `(...)`.
        count: seeds, S, at least two.
        low: least value that there can be.
        high: largest value that there can be.
        level: its nominal coverage.
    """
    mean, std, low, high = np.broadcast_arrays(
        *(np.asarray(each, dtype=np.float64) for each in (mean, std, low, high))
    )
    half = student_t.ppf((1 + level) / 2, count - 1) * std / math.sqrt(count)
    with np.errstate(all="ignore"):  # of scales that are not the metric's
        above, below = mean - low, high - mean
        logit_mean, logit_half = logit(above / (high - low)), half * (high - low) / (above * below)
        scales = {
            "both": [low + (high - low) * expit(logit_mean + s * logit_half) for s in (-1, 1)],
            "low": [low + above * np.exp(s * half / above) for s in (-1, 1)],
            "high": [high - below * np.exp(s * half / below) for s in (1, -1)],
            "none": [mean - half, mean + half],
        }
    has_low, has_high = np.isfinite(low), np.isfinite(high)
    inside = (~has_low | (above > 0)) & (~has_high | (below > 0))  # else rounding, or no spread
    one_end = inside & (count > 2)  # of two seeds it would reach thousands of times too far
    which = [
        inside & has_low & has_high,
        one_end & has_low & ~has_high,
        one_end & has_high & ~has_low,
    ]
    ends = [
        np.select(which, [scales[name][end] for name in ("both", "low", "high")], plain)
        for end, plain in enumerate(scales["none"])
    ]
    return ends[0].clip(low, high), ends[1].clip(low, high)


def aggregate(
    curves: pd.DataFrame,
    suprema: Mapping[int, float | None] | None = None,
    level: float = LEVEL,
) -> pd.DataFrame:
    """Rows `<metric>.<statistic>` of every point, metric and iteration, with an empty seed.

    Args:
        curves: tidy rows of seeds, any number of seeds per point.
        suprema: r* of each point, by index, where it is known.
        level: of intervals, as in `over_seeds`.

    Returns:
        Rows with the columns of `curves`; statistics as `over_seeds` defines them.
    """
    keys = [name for name in curves.columns if name not in ("seed", "value")]
    pieces = []
    wide = curves.set_index([*keys, "seed"])["value"].unstack("seed")
    _, which = np.unique(wide.notna().to_numpy(), axis=0, return_inverse=True)
    names = curves.groupby("point")["metric"].unique()
    n_classes = {int(str(point)): count_classes(own) for point, own in names.items()}
    for _, rows in wide.groupby(which.ravel()):  # rows that have the same seeds
        values = rows.dropna(axis=1).to_numpy(dtype=np.float64)
        low, high = _ranges(rows.index.to_frame(index=False), n_classes, suprema or {})
        for statistic, numbers in over_seeds(values, low, high, level).items():
            piece = rows.index.to_frame(index=False)
            piece["metric"] = piece["metric"] + f".{statistic}"
            piece["value"] = numbers
            pieces.append(piece)
    table = pd.concat(pieces, ignore_index=True)
    table["seed"] = pd.array([pd.NA] * len(table), dtype="Int64")
    order = ["point", "metric", "iteration"]
    return table.sort_values(order, ignore_index=True)[list(curves.columns)]


def _ranges(
    rows: pd.DataFrame, n_classes: Mapping[int, int], suprema: Mapping[int, float | None]
) -> tuple[Array, Array]:
    """The ends of each row's metric, whose classes and supremum are those of its point."""
    known: dict[Any, tuple[float, float]] = {}
    pairs = list(zip(rows["metric"], rows["point"], strict=True))
    for metric, point in set(pairs):
        known[metric, point] = metric_range(metric, n_classes[int(point)], suprema.get(int(point)))
    ends = np.array([known[pair] for pair in pairs], dtype=np.float64)
    return ends[:, 0], ends[:, 1]


STATISTICS = ["mean", "std", "ci_low", "ci_high", "median", "q25", "q75", "n"]
"""What `band` has columns of."""


def band(aggregates: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One metric's aggregates by iteration: a column for each of `STATISTICS`.

    With a single seed the interval is the value itself.
    """
    wanted = [f"{metric}.{statistic}" for statistic in STATISTICS]
    chosen = aggregates[aggregates["metric"].isin(wanted)]
    table = chosen.assign(statistic=chosen["metric"].str.rsplit(".", n=1).str[-1])
    table = table.pivot(index="iteration", columns="statistic", values="value")
    table = table.reindex(columns=STATISTICS)
    for bound in ("ci_low", "ci_high"):
        table[bound] = table[bound].fillna(table["mean"])
    return table
