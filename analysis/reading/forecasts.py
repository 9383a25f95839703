"""Forecasts of a sweep's points, for figures and tables beside the measured curves."""

from __future__ import annotations

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luceloop.analysis.reading import labels
from luceloop.analysis.reading.curves import spelled, tidy
from luceloop.analysis.reading.real_rewards import recorded_law
from luceloop.analysis.reading.store import SweepRuns
from luceloop.core.config.naming import SYMBOLS
from luceloop.core.config.parsing import at_point, parse_config
from luceloop.core.config.point import PointConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.io.places import Folder
from luceloop.core.io.plain import read_yaml
from luceloop.core.pool.rows import training_sizes
from luceloop.core.theory.finite_n import FiniteN
from luceloop.core.theory.forecast import Forecast, forecast
from luceloop.core.theory.real_law import real_law


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


def load_config(runs: SweepRuns) -> SweepConfig:
    """The sweep's configuration.

    Raises:
        ConfigError: if the store lacks it.
    """
    plain = read_yaml(load_config_text(runs), "SWEEP", runs.sweep, recorded=True)
    return parse_config(plain, recorded=True)


def load_configs(runs: SweepRuns) -> dict[int, PointConfig]:
    """Each point's configuration, by index.

    Raises:
        ConfigError: if the store lacks the sweep's configuration or its points' values.
    """
    return configs_of(runs, load_config(runs))


def configs_of(runs: SweepRuns, config: SweepConfig) -> dict[int, PointConfig]:
    """Each point's configuration, by index, where the sweep's is known.

    Raises:
        ConfigError: if the store lacks the points' values.
    """
    if any(labels.VALUES not in run.data.tags for run in runs.points.values()):
        allowed = "is of an older version, which did not keep the values of its points"
        raise ConfigError("SWEEP", runs.sweep, allowed)
    return {
        index: at_point(config, json.loads(run.data.tags[labels.VALUES]))
        for index, run in runs.points.items()
    }


def forecast_from(
    runs: SweepRuns,
    points: Mapping[int, PointConfig],
    cache: Folder | None = None,
    *,
    replicates: int = 0,
    limits: bool = False,
    most_draws: float = math.inf,
) -> dict[int, list[Forecast]]:
    """Forecasts that start from a sweep's measured p_0, one for each of its seeds, by index.

    A point of the sweep starts from its own pool, any other from the largest pool of the same p_0.

    Args:
        runs: the sweep whose p_0 it is.
        points: what is forecast; each needs a point of the sweep with the same data, learner of p_0
            and reward.
        cache: folder of trained classifiers, where rewards need one.
        replicates: of a perfect learner at finite n, shared among the seeds of a point.
        limits: as in `forecast`.
        most_draws: as in `forecast`, for all points and seeds together.

    Raises:
        ConfigError: if the sweep has none, or the rewards of its p_0 are not in the store.
    """
    measured = load_configs(runs)
    sources: dict[int, list[int]] = defaultdict(list)
    for index, point in points.items():
        source = index if measured.get(index) == point else _source(runs, measured, point)
        sources[source].append(index)
    found: dict[int, list[Forecast]] = {index: [] for index in points}
    for source, members in sources.items():
        chosen = [points[index] for index in members]
        recorded = recorded_law(runs, source, measured[source])
        real = recorded or real_law(measured[source], cache=cache)
        rewards = _initial_reward(runs, source)
        for number, reward in enumerate(rewards):
            of_seed = forecast(
                chosen,
                [real.starting_from(reward)] * len(chosen),
                replicates=math.ceil(replicates / len(rewards)),
                limits=limits,
                most_draws=most_draws * len(chosen) / (len(points) * len(rewards)),
                seed=number,
            )
            for index, each in zip(members, of_seed, strict=True):
                found[index].append(each)
    return found


def _source(runs: SweepRuns, measured: Mapping[int, PointConfig], point: PointConfig) -> int:
    """The point of the sweep with the largest pool of the p_0 that a point starts from."""
    starts = {index: _start(other) for index, other in measured.items()}
    same = [index for index, start in starts.items() if start == _start(point)]
    if not same:
        _refuse(runs, _start(point), next(iter(starts.values())))
    size = point.data.build().size
    pools = {index: training_sizes(measured[index], size).pool for index in same}
    with_rewards = (i for i in sorted(same, key=lambda i: -pools[i]) if _has_reward(runs, i))
    return next(with_rewards, same[0])


def _start(config: PointConfig) -> dict[str, Any]:
    """What the rewards of p_0 depend on, by dotted key, but for the size of the pool."""
    flat = config.flat()
    scored = ("data.", "classifier.", "reward.")
    parts = {key: value for key, value in flat.items() if key.startswith(scored)}
    if config.curation.users is not None:  # each may have a reward of its own
        parts = {key: value for key, value in parts.items() if not key.startswith("reward.")}
        parts |= {f"rewards.{i}": each.model_dump() for i, each in enumerate(config.rewards)}
    return parts | {f"learner.{key}": v for key, v in config.learner.initial_fit().items()}


def _refuse(runs: SweepRuns, wanted: Mapping[str, Any], there: Mapping[str, Any]) -> NoReturn:
    """Name the first setting that differs from the sweep's."""
    key = next(key for key in [*wanted, *there] if wanted.get(key) != there.get(key))
    allowed = f"must be {there.get(key)}, with which sweep {runs.sweep} made and scored its p_0"
    raise ConfigError(key, wanted.get(key), allowed)


def average(forecasts: Sequence[Forecast]) -> Forecast:
    """The mean of the forecasts of several seeds; of limits, those that every seed has.

    At finite n, single seeds scatter about it as those of all p_0 together.
    """
    if len(forecasts) == 1:
        return forecasts[0]
    parts: dict[str, dict[str, Any]] = {}
    for part in ("curves", "bounds", "limit"):
        each: list[dict[str, Any]] = [getattr(found, part) for found in forecasts]
        shared = [key for key in each[0] if all(key in other for other in each)]
        parts[part] = {key: np.mean([other[key] for other in each], 0) for key in shared}
    return Forecast(**parts, finite_n=_pooled(forecasts))


def _pooled(forecasts: Sequence[Forecast]) -> dict[str, FiniteN]:
    """How single seeds scatter, each from its own p_0; metrics that not every seed has left out."""
    shared = [key for key in forecasts[0].finite_n if all(key in f.finite_n for f in forecasts)]
    found = {key: FiniteN.pooled([f.finite_n[key] for f in forecasts]) for key in shared}
    return {key: pooled for key, pooled in found.items() if pooled is not None}


def forecast_table(
    sweep: str,
    searched: Sequence[str],
    points: Mapping[int, PointConfig],
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
        cells = (_cell(flat.get(key, "")) for key in further)  # a searched mapping has no cell
        leading = sweep, index, point.curation.beta, point.lam, point.k, *cells
        mean = average(forecasts[index])
        for metric, scattered in mean.finite_n.items():
            rows += [
                (*leading, pd.NA, t, f"finite_n/{metric}.{statistic}", value)
                for t, statistic, value in scattered.statistics()
            ]
        labelled: list[tuple[Any, Forecast]] = [(pd.NA, mean)]
        labelled += zip(seeds, forecasts[index], strict=False)
        for seed, found in labelled:
            rows += [(*leading, seed, *value) for value in found.values()]
    return tidy(rows, further)


def _cell(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else spelled(value)


def _initial_reward(runs: SweepRuns, index: int) -> list[NDArray[np.float64]]:
    """The rewards of p_0's pool, for each seed of a point."""
    run = runs.points[index].info.run_id
    if not _has_reward(runs, index):
        raise ConfigError("SWEEP", runs.sweep, "has no rewards of p_0 in MLflow")
    with tempfile.TemporaryDirectory() as folder:
        file = runs.client.download_artifacts(run, f"{labels.INITIAL}/reward.npz", folder)
        with np.load(file, allow_pickle=False) as content:
            rewards = content["reward"].astype(np.float64)
    if rewards.ndim > 2:  # several rewards of each sample
        return [row[~np.isnan(row).any(1)] for row in rewards]
    return [row[~np.isnan(row)] for row in rewards]


def _has_reward(runs: SweepRuns, index: int) -> bool:
    return bool(runs.client.list_artifacts(runs.points[index].info.run_id, labels.INITIAL))
