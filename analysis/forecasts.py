"""Forecasts of a sweep's points, for figures and tables beside the measured curves."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from analysis.curves import SweepRuns, parameter, tidy
from core.config import Config
from core.errors import ConfigError
from core.forecast import Forecast, forecast
from core.law import real_law
from core.parsing import at_point, parse_config
from sweeps.naming import SYMBOLS


def load_config_text(runs: SweepRuns) -> str:
    """The sweep's configuration file.

    Raises:
        ConfigError: if the store lacks it.
    """
    if runs.run is None:
        raise ConfigError("SWEEP", runs.sweep, "has no configuration in MLflow")
    with tempfile.TemporaryDirectory() as folder:
        file = runs.client.download_artifacts(runs.run.info.run_id, "config.yaml", folder)
        return Path(file).read_text()


def load_configs(runs: SweepRuns) -> dict[int, Config]:
    """Each point's configuration, by index.

    Raises:
        ConfigError: if the store lacks the sweep's configuration.
    """
    config = parse_config(yaml.safe_load(load_config_text(runs)))
    return {
        index: at_point(config, {key: parameter(run.data.params[key]) for key in runs.searched})
        for index, run in runs.points.items()
    }


def forecast_from(runs: SweepRuns, points: Mapping[int, Config]) -> dict[int, list[Forecast]]:
    """Forecasts that start from a sweep's measured p_0, one for each of its seeds, by index.

    Args:
        runs: the sweep whose p_0 it is.
        points: what is forecast; each needs a point of the sweep with the same data, learner of p_0
            and reward.

    Raises:
        ConfigError: if the sweep has none, or the rewards of its p_0 are not in the store.
    """
    measured = load_configs(runs)
    found = {}
    for index, point in points.items():
        same = [i for i, other in measured.items() if _start_alike(point, other)]
        if not same:
            allowed = "must have the data, the learner and the reward that are forecast"
            raise ConfigError("SWEEP", runs.sweep, allowed)
        source = index if index in same else same[0]
        laws = [real_law(point).starting_from(row) for row in _initial_reward(runs, source)]
        found[index] = [forecast([point], [law])[0] for law in laws]
    return found


def average(forecasts: Sequence[Forecast]) -> Forecast:
    """The mean of the forecasts of several seeds."""
    first = forecasts[0]

    def mean(pick: str) -> dict[str, Any]:
        return {
            key: np.mean([getattr(f, pick)[key] for f in forecasts], 0)
            for key in getattr(first, pick)
        }

    return first if len(forecasts) == 1 else Forecast(mean("curves"), mean("bounds"), mean("limit"))


def forecast_table(
    sweep: str,
    searched: Sequence[str],
    points: Mapping[int, Config],
    forecasts: Mapping[int, Sequence[Forecast]],
    seeds: Sequence[int],
) -> pd.DataFrame:
    """The tidy table of forecasts, with the columns of `luceloop export`.

    Args:
        sweep: the column `sweep`.
        searched: dotted keys that vary.
        points: by index.
        forecasts: of each point, one, or one for each of `seeds`, whose mean comes last.
        seeds: whose p_0 the forecasts start from; none where it is p_ref.
    """
    further = [key for key in searched if key not in SYMBOLS]
    rows = []
    for index, point in points.items():
        flat = point.flat()
        leading = sweep, index, point.beta, point.lam, point.k, *(_cell(flat[k]) for k in further)
        labelled: list[tuple[Any, Forecast]] = [(pd.NA, average(forecasts[index]))]
        labelled += zip(seeds, forecasts[index], strict=False)
        for seed, found in labelled:
            rows += [(*leading, seed, *value) for value in found.values()]
    return tidy(rows, further)


def _cell(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else str(value)


def _start_alike(point: Config, other: Config) -> bool:
    same = point.data == other.data and point.reward == other.reward
    return same and point.learner.initial_fit() == other.learner.initial_fit()


def _initial_reward(runs: SweepRuns, index: int) -> list[NDArray[np.float64]]:
    """The rewards of p_0's pool, for each seed of a point."""
    run = runs.points[index].info.run_id
    if not runs.client.list_artifacts(run, "initial"):
        raise ConfigError("SWEEP", runs.sweep, "has no rewards of p_0 in MLflow")
    with tempfile.TemporaryDirectory() as folder:
        file = runs.client.download_artifacts(run, "initial/reward.npz", folder)
        with np.load(file, allow_pickle=False) as content:
            rewards = content["reward"].astype(np.float64)
    return [row[~np.isnan(row)] for row in rewards]
