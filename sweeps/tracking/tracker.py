"""Delivering the ledger to MLflow, without ever losing a row or writing one twice.

Every row carries the time it was recorded, so delivering it again changes nothing: MLflow keeps one
row for the same key, step, time and value. What the store does not take now is tried again, and
again on resume.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from luceloop.analysis.reading import labels
from luceloop.analysis.statistics.looks import level_of
from luceloop.analysis.statistics.seeds import LEVEL, over_seeds
from luceloop.core.config.point import PointConfig
from luceloop.core.errors import one_line
from luceloop.core.measures.ranges import count_classes, metric_range
from luceloop.sweeps.record.events import (
    BudgetReached,
    Event,
    IterationDone,
    PointBegun,
    PointEnded,
    PointGrown,
    PointReopened,
    Row,
)
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger, recorded_config
from luceloop.sweeps.tracking.experiment import Experiment, SweepIdentity
from luceloop.sweeps.tracking.note import DeliveryNote
from luceloop.sweeps.tracking.pictures import SamplePictures

if TYPE_CHECKING:
    from mlflow.entities import Metric

logger = logging.getLogger(__name__)

CHUNK = 200
"""Events delivered before that is noted."""


class Tracker:
    """Delivers the events of a ledger: rows first, then files."""

    def __init__(
        self, output: Output, folder: SweepFolder, identity: SweepIdentity, ledger: Ledger
    ) -> None:
        """Name what to deliver, and see what the store has of it by the delivery note.

        Args:
            output: the output folder, which names the store.
            folder: the sweep's folder.
            identity: what the sweep's runs are labelled with.
            ledger: what is delivered.
        """
        self._output, self._folder, self._identity = output, folder, identity
        self._ledger = ledger
        self._note = DeliveryNote(folder.path / "delivered")
        self._note.read(len(ledger.events))
        self._experiment: Experiment | None = None
        self._points: dict[tuple[int, int], PointConfig] = {}
        self._pictures = SamplePictures(folder, identity.config, ledger)
        self._advanced = time.monotonic()
        self._troubled = self._abandoned = False
        self.error: str = ""
        """Why the store did not take the last delivery; empty once it did."""

    @property
    def undelivered(self) -> int:
        """Events on record that the store does not have, or not with their files."""
        return len(self._ledger.events) - min(self._note.rows, self._note.files)

    def lacks(self, known: int) -> bool:
        """Whether the store has less than the first `known` events, or not all their files."""
        return min(self._note.rows, self._note.files) < known

    @property
    def answered(self) -> float:
        """When the store last took something, by this process's monotonic clock."""
        experiment = self._experiment
        return self._advanced if experiment is None else max(self._advanced, experiment.answered)

    def is_sure(self) -> bool:
        """Whether no call failed since the runs were looked up last; else look them up next time.

        A call that had failed may have made a run nevertheless.
        """
        if self._troubled:
            self._troubled, self._experiment = False, None
            return False
        return True

    def abandon(self, reason: str) -> None:
        """Deliver no more: the store has not answered for too long."""
        self._abandoned = True
        self.error = self.error or reason

    def with_experiment(self, use: Callable[[Experiment], None]) -> bool:
        """Call `use` with the experiment; False, with `error` set, if that failed."""
        if self._abandoned:
            return False
        try:
            use(self._connected())
        except Exception as error:  # whatever a store may raise, the sweep itself is done
            self.error = one_line(error)
            return False
        return True

    def try_deliver(self, known: int) -> bool:
        """Deliver a part of what the store lacks: rows, or files where it has all rows.

        Args:
            known: events of the ledger that may be delivered by now.

        Returns:
            False, with `error` set, if that failed and is to be tried again.
        """
        try:
            experiment = self._connected()
            if events := self._events_from(self._note.rows, known):
                self._deliver(experiment, events)
                self._advance(rows=len(events))
            elif events := self._events_from(self._note.files, known):
                self._attach_all(experiment, events)
                self._advance(files=len(events))
        except Exception as error:  # whatever a store may raise, rows are kept and tried again
            if not self.error:
                reason = one_line(error)
                logger.warning("MLflow takes no rows, which are kept until it does: %s", reason)
            self.error = one_line(error)
            self._experiment, self._troubled = None, True
            return False
        self.error = ""
        return True

    def _events_from(self, first: int, known: int) -> list[Event]:
        return self._ledger.events[first : min(first + CHUNK, known)]

    def _advance(self, rows: int = 0, files: int = 0) -> None:
        self._advanced = time.monotonic()
        self._note.write(rows=self._note.rows + rows, files=self._note.files + files)

    def _connected(self) -> Experiment:
        if self._experiment is None:
            output, artifacts = self._output, None
            if output.is_database:
                artifacts = (output.artifacts / self._folder.id).as_uri()
            experiment = Experiment(output.tracking_uri, self._identity, artifacts)
            if experiment.made != self._note.experiment or experiment.repeated:
                self._note.write(experiment=experiment.made, rows=0, files=0)
            experiment.delete_repeated()
            experiment.sweep_run()
            self._experiment = experiment
        return self._experiment

    def _deliver(self, experiment: Experiment, events: Iterable[Event]) -> None:
        """Write events: all that a run gets in one call, then that points have ended."""
        metrics: dict[str, list[Metric]] = defaultdict(list)
        tags: dict[str, dict[str, str]] = defaultdict(dict)
        ended: dict[int, PointEnded] = {}
        for event in events:
            if isinstance(event, BudgetReached):
                continue
            run = experiment.point_run(event.point, self._point(event.point))
            if isinstance(event, PointBegun):
                tags[run] |= self._supremum(event.point)
            if isinstance(event, IterationDone):
                for target, rows in self._curves(experiment, run, event):
                    metrics[target] += rows
            elif isinstance(event, PointGrown):
                ended.pop(event.point, None)
                experiment.reopen(run)
            elif isinstance(event, PointEnded):
                ended[event.point] = event
                metrics[run] += self._grown(event.point)
                tags[run] |= self._supremum(event.point)
                self._runs_of(experiment, event.point)  # made now if it failed at once
                tags[run][labels.STATUS] = event.status
                tags[run] |= _cost_tags(event)
                if event.reason:
                    tags[run][labels.NOTE] = event.reason
            elif isinstance(event, PointReopened):
                ended.pop(event.point, None)
                tags[run] |= {labels.NOTE: "", labels.STATUS: ""}
                experiment.reopen(run)
        if any(isinstance(event, BudgetReached) for event in self._ledger.events):
            tags[experiment.sweep_run()][labels.STOPPED] = self._ledger.stopped
            experiment.reopen(experiment.sweep_run())  # which is marked as ended where it stops
        for target in dict.fromkeys([*metrics, *tags, *experiment.without_params]):
            experiment.log(target, metrics[target], tags[target])
        for last in ended.values():
            status = "FINISHED" if last.status in ("done", "stopped") else "FAILED"
            for each in self._runs_of(experiment, last.point):
                experiment.end(each, status)
        experiment.delete_repeated()

    def _attach_all(self, experiment: Experiment, events: Iterable[Event]) -> None:
        if not self._note.files:
            experiment.log_file(experiment.sweep_run(), self._folder.config_file)
        for event in events:
            if isinstance(event, PointBegun):
                point = self._point(event.point)
                experiment.log_config(experiment.point_run(event.point, point), point)
            elif isinstance(event, PointEnded) and self._ledger.points[event.point].grown:
                self._attach_again(experiment, event.point)
            elif isinstance(event, IterationDone) and not event.seeds:
                self._attach(experiment, event)

    def _curves(
        self, experiment: Experiment, run: str, event: IterationDone
    ) -> Iterable[tuple[str, list[Metric]]]:
        point, row = self._point(event.point), event.metrics
        if not event.seeds and self._ledger.points[event.point].grown is None:
            # Else aggregates come when a batch of further seeds is whole.
            yield run, _metrics(self._aggregates(event.point, row), event.iteration, event.time)
        for position, seed in enumerate(event.seeds or self._identity.config.point.seeds):
            values = {name: per_seed[position] for name, per_seed in row.items()}
            rows = _metrics(values, event.iteration, event.time)
            yield experiment.seed_run(event.point, point, seed), rows

    def _grown(self, index: int) -> list[Metric]:
        """The aggregate curves of a point that has got further seeds; none of any other."""
        found = self._ledger.points[index].grown
        if found is None:
            return []
        rows, time = found
        return [
            metric
            for t, row in rows.items()
            for metric in _metrics(self._aggregates(index, row), t, time)
        ]

    def _supremum(self, index: int) -> dict[str, str]:
        """The tag that tells r* of a point, where it is known."""
        found = self._ledger.points[index].supremum
        return {} if found is None else {labels.SUPREMUM: str(found)}

    def _aggregates(self, index: int, row: Row) -> dict[str, float]:
        level = level_of(self._identity.config.seed_rule)
        return aggregates(row, self._ledger.points[index].supremum, level)

    def _attach(self, experiment: Experiment, event: IterationDone) -> None:
        """Attach the files of an iteration to its point's run, where there are any."""
        for file, place in self._folder.iteration_files(event.point, event.iteration):
            if file.exists():
                run = experiment.point_run(event.point, self._point(event.point))
                experiment.log_file(run, file, place)
        picture = self._pictures.picture(event.point, event.iteration)
        if picture is not None:
            run = experiment.point_run(event.point, self._point(event.point))
            experiment.log_picture(run, picture, event.iteration, event.time)

    def _attach_again(self, experiment: Experiment, index: int) -> None:
        """Attach a point's files to the run that it got for its further seeds."""
        point = self._point(index)
        experiment.log_config(experiment.point_run(index, point), point)
        for event in self._ledger.events:
            if isinstance(event, IterationDone) and event.point == index and not event.seeds:
                self._attach(experiment, event)

    def _runs_of(self, experiment: Experiment, index: int) -> list[str]:
        """The run of a point, then those of its seeds."""
        point = self._point(index)
        every = (*point.seeds, *self._ledger.points[index].batch)
        seeds = [experiment.seed_run(index, point, seed) for seed in dict.fromkeys(every)]
        return [experiment.point_run(index, point), *seeds]

    def _point(self, index: int) -> PointConfig:
        """A point with all seeds that its aggregate curves are of."""
        point = self._ledger.points[index]
        key = index, point.whole
        if key not in self._points:
            self._points[key] = recorded_config(self._identity.config, point)
        return self._points[key]


def aggregates(row: Row, supremum: float | None = None, level: float = LEVEL) -> dict[str, float]:
    """`<metric>.<statistic>` of one iteration, over seeds.

    The number of seeds is not among them: it is a parameter, and would be a flat chart.

    Args:
        row: metrics of the iteration.
        supremum: r* of the point's reward, if known.
        level: of intervals, as in `over_seeds`.
    """
    n_classes, found = count_classes(row), dict[str, float]()
    for name, per_seed in row.items():
        over = over_seeds(per_seed, *metric_range(name, n_classes, supremum), level)
        del over["n"]
        found |= {labels.aggregate_name(name, each): float(value) for each, value in over.items()}
    return found


def _cost_tags(event: PointEnded) -> dict[str, str]:
    """What a point has cost, as tags of its run."""
    if event.costs is None:
        return {}
    found = {
        f"{labels.COST}{name}": f"{value:.15g}" for name, value in event.costs["computed"].items()
    }
    taken = event.costs.get("taken", {}).get("rows", 0)
    return found | ({f"{labels.COST}rows_taken": str(taken)} if taken else {})


def _metrics(values: dict[str, float], iteration: int, time: int) -> list[Metric]:
    from mlflow.entities import Metric  # seconds, which a sweep's first iteration takes anyway

    return [Metric(name, value, time, iteration) for name, value in values.items()]
