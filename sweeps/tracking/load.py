"""What a part of a ledger is to a tracking store: a list of steps, each a request or a few.

A step may be taken again without changing anything, so a store that fails now and then gets one
after the other, and never has to take a whole part without failing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from luceloop.analysis.reading import labels
from luceloop.analysis.statistics.looks import level_of
from luceloop.analysis.statistics.seeds import LEVEL, over_seeds
from luceloop.core.config.point import PointConfig
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
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger, recorded_config
from luceloop.sweeps.tracking.experiment import Experiment, SweepIdentity
from luceloop.sweeps.tracking.pictures import SamplePictures

if TYPE_CHECKING:
    from mlflow.entities import Metric

Step = Callable[[Experiment], None]

SLICE = 850
"""Metrics in a request, which has room for a run's parameters and tags besides."""


@dataclass(frozen=True)
class Target:
    """The run of a point, or of one of its seeds; which run that is, is known when it is there."""

    index: int
    seed: int | None = None


@dataclass
class _Load:
    """What events amount to, by run."""

    metrics: dict[Target, list[Metric]] = field(default_factory=lambda: defaultdict(list))
    tags: dict[Target, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    reopened: dict[Target, None] = field(default_factory=dict)
    ended: dict[int, PointEnded] = field(default_factory=dict)


class Loader:
    """Works out the steps that bring events of a ledger to a store."""

    def __init__(self, folder: SweepFolder, identity: SweepIdentity, ledger: Ledger) -> None:
        self._folder, self._identity, self._ledger = folder, identity, ledger
        self._points: dict[tuple[int, int], PointConfig] = {}
        self._pictures = SamplePictures(folder, identity.config, ledger)

    def rows(self, events: Iterable[Event]) -> list[Step]:
        """Write events: all that a run gets in few requests, then that points have ended."""
        load = _Load()
        for event in events:
            if not isinstance(event, BudgetReached):
                self._gather(event, load)
        ended = [
            (target, "FINISHED" if last.status in ("done", "stopped") else "FAILED")
            for last in load.ended.values()
            for target in self._targets_of(last.point)
        ]
        steps = [self._step(target, Experiment.reopen) for target in load.reopened]
        for target in dict.fromkeys([*load.metrics, *load.tags, *(each for each, _ in ended)]):
            steps += self._writing(target, load)
        if any(isinstance(event, BudgetReached) for event in self._ledger.events):
            steps.append(partial(_mark_stopped, reason=self._ledger.stopped))
        steps += [self._step(target, partial(_end, status=status)) for target, status in ended]
        return [*steps, Experiment.delete_repeated]

    def _gather(
        self,
        event: PointBegun | IterationDone | PointEnded | PointReopened | PointGrown,
        load: _Load,
    ) -> None:
        run = Target(event.point)
        if isinstance(event, PointBegun):
            load.tags[run] |= self._supremum(event.point)
        elif isinstance(event, IterationDone):
            for target, rows in self._curves(event):
                load.metrics[target] += rows
        elif isinstance(event, PointEnded):
            load.ended[event.point] = event
            load.metrics[run] += self._grown(event.point)
            load.tags[run] |= self._supremum(event.point)
            load.tags[run] |= {labels.STATUS: event.status} | _cost_tags(event)
            if event.reason:
                load.tags[run][labels.NOTE] = event.reason
        else:
            load.ended.pop(event.point, None)
            load.reopened[run] = None
            if isinstance(event, PointReopened):
                load.tags[run] |= {labels.NOTE: "", labels.STATUS: ""}

    def _writing(self, target: Target, load: _Load) -> Iterator[Step]:
        """The requests that write what a run gets, parameters that it lacks among them."""
        metrics, tags = load.metrics.get(target, []), load.tags.get(target, {})
        for first in range(0, len(metrics) or 1, SLICE):
            rows = metrics[first : first + SLICE]
            yield self._step(target, partial(_log, metrics=rows, tags=tags if not first else {}))

    def _step(self, target: Target, use: Callable[[Experiment, str], None]) -> Step:
        """What does something with a run, which is made if it is not there."""
        point = self._point(target.index)

        def step(experiment: Experiment) -> None:
            if target.seed is None:
                use(experiment, experiment.point_run(target.index, point))
            else:
                use(experiment, experiment.seed_run(target.index, point, target.seed))

        return step

    def files(self, events: Iterable[Event], *, with_config: bool) -> list[Step]:
        """Attach the files of events, and before them the sweep's configuration if asked to."""
        steps: list[Step] = []
        if with_config:
            steps += attaching(self._folder.config_file)
        for event in events:
            if isinstance(event, PointBegun):
                steps.append(self._configuration(event.point))
            elif isinstance(event, PointEnded) and self._ledger.points[event.point].grown:
                steps += self._files_again(event.point)
            elif isinstance(event, IterationDone) and not event.seeds:
                steps += self._files_of(event)
        return steps

    def _files_of(self, event: IterationDone) -> Iterator[Step]:
        """Attach the files of an iteration to its point's run, where there are any."""
        target = Target(event.point)
        for file, place in self._folder.iteration_files(event.point, event.iteration):
            if file.exists():
                yield self._step(target, partial(_log_file, file=file, place=place))

        def depict(experiment: Experiment, run: str) -> None:
            picture = self._pictures.picture(event.point, event.iteration)
            if picture is not None:
                experiment.log_picture(run, picture, event.iteration, event.time)

        yield self._step(target, depict)

    def _files_again(self, index: int) -> Iterator[Step]:
        """Attach a point's files to the run that it got for its further seeds."""
        yield self._configuration(index)
        for event in self._ledger.events:
            if isinstance(event, IterationDone) and event.point == index and not event.seeds:
                yield from self._files_of(event)

    def _configuration(self, index: int) -> Step:
        return self._step(Target(index), partial(_log_config, point=self._point(index)))

    def _curves(self, event: IterationDone) -> Iterable[tuple[Target, list[Metric]]]:
        row, when = event.metrics, event.time
        if not event.seeds and self._ledger.points[event.point].grown is None:
            # Else aggregates come when a batch of further seeds is whole.
            rows = _metrics(self._aggregates(event.point, row), event.iteration, when)
            yield Target(event.point), rows
        for position, seed in enumerate(event.seeds or self._identity.config.point.seeds):
            values = {name: per_seed[position] for name, per_seed in row.items()}
            yield Target(event.point, seed), _metrics(values, event.iteration, when)

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

    def _targets_of(self, index: int) -> list[Target]:
        """The run of a point, then those of its seeds."""
        every = (*self._point(index).seeds, *self._ledger.points[index].batch)
        return [Target(index), *(Target(index, seed) for seed in dict.fromkeys(every))]

    def _point(self, index: int) -> PointConfig:
        """A point with all seeds that its aggregate curves are of."""
        point = self._ledger.points[index]
        key = index, point.whole
        if key not in self._points:
            self._points[key] = recorded_config(self._identity.config, point)
        return self._points[key]


def attaching(path: Path, place: str | None = None) -> Iterator[Step]:
    """Attach a file to the sweep's run, or all files of a folder, one by one.

    Args:
        path: of the file or the folder.
        place: the folder of the run's artifacts; the topmost one if not given.
    """
    if not path.is_dir():
        yield partial(_attach, file=path, place=place)
        return
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        beneath = file.parent.relative_to(path).as_posix()
        parts = [part for part in (place, beneath) if part and part != "."]
        yield partial(_attach, file=file, place="/".join(parts) or None)


def _attach(experiment: Experiment, file: Path, place: str | None) -> None:
    experiment.log_file(experiment.sweep_run(), file, place)


def _mark_stopped(experiment: Experiment, reason: str) -> None:
    run = experiment.sweep_run()
    experiment.log(run, [], {labels.STOPPED: reason})
    experiment.reopen(run)  # which is marked as ended where the sweep stops


def _log(experiment: Experiment, run: str, metrics: list[Metric], tags: dict[str, str]) -> None:
    experiment.log(run, metrics, tags)


def _log_file(experiment: Experiment, run: str, file: Path, place: str) -> None:
    experiment.log_file(run, file, place)


def _log_config(experiment: Experiment, run: str, point: PointConfig) -> None:
    experiment.log_config(run, point)


def _end(experiment: Experiment, run: str, status: str) -> None:
    experiment.end(run, status)


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
