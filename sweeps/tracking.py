"""Delivering the ledger to MLflow, in the background, without ever holding up a sweep.

Every row carries the time it was recorded, so delivering it again changes nothing: MLflow keeps one
row for the same key, step, time and value. What the store does not take now is tried again, and
again on resume.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from luceloop.core.config import Config
from luceloop.core.errors import one_line
from luceloop.core.files import write_atomically
from luceloop.core.parsing import at_point
from luceloop.core.statistics import over_seeds
from luceloop.sweeps.experiment import Experiment, SweepIdentity
from luceloop.sweeps.ledger import Event, Ledger, Row
from luceloop.sweeps.mirror import Mirror
from luceloop.sweeps.output import Output, SweepFolder

if TYPE_CHECKING:
    from mlflow.entities import Metric

logger = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between deliveries, in which rows of the same run gather into one call."""
RETRY_AT_MOST = 30.0
"""Seconds between attempts while the store is down."""
LAST_PATIENCE = 3.0
"""Seconds that `close` waits for a store which lacks little that it may have."""
CHUNK = 50
"""Events delivered before that is noted."""


class DeliveryNote:
    """What the store has of a ledger, noted in a file: too little when unsure, never too much."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.experiment = ""
        """Of which experiment this is true; another one has nothing."""
        self.rows = 0
        """Events whose rows it has."""
        self.files = 0
        """Events whose files it has."""

    def read(self, events: int) -> None:
        """Read what was noted, unless it cannot be true of a ledger of so many events."""
        try:
            noted = json.loads(self._path.read_text())
            experiment, rows, files = noted["experiment"], int(noted["rows"]), int(noted["files"])
        except (OSError, ValueError, TypeError, KeyError):
            return  # all is delivered again, which changes nothing
        if min(rows, files) >= 0 and max(rows, files) <= events:
            self.experiment, self.rows, self.files = experiment, rows, files

    def write(
        self, experiment: str | None = None, rows: int | None = None, files: int | None = None
    ) -> None:
        """Note what has changed."""
        self.experiment = self.experiment if experiment is None else experiment
        self.rows = self.rows if rows is None else rows
        self.files = self.files if files is None else files
        content = {"experiment": self.experiment, "rows": self.rows, "files": self.files}
        try:
            write_atomically(json.dumps(content), self._path, durable=False)
        except OSError as error:  # the next process delivers again what this one has
            logger.debug("not noted what was delivered: %s", error)


class Tracker:
    """Follows a ledger and delivers its events from a thread of its own: rows first, then files."""

    def __init__(
        self,
        output: Output,
        folder: SweepFolder,
        identity: SweepIdentity,
        mirror: Mirror | None = None,
    ) -> None:
        """Name what to deliver, of which `mirror` must have a copy first, if there is one."""
        self._output, self._folder, self._identity = output, folder, identity
        self._note = DeliveryNote(folder.path / "delivered")
        self._mirror = mirror
        self._experiment: Experiment | None = None
        self._points: dict[int, Config] = {}
        self._ledger: Ledger | None = None
        self._closing, self._given_up = threading.Event(), threading.Event()
        self._progress = time.monotonic()
        self._troubled = False
        """Whether a call failed since the runs were looked up last."""
        self._thread: threading.Thread | None = None
        self.error: str = ""
        """Why the store did not take the last delivery; empty once it did."""

    def start(self, ledger: Ledger) -> None:
        """Begin to follow `ledger`."""
        self._ledger = ledger
        self._note.read(len(ledger.events))
        if self._mirror is not None:
            self._mirror.start()
        self._thread = threading.Thread(target=self._follow, name="tracking", daemon=True)
        self._thread.start()

    @property
    def undelivered(self) -> int:
        """Events on record that the store does not have, or not with their files."""
        note = self._note
        return 0 if self._ledger is None else len(self._ledger.events) - min(note.rows, note.files)

    def close(self, patience: float) -> None:
        """Deliver what is left; give up when the store has taken nothing for `patience` seconds."""
        if self._mirror is not None and self._thread is not None:
            self._mirror.close(patience)
            if self._mirror.error:  # no more can be delivered than was copied
                patience = min(patience, LAST_PATIENCE)
        self._closing.set()
        closed = time.monotonic()
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.1)
            experiment = self._experiment
            answered = experiment.answered if experiment is not None else closed
            if time.monotonic() - max(closed, self._progress, answered) > patience:
                self._given_up.set()
                waits = "" if self._mirror is None else self._mirror.error
                self.error = self.error or waits or f"no answer in {patience:g} s"
                return

    def with_experiment(self, use: Callable[[Experiment], None]) -> bool:
        """Call `use` with the experiment after `close`; False, with `error` set, if that failed."""
        if self._given_up.is_set():
            return False
        try:
            use(self._connected())
        except Exception as error:  # whatever a store may raise, the sweep itself is done
            self.error = one_line(error)
            return False
        return True

    def _follow(self) -> None:
        pause = INTERVAL
        while not self._given_up.is_set():
            delivered = self._try_deliver()
            if delivered and self._closing.is_set() and not self.undelivered:
                if not self._troubled:
                    return
                self._troubled, self._experiment = False, None
                continue  # a call that had failed may have made a run nevertheless
            pause = INTERVAL if delivered else min(2 * pause, RETRY_AT_MOST)
            if self._closing.is_set():
                self._given_up.wait(min(pause, INTERVAL))
            else:
                self._closing.wait(pause)

    def _try_deliver(self) -> bool:
        try:
            experiment = self._connected()
            while events := self._events_from(self._note.rows):
                self._deliver(experiment, events)
                self._advance(rows=len(events))
            while events := self._events_from(self._note.files):
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

    def _events_from(self, first: int) -> list[Event]:
        assert self._ledger is not None
        known = len(self._ledger.events) if self._mirror is None else self._mirror.events
        return self._ledger.events[first : min(first + CHUNK, known)]

    def _advance(self, rows: int = 0, files: int = 0) -> None:
        self._progress = time.monotonic()
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
        """Write events: all metrics of a run in one call, then how points ended."""
        metrics: dict[str, list[Metric]] = defaultdict(list)
        ended = []
        for event in events:
            index = event["point"]
            if event["event"] == "point":
                self._points[index] = at_point(self._identity.config, event["values"])
            point = self._point(index)
            run = experiment.point_run(index, point)
            if event["event"] == "iteration":
                for target, rows in self._curves(experiment, run, event):
                    metrics[target] += rows
            elif event["event"] == "end":
                ended.append((index, event))
        for target, rows in metrics.items():
            experiment.log(target, rows)
        for index, event in ended:
            self._end(experiment, index, event)

    def _attach_all(self, experiment: Experiment, events: Iterable[Event]) -> None:
        if not self._note.files:
            experiment.log_file(experiment.sweep_run(), self._folder.config_file)
        for event in events:
            if event["event"] == "iteration":
                self._attach(experiment, event["point"], event["iteration"])

    def _curves(
        self, experiment: Experiment, run: str, event: Event
    ) -> Iterable[tuple[str, list[Metric]]]:
        point, row = self._point(event["point"]), event["metrics"]
        step, at = event["iteration"], event["time"]
        yield run, _metrics(aggregates(row), step, at)
        for position, seed in enumerate(point.seeds):
            values = {name: per_seed[position] for name, per_seed in row.items()}
            yield (
                experiment.seed_run(event["point"], point, seed),
                _metrics(values, step, at),
            )

    def _attach(self, experiment: Experiment, index: int, iteration: int) -> None:
        """Attach the files of an iteration to its point's run, where there are any."""
        for file, place in self._folder.iteration_files(index, iteration):
            if file.exists():
                run = experiment.point_run(index, self._point(index))
                experiment.log_file(run, file, place)

    def _end(self, experiment: Experiment, index: int, event: Event) -> None:
        status = "FINISHED" if event["status"] in ("done", "stopped") else "FAILED"
        point = self._point(index)
        experiment.end(experiment.point_run(index, point), status, event.get("reason", ""))
        for seed in point.seeds:
            experiment.end(experiment.seed_run(index, point, seed), status)

    def _point(self, index: int) -> Config:
        if index not in self._points:
            assert self._ledger is not None
            values = self._ledger.points[index].values
            self._points[index] = at_point(self._identity.config, values)
        return self._points[index]


def aggregates(row: Row) -> dict[str, float]:
    """`<metric>.<statistic>` of one iteration, over seeds."""
    return {
        f"{name}.{statistic}": float(value)
        for name, per_seed in row.items()
        for statistic, value in over_seeds(np.array(per_seed)).items()
    }


def _metrics(values: dict[str, float], step: int, at: int) -> list[Metric]:
    from mlflow.entities import Metric

    return [Metric(name, value, at, step) for name, value in values.items()]
