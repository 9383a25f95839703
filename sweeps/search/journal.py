"""A sweep as an Optuna study on disk, for optuna-dashboard: parameters, objectives, importances.

    optuna-dashboard luceloop-out/sweeps/<id>/study.journal

The study is a copy for the eye. What a search suggests depends on the ledger alone.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from luceloop.core.config.naming import point_name
from luceloop.core.config.parsing import at_point
from luceloop.core.config.search import Dimension
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import one_line
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.search import objective

logger = logging.getLogger(__name__)

MOST_CHOICES = 32
"""Values of a grid that the study lists as choices; more numbers are a range."""
STATES = {
    "done": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "lost": TrialState.FAIL,
}
"""What Optuna calls the ends of points."""


class StudyJournal:
    """The study of one sweep; nothing is written where nothing is searched.

    Args:
        file: of the journal.
        sweep: the sweep's id, which names the study.
        config: the sweep's configuration.
    """

    def __init__(self, file: Path, sweep: str, config: SweepConfig) -> None:
        self._file, self._sweep, self._config = file, sweep, config
        self._study: optuna.Study | None = None
        self._known: set[tuple[int, TrialState]] = set()
        """Trials of the study, by point."""
        self._seen: set[tuple[int, str]] = set()
        """Ends of points that this process has looked at."""
        self._broken = False

    def update(self, ledger: Ledger, index: int | None = None) -> None:
        """Add the points that have ended since, or that one; if it fails, warn and add no more."""
        if self._broken or not self._config.search.space:
            return
        try:
            points = ledger.points
            self._add_ended(points.values() if index is None else [points[index]])
        except Exception as error:  # a copy to look at never ends a sweep
            self._broken = True
            logger.warning("%s is not kept up any more: %s", self._file, one_line(error))

    def _add_ended(self, points: Iterable[Point]) -> None:
        for point in points:
            if point.batches:  # it has the results of the first seeds, by which points are chosen
                continue
            if point.status is not None and (point.index, point.status) not in self._seen:
                self._add(point, STATES[point.status])
                self._seen.add((point.index, point.status))

    def _add(self, point: Point, state: TrialState) -> None:
        study = self._opened()
        objectives = self._config.search.objective
        if state is TrialState.COMPLETE and not objective.is_measured(objectives, point):
            state = TrialState.FAIL
        if (point.index, state) in self._known:
            return
        values = None
        if state is TrialState.COMPLETE:
            values = [objective.of_point(each, point) for each in objectives]
        spaces = self._spaces
        study.add_trial(
            optuna.create_trial(
                state=state,
                values=values,
                params={key: _plain(spaces[key], point.values[key]) for key in spaces},
                distributions=spaces,
                user_attrs=self._attributes(point),
                intermediate_values=self._curve(point),
            )
        )
        self._known.add((point.index, state))

    @functools.cached_property
    def _spaces(self) -> dict[str, BaseDistribution]:
        return {key: _distribution(d) for key, d in self._config.search.space.items()}

    def _attributes(self, point: Point) -> Mapping[str, Any]:
        config = at_point(self._config, point.values)
        name = point_name(config.flat(), list(self._config.search.space))
        found = {"point": point.index, "name": name, "seeds": len(config.seeds)}
        return found | ({"reason": point.reason} if point.reason else {})

    def _curve(self, point: Point) -> dict[int, float]:
        """The objective by iteration; Optuna has none where there are several objectives."""
        if len(self._config.search.objective) > 1:
            return {}
        [single] = self._config.search.objective
        return {
            iteration: objective.at_iteration(single, row, point.supremum)
            for iteration, row in sorted(point.rows.items())
            if single.metric in row
        }

    def _opened(self) -> optuna.Study:
        """The study, with what an earlier run of the sweep has added."""
        if self._study is None:
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            _drop_torn_line(self._file)
            objectives = self._config.search.objective
            self._study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(self._file))),
                study_name=f"{self._config.name}/{self._sweep}",
                directions=["maximize" if o.mode == "max" else "minimize" for o in objectives],
                load_if_exists=True,
            )
            with warnings.catch_warnings():  # experimental since Optuna 3.2, and unchanged
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self._study.set_metric_names([o.metric for o in objectives])
            for trial in self._study.get_trials(deepcopy=False):
                self._known.add((trial.user_attrs["point"], trial.state))
        return self._study


def _drop_torn_line(file: Path) -> None:
    """Cut off what a killed process left of a last line, which nobody could read on from."""
    if file.exists():
        content = file.read_bytes()
        os.truncate(file, content.rfind(b"\n") + 1)


def _distribution(dimension: Dimension) -> BaseDistribution:
    values = dimension.values
    if values is not None and len(values) > MOST_CHOICES and all(map(_is_number, values)):
        return FloatDistribution(min(values), max(values))  # every trial repeats the choices
    if values is not None:
        return CategoricalDistribution([_scalar(value) for value in values])
    low, high = dimension.bounds
    if dimension.integers is not None:
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=dimension.loguniform is not None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and not isinstance(value, bool)


def _scalar(value: Any) -> Any:
    """A value that Optuna can hold: anything but a scalar as JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value, sort_keys=True)


def _plain(distribution: BaseDistribution, value: Any) -> Any:
    return _scalar(value) if isinstance(distribution, CategoricalDistribution) else value
