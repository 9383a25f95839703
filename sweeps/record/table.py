"""The tidy table of a sweep from its ledger: what `luceloop export` writes, asking no store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from luceloop.analysis.reading.curves import read_param, spelled, tidy
from luceloop.analysis.statistics.looks import level_of
from luceloop.analysis.statistics.seeds import aggregate
from luceloop.core.config.naming import SYMBOLS
from luceloop.core.config.sweep import SweepConfig
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Point, recorded_config
from luceloop.sweeps.record.mending import read_ledger


def recorded_table(folder: SweepFolder) -> pd.DataFrame:
    """Every seed's rows, then the aggregates over seeds; equal to what MLflow has of the sweep.

    Args:
        folder: of the sweep.

    Raises:
        DamagedError: if its ledger is not as it was written.
    """
    config = folder.config()
    ledger = read_ledger(folder, config)
    further = [key for key in config.search.space if key not in SYMBOLS]
    rows = [
        row for point in ledger.points.values() for row in _rows(folder.id, config, further, point)
    ]
    curves = tidy(rows, further)
    if curves.empty:
        return curves
    suprema = {i: p.supremum for i, p in ledger.points.items() if p.supremum is not None}
    return pd.concat(
        [curves, aggregate(curves, suprema, level_of(config.seed_rule))], ignore_index=True
    )


def _rows(
    sweep: str, config: SweepConfig, further: list[str], point: Point
) -> Iterator[tuple[Any, ...]]:
    own = recorded_config(config, point)
    flat = own.flat()
    cells = (read_param(spelled(flat.get(key, ""))) for key in further)
    leading = (sweep, point.index, float(own.curation.beta), float(own.lam), own.k, *cells)
    for iteration, metrics in point.rows.items():
        for metric, values in metrics.items():
            for seed, value in zip(own.seeds, values, strict=True):
                yield (*leading, seed, iteration, metric, value)
    for iteration, metrics in point.batch_rows.items():
        for metric, values in metrics.items():
            for seed, value in zip(point.batch, values, strict=True):
                yield (*leading, seed, iteration, metric, value)
