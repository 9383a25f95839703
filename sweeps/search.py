"""Between the points of a sweep and Tune: which trial runs next, and which stops early.

Early stopping compares a point with those before it alone, as suggestions do (`sweeps.space`), so
that it does not depend on which trial was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from luceloop.core.search_config import SearchConfig
from luceloop.sweeps import objective
from luceloop.sweeps.ledger import Ledger, Point
from luceloop.sweeps.space import build_suggestions, learns_from


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
