"""Choosing points: grids, and Optuna's samplers asked in an order that timing cannot change.

A sampler that learns from results would suggest other points on a faster machine. Here suggestion
i is asked when points 0 to i - concurrency have ended, and is told exactly their results, in order;
early stopping compares with the same points. So a search is a function of its configuration, and an
interrupted one is replayed from the ledger.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import optuna
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from core.config import Config
from core.errors import ConfigError
from core.parsing import at_point
from core.search_config import Dimension, SearchConfig
from sweeps import objective
from sweeps.ledger import Ledger, Point


def learns_from(search: SearchConfig, index: int) -> range:
    """The points whose results may influence point `index`, its values or its stopping."""
    return range(max(0, index + 1 - search.concurrency) if search.learns else 0)


def falls_behind(search: SearchConfig, ledger: Ledger, point: Point, iteration: int) -> str:
    """Why a point should stop after `iteration`, by `search.early_stop`; empty if it should not.

    The quantile stopping rule (the median rule of Golovin et al. 2017 at 0.5) on the objective over
    seeds, against earlier points only, so that it does not depend on which trial was faster.
    """
    rule, first = search.early_stop, search.objective[0]
    if rule is None or iteration < rule.after or first.metric not in point.rows[iteration]:
        return ""
    sign = 1 if first.mode == "max" else -1
    rivals = [
        sign * objective.at_iteration(first, ledger.points[index].rows[iteration])
        for index in learns_from(search, point.index)
        if first.metric in ledger.points[index].rows.get(iteration, {})
    ]
    if len(rivals) < rule.min_trials:
        return ""
    value = objective.at_iteration(first, point.rows[iteration])
    bar = float(np.quantile(rivals, rule.quantile))
    if sign * value >= bar:
        return ""
    return (
        f"{first.metric} {value:.4g} at iteration {iteration} is behind {sign * bar:.4g}, "
        f"the {rule.quantile:g} quantile of {len(rivals)} earlier points"
    )


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

    def __init__(self, search: SearchConfig, ledger: Ledger) -> None:
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
            if earlier >= self._told:
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
                trial.report(objective.at_iteration(single, row), iteration)
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


def check_space(config: Config) -> list[Config]:
    """Configurations that a sweep can reach: all points of a grid, else the ends of the ranges.

    Raises:
        ConfigError: if any of them is invalid.
    """
    search = config.search
    if search.sampler == "grid":
        grid = Grid(search)
        return [at_point(config, grid.get(index)) for index in range(grid.total)]
    ends = {key: dimension.values or dimension.bounds for key, dimension in search.space.items()}
    middle = {key: values[0] for key, values in ends.items()}
    reached = [at_point(config, middle)]
    for key, values in ends.items():
        reached += [at_point(config, middle | {key: value}) for value in values[1:]]
    return reached


def check_objectives(config: Config, single_seed: bool) -> None:
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
        if isinstance(wanted.at, int) and wanted.at > config.iterations:
            raise ConfigError(
                "search.objective.at",
                wanted.at,
                f"must be at most iterations={config.iterations}",
            )


class PointSearcher(Searcher):
    """Hands Tune the points that are not on record as ended, in order.

    Args:
        search: what is searched.
        ledger: what is on record, written as points begin.
        assign: makes a trial's configuration of its point.
        length: the last iteration of a point, T.
    """

    def __init__(
        self,
        search: SearchConfig,
        ledger: Ledger,
        assign: Callable[[Point], Mapping[str, Any]],
        length: Callable[[Point], int],
    ) -> None:
        super().__init__()
        self._search, self._ledger = search, ledger
        self._assign, self._length = assign, length
        self._suggestions = build_suggestions(search, ledger)
        self._index = 0

    def set_search_properties(
        self,
        metric: str | None,
        mode: str | None,
        config: Mapping[str, Any],
        **spec: Any,
    ) -> bool:
        """Accept whatever Tune knows; objectives are ours."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration; None to wait, FINISHED after the last."""
        while self._index < self._suggestions.total:
            index, ledger = self._index, self._ledger
            if any(ledger.points[i].status is None for i in learns_from(self._search, index)):
                return None
            ledger.begin_point(index, self._suggestions.get(index))
            self._index += 1
            point = ledger.points[index]
            if point.status is None and point.rows:
                self._end_what_was_about_to(point)
            if point.status is None:
                return dict(self._assign(point))
        return str(Searcher.FINISHED)

    def _end_what_was_about_to(self, point: Point) -> None:
        """The driver may have died between a point's last row and the record of its end."""
        if point.last >= self._length(point):
            self._ledger.end_point(point.index, "done")
            return
        reason = falls_behind(self._search, self._ledger, point, point.last)
        if reason:
            self._ledger.end_point(point.index, "stopped", reason)

    def on_trial_complete(
        self,
        trial_id: str,
        result: Mapping[str, Any] | None = None,
        error: bool = False,
    ) -> None:
        """Nothing: the ledger has it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""


class EarlyStop(FIFOScheduler):
    """The Tune scheduler that applies `falls_behind` to every report."""

    def __init__(self, search: SearchConfig, ledger: Ledger) -> None:
        super().__init__()
        self._search, self._ledger = search, ledger
        self.reasons: dict[int, str] = {}
        """Points that were stopped, and why."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Stop or continue. The report is not on record yet, so it is compared as given."""
        if "failed" in result:
            return str(FIFOScheduler.CONTINUE)
        index, iteration = result["index"], result["iteration"]
        row = {
            key.removeprefix("metrics/"): value
            for key, value in result.items()
            if key.startswith("metrics/")
        }
        point = Point(index, {}, {iteration: row})
        reason = falls_behind(self._search, self._ledger, point, iteration)
        if not reason:
            return str(FIFOScheduler.CONTINUE)
        self.reasons[index] = reason
        return str(FIFOScheduler.STOP)
