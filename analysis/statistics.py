"""Statistics over the seeds of a point: the one place where a spread or an interval is defined."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student_t

LEVEL = 0.95
"""Coverage of the confidence intervals."""


def gap(values: NDArray[np.float64], expected: float) -> float | None:
    """How far the mean of `values` `(S,)` is from `expected`, in standard errors of the mean.

    None where the seeds have no spread, or there is only one.
    """
    if np.ptp(values) == 0:
        return None
    found = over_seeds(values)
    error = float(found["std"]) / np.sqrt(len(values)) if "std" in found else 0.0
    return float(found["mean"] - expected) / error if error else None


def over_seeds(values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Mean, spread and interval over the last axis.

    Args:
        values: `(..., S)`, one per seed.

    Returns:
        `mean`, `std` (ddof=1), `ci_low`, `ci_high` (Student's t interval of the mean) and `n`, each
        `(...)`. With one seed there is no spread: `mean` and `n` only.
    """
    values = np.asarray(values, dtype=np.float64)
    count = values.shape[-1]
    mean = values.mean(-1)
    found = {"mean": mean, "n": np.full(mean.shape, float(count))}
    if count > 1:
        std = values.std(-1, ddof=1)
        half = student_t.ppf((1 + LEVEL) / 2, count - 1) * std / np.sqrt(count)
        found |= {"std": std, "ci_low": mean - half, "ci_high": mean + half}
    return found


def aggregate(curves: pd.DataFrame) -> pd.DataFrame:
    """Rows `<metric>.<statistic>` of every point, metric and iteration, with an empty seed.

    Args:
        curves: tidy rows of seeds, any number of seeds per point.

    Returns:
        Rows with the columns of `curves`; statistics as `over_seeds` defines them.
    """
    keys = [name for name in curves.columns if name not in ("seed", "value")]
    pieces = []
    wide = curves.set_index([*keys, "seed"])["value"].unstack("seed")
    present = wide.notna()
    for _, rows in wide.groupby(present.apply(tuple, axis=1)):
        values = rows.dropna(axis=1).to_numpy(dtype=np.float64)
        for statistic, numbers in over_seeds(values).items():
            piece = rows.index.to_frame(index=False)
            piece["metric"] = piece["metric"] + f".{statistic}"
            piece["value"] = numbers
            pieces.append(piece)
    table = pd.concat(pieces, ignore_index=True)
    table["seed"] = pd.array([pd.NA] * len(table), dtype="Int64")
    order = ["point", "metric", "iteration"]
    return table.sort_values(order, ignore_index=True)[list(curves.columns)]


def band(aggregates: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One metric's aggregates by iteration: columns mean, std, ci_low, ci_high, n.

    With a single seed the interval is the value itself.
    """
    chosen = aggregates[aggregates["metric"].str.startswith(f"{metric}.")]
    table = chosen.assign(statistic=chosen["metric"].str.rsplit(".", n=1).str[-1])
    table = table.pivot(index="iteration", columns="statistic", values="value")
    table = table.reindex(columns=["mean", "std", "ci_low", "ci_high", "n"])
    for bound in ("ci_low", "ci_high"):
        table[bound] = table[bound].fillna(table["mean"])
    return table
