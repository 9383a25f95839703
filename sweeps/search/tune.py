"""Between the points of a sweep and Tune: which trial runs next, and which stops early."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from luceloop.core.config.search import SearchConfig
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.search.early_stopping import falls_behind
from luceloop.sweeps.search.space import build_suggestions, learns_from
from luceloop.workers.messages import (
    FailureReport,
    IterationReport,
    Report,
    TrialSetup,
    pack_setup,
    unpack_reports,
)

IsOver = Callable[[Sequence[IterationReport]], bool]
"""Whether a sweep is to stop, by what is on record and reports that are about to be."""


class PointSearcher(Searcher):
    """Hands Tune the points that are not on record as ended, in order, one by one or in packs.

    Args:
        search: what is searched.
        ledger: what is on record, written as points begin.
        assign: what the trial of some points is given.
        length: the last iteration of a point, T.
        supremum: r*, if known, of a point with these values of the searched keys.
        pack: the most points of a trial.
        alike: a key of points with these values, equal for those that may share a trial.
        device: what points are computed on, which is put on record.
        grow: tells, when all points have ended, which get further seeds; none ever do if not given.
        is_over: tells whether no further trial is to start.
    """

    def __init__(
        self,
        search: SearchConfig,
        ledger: Ledger,
        assign: Callable[[Sequence[Point]], TrialSetup],
        length: Callable[[Point], int],
        supremum: Callable[[Mapping[str, Any]], float | None] = lambda values: None,
        pack: int = 1,
        alike: Callable[[Mapping[str, Any]], str] = lambda values: "",
        device: str = "",
        grow: Callable[[], Mapping[int, Sequence[int]]] | None = None,
        is_over: IsOver = lambda reports: False,
    ) -> None:
        super().__init__()
        self._device, self._grow, self._is_over = device, grow, is_over
        self._search, self._ledger = search, ledger
        self._assign, self._length, self._supremum = assign, length, supremum
        self._pack, self._alike = pack, alike
        self._suggestions = build_suggestions(search, ledger)
        self._index = 0
        self._waiting: dict[int, tuple[str, dict[str, Any]]] = {}

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
        if self._is_over(()):
            return str(Searcher.FINISHED)
        while taken := self._take() or self._take_grown():
            points = [point for point in map(self._begin, *zip(*taken, strict=True)) if point]
            if points:
                return pack_setup(self._assign(points))
        return (
            None if self._index < self._suggestions.total or self._runs else str(Searcher.FINISHED)
        )

    @property
    def _runs(self) -> bool:
        """Whether a point is running, after whose end others may get further seeds."""
        return self._grow is not None and any(
            point.status is None for point in self._ledger.points.values()
        )

    def _take_grown(self) -> list[tuple[int, dict[str, Any]]]:
        """The same of points that get further seeds, once all points have ended."""
        if self._grow is None or self._index < self._suggestions.total or self._runs:
            return []
        batches = self._grow()
        self._ledger.grow(batches)
        for index in batches:
            values = self._ledger.points[index].values
            self._waiting[index] = self._key(values), values
        return self._take()

    def _key(self, values: Mapping[str, Any]) -> str:
        """Equal for points that may share a trial."""
        return self._alike(values) if self._pack > 1 else ""

    def _take(self) -> list[tuple[int, dict[str, Any]]]:
        """Numbers and values of the next points of one trial; none if there are none yet."""
        search, ledger = self._search, self._ledger
        while self._index < self._suggestions.total:
            first = next(iter(self._waiting.values()), ("", {}))[0]
            found = [i for i, (key, _) in self._waiting.items() if key == first]
            if len(found) >= self._pack:
                break
            before = learns_from(search, self._index)
            if any(i not in ledger.points or ledger.points[i].status is None for i in before):
                break
            values = self._suggestions.get(self._index)
            if self._index in ledger.points:  # whose further seeds a sampler did not know of
                values = ledger.points[self._index].values
            self._waiting[self._index] = self._key(values), values
            self._index += 1
        if not self._waiting:
            return []
        first = next(iter(self._waiting.values()))[0]
        alike = [i for i, (key, _) in self._waiting.items() if key == first][: self._pack]
        return [(i, self._waiting.pop(i)[1]) for i in alike]

    def _begin(self, index: int, values: dict[str, Any]) -> Point | None:
        """A point that begins or goes on, on record; None if it has ended."""
        ledger = self._ledger
        ledger.begin_point(index, values, self._supremum(values), self._device)
        point = ledger.points[index]
        if point.status is None and point.running_rows:
            self._end_if_over(point)
        return point if point.status is None else None

    def _end_if_over(self, point: Point) -> None:
        """The driver may have died between a point's last row and the record of its end."""
        if point.reported >= self._length(point):
            self._ledger.end_point(point.index, "done")
            return
        if point.batch:
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
    """The Tune scheduler that applies `falls_behind` to every report.

    Args:
        search: what is searched.
        ledger: what is on record.
        tell: has a trial stop some of its points, while others go on.
        is_over: tells, by what is on record and reports that are about to be, whether every trial
            is to end, those that wait for a place included.
    """

    def __init__(
        self,
        search: SearchConfig,
        ledger: Ledger,
        tell: Callable[[Sequence[int]], None] = lambda points: None,
        is_over: IsOver = lambda reports: False,
    ) -> None:
        super().__init__()
        self._search, self._ledger, self._tell = search, ledger, tell
        self._is_over = is_over
        self.reasons: dict[int, str] = {}
        """Points that were stopped, and why."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Stop or continue. Reports are not on record yet, so they are compared as given."""
        reports = unpack_reports(result)
        decision = self._decide(reports)
        if not self._is_over([each for each in reports if isinstance(each, IterationReport)]):
            return decision
        for other in tune_controller.get_trials():
            if other.status == Trial.PENDING:
                tune_controller.stop_trial(other)
        return str(FIFOScheduler.STOP)

    def _decide(self, reports: Sequence[Report]) -> str:
        """Stop a trial whose points all fall behind; have it stop those that do, beside others."""
        going, stopped = 0, list[int]()
        for report in reports:
            if isinstance(report, FailureReport) or report.is_last:
                continue
            if self._falls_behind(report):
                stopped.append(report.index)
            else:
                going += 1
        if stopped and not going:
            return str(FIFOScheduler.STOP)
        if stopped:
            self._tell(stopped)
        return str(FIFOScheduler.CONTINUE)

    def _falls_behind(self, report: IterationReport) -> bool:
        """Whether a point is to stop now, or was to stop before."""
        index, iteration = report.index, report.iteration
        if self._ledger.points[index].batch:  # what gets further seeds is not stopped any more
            return False
        if index not in self.reasons:
            supremum = self._ledger.points[index].supremum
            point = Point(index, {}, {iteration: report.metrics}, supremum=supremum)
            reason = falls_behind(self._search, self._ledger, point, iteration)
            if reason:
                self.reasons[index] = reason
        return index in self.reasons
