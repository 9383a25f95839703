"""Tidy curves of a sweep, read from MLflow alone; any tracking store serves.

The table has one row per value: sweep, point, beta, lam, k, further searched keys, seed, iteration,
metric, value. Rows without a seed are aggregates over the point's seeds.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from luceloop.analysis.reading import labels
from luceloop.analysis.reading.store import SweepRuns, find_runs
from luceloop.analysis.statistics.seeds import aggregate
from luceloop.core.config.naming import SYMBOLS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LEADING = ["sweep", "point", "beta", "lam", "k"]
TRAILING = ["seed", "iteration", "metric", "value"]
READERS = 8
"""Histories read at once."""


def load_curves(runs: SweepRuns, metrics: Collection[str] | None = None) -> pd.DataFrame:
    """The seeds' rows of the tidy table.

    Args:
        runs: of the sweep.
        metrics: those that are read; all if not given.
    """
    searched = [key for key in runs.searched if key not in SYMBOLS]
    with ThreadPoolExecutor(READERS) as readers:
        found = readers.map(lambda run: _seed_rows(runs, run, searched, metrics), runs.seeds)
        rows = [row for per_seed in found for row in per_seed]
    return tidy(rows, searched)


def tidy(rows: Sequence[tuple[Any, ...]], searched: Sequence[str]) -> pd.DataFrame:
    """The tidy table of such rows; `searched` are the keys with columns of their own."""
    table = pd.DataFrame(rows, columns=[*LEADING, *searched, *TRAILING])
    table["seed"] = table["seed"].astype("Int64")
    if not any(isinstance(k, float) for k in table["k"]):
        table["k"] = table["k"].astype("Int64")
    else:
        table["k"] = table["k"].astype(float)
    order = ["point", "metric", "seed", "iteration"]  # rows without a seed come last
    return table.sort_values(order, ignore_index=True)


def load_table(tracking_uri: str, sweep: str) -> pd.DataFrame:
    """The whole tidy table: every seed's rows, then the aggregates over seeds."""
    runs = find_runs(tracking_uri, sweep)
    curves = load_curves(runs)
    if curves.empty:
        return curves
    return pd.concat([curves, aggregate(curves, runs.suprema, runs.level)], ignore_index=True)


def write_table(table: pd.DataFrame, file: Path) -> None:
    """Write CSV (full precision, empty seed for aggregates) or Parquet, by the file's ending."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        _of_one_kind(table).to_parquet(file, index=False)
    else:
        table.to_csv(file, index=False)


def _of_one_kind(table: pd.DataFrame) -> pd.DataFrame:
    """The table with columns that mix numbers and text as text, which Parquet cannot mix."""
    mixed = {
        name: column.map(str)
        for name, column in table.items()
        if column.dtype == object and column.map(type).nunique() > 1
    }
    return table.assign(**{str(name): column for name, column in mixed.items()})


def spelled(value: Any) -> str:
    """A value of a configuration as MLflow keeps it; a tuple as a list."""
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _seed_rows(
    runs: SweepRuns, run: Run, searched: Sequence[str], metrics: Collection[str] | None
) -> list[tuple[Any, ...]]:
    params, tags = run.data.params, run.data.tags
    if not run.data.metrics:  # its process may have died before it had its parameters
        return []
    point = int(tags[labels.POINT])
    leading = (
        runs.sweep,
        point,
        float(params[labels.BETA]),
        float(params[labels.LAM]),
        read_param(params[labels.K]),
        *(read_param(params.get(key, "")) for key in searched),
        int(tags[labels.SEED]),
    )
    return [
        (*leading, step, metric, value)
        for metric in run.data.metrics
        if metrics is None or metric in metrics
        for step, value in _curve(runs.client, run, metric).items()
    ]


def _curve(client: MlflowClient, run: Run, metric: str) -> dict[int, float]:
    """Values by step, one each; a store that appends may hold a row that was delivered twice."""
    return {row.step: row.value for row in client.get_metric_history(run.info.run_id, metric)}


def read_param(text: str) -> Any:
    """A parameter as MLflow keeps it, back to a number where it was one."""
    if text in ("inf", "nan"):
        return math.inf if text == "inf" else math.nan
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, int | float) else text
