"""Delivering the ledger to MLflow, in the background, without ever holding up a sweep.

Every row carries the time it was recorded, so delivering it again changes nothing: MLflow keeps one
row for the same key, step, time and value. What the store does not take now is tried again, and
again on resume.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from core.config import Config
from core.parsing import at_point
from core.statistics import over_seeds
from sweeps.experiment import Experiment, SweepIdentity
from sweeps.ledger import Event, Ledger, Row
from sweeps.output import Output, SweepFolder, shown

if TYPE_CHECKING:
    from mlflow.entities import Metric

logger = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between deliveries, in which rows of the same run gather into one call."""
RETRY_AT_MOST = 30.0
"""Seconds between attempts while the store is down."""
CHUNK = 50
"""Events delivered before that is noted."""


class Tracker:
    """Follows a ledger and delivers its events from a thread of its own."""

    def __init__(self, output: Output, folder: SweepFolder, identity: SweepIdentity) -> None:
        self._output, self._folder, self._identity = output, folder, identity
        self._cursor_file = folder.path / "delivered"
        self._cursor = 0
        """Events that the store has; unsure, it is too low, and they are delivered again."""
        self._experiment: Experiment | None = None
        self._points: dict[int, Config] = {}
        self._ledger: Ledger | None = None
        self._closing = threading.Event()
        self._progress = time.monotonic()
        self._thread: threading.Thread | None = None
        self.error: str = ""
        """Why the store did not take the last delivery; empty once it did."""

    def start(self, ledger: Ledger) -> None:
        """Begin to follow `ledger`."""
        self._ledger = ledger
        noted = self._cursor_file.read_text() if self._cursor_file.exists() else ""
        self._cursor = int(noted) if noted.isdigit() and int(noted) <= len(ledger.events) else 0
        self._thread = threading.Thread(target=self._follow, name="tracking", daemon=True)
        self._thread.start()

    @property
    def undelivered(self) -> int:
        """Events on record that the store does not have."""
        return 0 if self._ledger is None else len(self._ledger.events) - self._cursor

    def close(self, patience: float) -> None:
        """Deliver what is left; give up when the store has taken nothing for `patience` seconds."""
        self._closing.set()
        self._progress = time.monotonic()
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.1)
            if time.monotonic() - self._progress > patience:
                return

    def with_experiment(self, use: Callable[[Experiment], None]) -> bool:
        """Call `use` with the experiment after `close`; False, with `error` set, if that failed."""
        try:
            use(self._connected())
        except Exception as error:  # whatever a store may raise, the sweep itself is done
            self.error = _one_line(error)
            return False
        return True

    def _follow(self) -> None:
        assert self._ledger is not None
        pause = INTERVAL
        while True:
            delivered = self._try_deliver()
            if self._closing.is_set() and not self.undelivered:
                return
            pause = INTERVAL if delivered else min(2 * pause, RETRY_AT_MOST)
            if self._closing.is_set():
                time.sleep(min(pause, INTERVAL))
            else:
                self._closing.wait(pause)

    def _try_deliver(self) -> bool:
        assert self._ledger is not None
        try:
            while self.undelivered:
                events = self._ledger.events[self._cursor :][:CHUNK]
                self._deliver(self._connected(), events)
                self._cursor += len(events)
                self._progress = time.monotonic()
                self._note_cursor()
        except Exception as error:  # whatever a store may raise, rows are kept and tried again
            reason = _one_line(error)
            if not self.error:
                logger.warning("MLflow takes no rows, which are kept until it does: %s", reason)
            self.error = reason
            self._experiment = None
            return False
        self.error = ""
        return True

    def _note_cursor(self) -> None:
        temporary = self._cursor_file.with_suffix(".new")
        temporary.write_text(str(self._cursor))
        temporary.replace(self._cursor_file)

    def _connected(self) -> Experiment:
        if self._experiment is None:
            artifacts = None
            if self._output.is_default_store:
                artifacts = (self._output.artifacts / self._folder.id).as_uri()
            uri = self._output.tracking_uri
            self._experiment = Experiment(uri, self._identity, artifacts)
            self._experiment.log_file(self._experiment.sweep_run(), self._folder.config_file)
        return self._experiment

    def _deliver(self, experiment: Experiment, events: Iterable[Event]) -> None:
        """Write events: all metrics of a run in one call, previews, then how points ended."""
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
        for event in events:
            if event["event"] == "iteration":
                self._attach(experiment, event["point"], event["iteration"])
        for index, event in ended:
            self._end(experiment, index, event)

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
        files = [
            ("samples", self._folder.preview(index, iteration)),
            ("samples", self._folder.preview_image(index, iteration)),
        ]
        if iteration == 0:
            files.append(("initial", self._folder.initial_reward(index)))
        for place, file in files:
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


def _one_line(error: Exception) -> str:
    return shown(str(error).splitlines()[0])[:300] if str(error) else type(error).__name__
