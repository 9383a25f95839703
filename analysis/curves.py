"""Tidy curves of a sweep, read from MLflow alone; any tracking store serves.

The table has one row per value: sweep, point, beta, lam, k, further searched keys, seed, iteration,
metric, value. Rows without a seed are aggregates over the point's seeds.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from luceloop.analysis.statistics import aggregate
from luceloop.core.errors import ConfigError, without_password
from luceloop.sweeps.experiment import connect
from luceloop.sweeps.naming import SYMBOLS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

LEADING = ["sweep", "point", "beta", "lam", "k"]
TRAILING = ["seed", "iteration", "metric", "value"]
READERS = 8
"""Histories read at once."""


@dataclass(frozen=True)
class SweepRuns:
    """The runs of one sweep in a tracking store."""

    client: MlflowClient
    sweep: str
    name: str
    """The sweep's name."""
    description: str
    """What is swept."""
    run: Run | None
    """Of the configuration and other files; None if the sweep died before it was there."""
    points: dict[int, Run]
    """By index."""
    seeds: list[Run]

    @property
    def searched(self) -> list[str]:
        """Dotted keys that the sweep varies."""
        tags = next(iter(self.points.values())).data.tags
        return list(json.loads(tags["luceloop.searched"]))


def find_runs(tracking_uri: str, sweep: str) -> SweepRuns:
    """The runs of the sweep with this id.

    Raises:
        ConfigError: if the store does not answer or has no such sweep.
    """
    shown = without_password(tracking_uri)
    try:
        client = connect(tracking_uri)
        experiments = _experiments(client, sweep)
        runs = [run for experiment in experiments for run in _all_runs(client, experiment)]
    except Exception as error:  # stores raise what they like: HTTP, SQL, files
        reason = without_password(str(error).splitlines()[0] if str(error) else repr(error))
        raise ConfigError("MLFLOW_TRACKING_URI", shown, f"no answer: {reason}") from error
    points, seeds, whole = {}, [], None
    for run in runs:
        match run.data.tags.get("luceloop.kind"):
            case "sweep":
                whole = run
            case "point":
                points[int(run.data.tags["luceloop.point"])] = run
            case "seed":
                seeds.append(run)
    if not points:
        raise ConfigError("SWEEP", sweep, f"has no runs in MLflow at {shown}")
    return SweepRuns(
        client=client,
        sweep=sweep,
        name=experiments[0].name.rpartition("/")[0],
        description=experiments[0].tags.get("mlflow.note.content", ""),
        run=whole,
        points=dict(sorted(points.items())),
        seeds=seeds,
    )


def _experiments(client: MlflowClient, sweep: str) -> list[Experiment]:
    escaped = sweep.replace("'", "")
    return list(client.search_experiments(filter_string=f"name LIKE '%/{escaped}'"))


def _all_runs(client: MlflowClient, experiment: Experiment) -> list[Run]:
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def load_curves(runs: SweepRuns) -> pd.DataFrame:
    """The seeds' rows of the tidy table."""
    searched = [key for key in runs.searched if key not in SYMBOLS]
    with ThreadPoolExecutor(READERS) as readers:
        found = readers.map(lambda run: _seed_rows(runs, run, searched), runs.seeds)
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
    curves = load_curves(find_runs(tracking_uri, sweep))
    if curves.empty:
        return curves
    return pd.concat([curves, aggregate(curves)], ignore_index=True)


def write_table(table: pd.DataFrame, file: Path) -> None:
    """Write CSV (full precision, empty seed for aggregates) or Parquet, by the file's ending."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        table.to_parquet(file, index=False)
    else:
        table.to_csv(file, index=False)


def _seed_rows(runs: SweepRuns, run: Run, searched: Sequence[str]) -> list[tuple[Any, ...]]:
    params, tags = run.data.params, run.data.tags
    point = int(tags["luceloop.point"])
    leading = (
        runs.sweep,
        point,
        float(params["curation.beta"]),
        float(params["lam"]),
        _number(params["curation.k"]),
        *(_number(params.get(key, "")) for key in searched),
        int(tags["luceloop.seed"]),
    )
    return [
        (*leading, step, metric, value)
        for metric in run.data.metrics
        for step, value in _curve(runs.client, run, metric).items()
    ]


def _curve(client: MlflowClient, run: Run, metric: str) -> dict[int, float]:
    """Values by step, one each; a store that appends may hold a row that was delivered twice."""
    return {row.step: row.value for row in client.get_metric_history(run.info.run_id, metric)}


def _number(text: str) -> Any:
    """A parameter as MLflow keeps it, back to a number where it was one."""
    if text in ("inf", "nan"):
        return math.inf if text == "inf" else math.nan
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, int | float) else text
