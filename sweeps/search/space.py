"""The points of a sweep: grids, and Optuna's samplers asked in an order that timing cannot change.

A sampler that learns from results would suggest other points on a faster machine. Here suggestion
i is asked when points 0 to i - concurrency have ended, and is told exactly their results, in order.
So a search is a function of its configuration, and an interrupted one is replayed from the ledger.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any, Protocol

import optuna

from luceloop.core.config.parsing import at_point
from luceloop.core.config.point import PointConfig
from luceloop.core.config.search import MOST_POINTS, Dimension, SearchConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.fields import check_limits
from luceloop.core.pickers.opinions import COLLECTIVE
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.search import objective


def learns_from(search: SearchConfig, index: int) -> range:
    """The points whose results may influence point `index`, its values or its stopping."""
    return range(max(0, index + 1 - search.concurrency) if search.learns else 0)


class Suggestions(Protocol):
    """The points of a sweep, by index."""

    total: int

    def get(self, index: int) -> dict[str, Any]:
        """Searched keys and values of point `index`. Called for 0, 1, 2, ... in order."""
        ...


class Grid:
    """Every combination of the listed values, the last key varying fastest."""

    def __init__(self, search: SearchConfig) -> None:
        listed = [dimension.values or [] for dimension in search.space.values()]
        self._points = [
            dict(zip(search.space, values, strict=True)) for values in itertools.product(*listed)
        ]
        self.total = len(self._points)

    def get(self, index: int) -> dict[str, Any]:
        """Point `index`; a grid never waits."""
        return self._points[index]


class OptunaSuggestions:
    """Points from an Optuna sampler, for one objective or several."""

    def __init__(self, search: SearchConfig, ledger: Ledger | None) -> None:
        """Begin a study; only samplers that learn from results need a ledger."""
        assert search.trials is not None
        self.total = search.trials
        self._search, self._ledger = search, ledger
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(
            directions=["maximize" if o.mode == "max" else "minimize" for o in search.objective],
            sampler=_sampler(search),
        )
        self._asked: list[optuna.Trial] = []
        self._told = 0

    def get(self, index: int) -> dict[str, Any]:
        """Point `index`, suggested from the results of those that `learns_from` names."""
        for earlier in learns_from(self._search, index):
            if self._ledger is not None and earlier >= self._told:
                self._tell(self._asked[earlier], self._ledger.points[earlier])
                self._told = earlier + 1
        assert index == len(self._asked), "suggestions are taken in order"
        trial = self._study.ask()
        self._asked.append(trial)
        return {key: _suggest(trial, key, d) for key, d in self._search.space.items()}

    def _tell(self, trial: optuna.Trial, point: Point) -> None:
        measured = objective.is_measured(self._search.objective, point)
        if point.status in ("failed", "lost") or not measured:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif point.status == "stopped":
            [single] = self._search.objective
            for iteration, row in sorted(point.rows.items()):
                if single.metric not in row:
                    continue
                value = objective.at_iteration(single, row, point.supremum)
                trial.report(value, iteration)
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(trial, [objective.of_point(o, point) for o in self._search.objective])


def _sampler(search: SearchConfig) -> optuna.samplers.BaseSampler:
    match search.sampler:
        case "random":
            return optuna.samplers.RandomSampler(seed=search.seed)
        case "tpe":
            return optuna.samplers.TPESampler(seed=search.seed)
        case "gp":
            return optuna.samplers.GPSampler(seed=search.seed)
        case "qmc":
            with warnings.catch_warnings():  # experimental since Optuna 3.0, and unchanged
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.samplers.QMCSampler(
                    seed=search.seed, scramble=True, warn_independent_sampling=False
                )
    raise AssertionError(search.sampler)


def _suggest(trial: optuna.Trial, key: str, dimension: Dimension) -> Any:
    if dimension.values is not None:
        # Optuna's categories are plain scalars; positions serve for values of every kind.
        return dimension.values[trial.suggest_categorical(key, list(range(len(dimension.values))))]
    low, high = dimension.bounds
    if dimension.integers is not None:
        return trial.suggest_int(key, int(low), int(high))
    return trial.suggest_float(key, low, high, log=dimension.loguniform is not None)


def build_suggestions(search: SearchConfig, ledger: Ledger) -> Suggestions:
    """The points that a search describes; without a space, the configuration alone."""
    if search.sampler == "grid":
        return Grid(search)
    return OptunaSuggestions(search, ledger)


def check_space(config: SweepConfig) -> list[PointConfig]:
    """Configurations that a new sweep can reach, as `reached_points`.

    Raises:
        ConfigError: if any of them is invalid, or asks for more than it may.
    """
    check_repeats(config.search)
    check_limits(config.search, "search.")
    reached = reached_points(config)
    for point in reached:
        check_limits(point)
    return reached


def reached_points(config: SweepConfig) -> list[PointConfig]:
    """Configurations that a sweep can reach: all points of a grid, else the ends of the ranges.

    Raises:
        ConfigError: if any of them is invalid.
    """
    search = config.search
    if config.point_count > MOST_POINTS:
        raise ConfigError("search", config.point_count, f"must be at most {MOST_POINTS} points")
    if search.sampler == "grid":
        grid = Grid(search)
        return [at_point(config, grid.get(index)) for index in range(grid.total)]
    ends = {key: dimension.values or dimension.bounds for key, dimension in search.space.items()}
    middle = {key: values[0] for key, values in ends.items()}
    reached = [at_point(config, middle)]
    for key, values in ends.items():
        reached += [at_point(config, middle | {key: value}) for value in values[1:]]
    return reached


def check_repeats(search: SearchConfig) -> None:
    """Refuse a listed value that stands there twice: two points would be one, and favoured.

    Raises:
        ConfigError: naming the value.
    """
    for key, dimension in search.space.items():
        seen: set[Any] = set()
        for value in dimension.values or []:
            number = _as_number(value)
            if number in seen:
                raise ConfigError(f"search.{key}", value, "is listed twice; a point runs once")
            seen.add(number)


def _as_number(value: Any) -> Any:
    """What different spellings of a value have in common: 1, 1.0 and `1e0`, or .inf and `inf`."""
    if isinstance(value, list | tuple):
        return tuple(map(_as_number, value))
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return repr(value)
    try:
        return float(value.replace(".inf", "inf")) if isinstance(value, str) else value
    except ValueError:
        return value


def check_objectives(config: SweepConfig, single_seed: bool) -> None:
    """Refuse objectives that no trial could have.

    Raises:
        ConfigError: naming the objective's key.
    """
    for wanted in config.search.objective:
        if single_seed and wanted.over_seeds in ("std", "ci_low", "ci_high"):
            raise ConfigError(
                "search.objective.over_seeds",
                wanted.over_seeds,
                "needs at least two seeds",
            )
        if _searches_beta(config.search) and _depends_on_beta(wanted.metric):
            raise ConfigError(
                "search.objective.metric",
                wanted.metric,
                "is another quantity for every beta, which is searched; reward_mean is not",
            )
        if isinstance(wanted.at, int) and wanted.at > config.point.iterations:
            raise ConfigError(
                "search.objective.at",
                wanted.at,
                f"must be at most iterations={config.point.iterations}",
            )


def _depends_on_beta(metric: str) -> bool:
    """Whether a metric is in units of e^{βr*}: points with different β cannot be compared by it."""
    return metric.startswith(("exp_reward_", "margin/", COLLECTIVE))


def _searches_beta(search: SearchConfig) -> bool:
    """Whether points differ in any user's β."""
    parts = [key.split(".") for key in search.space]
    return any(each[0] == "curation" and each[-1] == "beta" for each in parts)


def planned_points(config: SweepConfig) -> list[PointConfig]:
    """The points that a sweep will run, without running any.

    Where results decide on points, which cannot be known: the ends of the ranges.
    """
    search = config.search
    if search.sampler == "grid" or search.learns_values:
        return reached_points(config)
    suggestions = OptunaSuggestions(search, ledger=None)
    return [at_point(config, suggestions.get(index)) for index in range(suggestions.total)]
