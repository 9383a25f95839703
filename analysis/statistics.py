"""Statistics over seeds of tidy curves: numbers in, numbers out; figures draw them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from luceloop.core.statistics import over_seeds


def aggregate(curves: pd.DataFrame) -> pd.DataFrame:
    """Rows `<metric>.<statistic>` of every point, metric and iteration, with an empty seed.

    Args:
        curves: tidy rows of seeds, any number of seeds per point.

    Returns:
        Rows with the columns of `curves`; statistics as `core.statistics.over_seeds` defines them.
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
