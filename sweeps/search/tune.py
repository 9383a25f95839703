"""Between the points of a sweep and Tune: which trial runs next, and which stops early."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from luceloop.core.config.search import SearchConfig
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.search.early_stopping import falls_behind
from luceloop.sweeps.search.space import build_suggestions, learns_from
from luceloop.workers.messages import FailureReport, TrialSetup, pack_setup, unpack_report


class PointSearcher(Searcher):
    """Hands Tune the points that are not on record as ended, in order.

    Args:
        search: what is searched.
        ledger: what is on record, written as points begin.
        assign: what the trial of a point is given.
        length: the last iteration of a point, T.
        supremum: r*, if known, of a point with these values of the searched keys.
    """

    def __init__(
        self,
        search: SearchConfig,
        ledger: Ledger,
        assign: Callable[[Point], TrialSetup],
        length: Callable[[Point], int],
        supremum: Callable[[Mapping[str, Any]], float | None] = lambda values: None,
    ) -> None:
        super().__init__()
        self._search, self._ledger = search, ledger
        self._assign, self._length, self._supremum = assign, length, supremum
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
            values = self._suggestions.get(index)
            ledger.begin_point(index, values, self._supremum(values))
            self._index += 1
            point = ledger.points[index]
            if point.status is None and point.rows:
                self._end_if_over(point)
            if point.status is None:
                return pack_setup(self._assign(point))
        return str(Searcher.FINISHED)

    def _end_if_over(self, point: Point) -> None:
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
        report = unpack_report(result)
        if isinstance(report, FailureReport):
            return str(FIFOScheduler.CONTINUE)
        index, iteration = report.index, report.iteration
        supremum = self._ledger.points[index].supremum
        point = Point(index, {}, {iteration: report.metrics}, supremum=supremum)
        reason = falls_behind(self._search, self._ledger, point, iteration)
        if not reason:
            return str(FIFOScheduler.CONTINUE)
        self.reasons[index] = reason
        return str(FIFOScheduler.STOP)
