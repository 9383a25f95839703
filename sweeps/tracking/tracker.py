"""Delivering the ledger to MLflow, without ever losing a row or writing one twice.

Every row carries the time it was recorded, so delivering it again changes nothing: MLflow keeps one
row for the same key, step, time and value. What the store does not take now is tried again, and
again on resume; what it has taken is not asked of it again, so one that fails now and then is done.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable

from luceloop.analysis.reading.store import said_by_store
from luceloop.sweeps.record.delivered import note_of
from luceloop.sweeps.record.events import Event
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.tracking.experiment import Experiment, SweepIdentity
from luceloop.sweeps.tracking.load import Loader, Step

logger = logging.getLogger(__name__)

CHUNK = 200
"""Events delivered before that is noted."""
MOST_FAILURES = 3
"""Failures one after the other, after which the experiment is looked up anew."""
PATIENCE = 30.0
"""Seconds that further files wait for a store that takes nothing."""
PAUSE = 0.1
"""Seconds before the first of their further tries."""


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
        self._note = note_of(folder)
        self._note.read(len(ledger.events))
        self._experiment: Experiment | None = None
        self._loader = Loader(folder, identity, ledger)
        self._steps: deque[Step] = deque()
        """What is left of the part that is being delivered."""
        self._part = (0, 0)
        """How many events' rows and files the store has more of once these are done."""
        self._answered = time.monotonic()
        self._failures = 0
        """Attempts one after the other that have brought nothing."""
        self._troubled = self._abandoned = False
        self.asked = False
        """Whether the store was asked what it has: else it may be another one than was noted."""
        self.error: str = ""
        """Why the store did not take the last delivery; empty once it did."""

    @property
    def undelivered(self) -> int:
        """Events on record that the store does not have, or not with their files."""
        return len(self._ledger.events) - min(self._note.rows, self._note.files)

    @property
    def lacks_rows(self) -> bool:
        """Whether the store lacks rows; else what it lacks are files."""
        return self._note.rows < len(self._ledger.events)

    def lacks(self, known: int) -> bool:
        """Whether the store has less than the first `known` events, or not all their files."""
        return min(self._note.rows, self._note.files) < known

    @property
    def answered(self) -> float:
        """When the store last took a step, by this process's monotonic clock.

        One that takes the first request of a step at every try, and never the second, brings
        nothing.
        """
        experiment = self._experiment
        return self._answered if experiment is None else max(self._answered, experiment.answered)

    def is_sure(self) -> bool:
        """Whether no call failed since the runs were looked up last; else look them up next time.

        A call that had failed may have made a run nevertheless.
        """
        if self._troubled:
            self._troubled = False
            self._drop()
            return False
        return True

    def abandon(self, reason: str) -> None:
        """Deliver no more: the store has not answered for too long."""
        self._abandoned = True
        self.error = self.error or reason

    def take(self, steps: Iterable[Step], patience: float = PATIENCE) -> bool:
        """Take further steps, each again until the store has taken nothing for some time.

        Args:
            steps: what to do.
            patience: seconds to try for while nothing is taken.

        Returns:
            False, with `error` set, if some are left.
        """
        left, begun, pause = deque(steps), time.monotonic(), PAUSE
        while not self._abandoned:
            before = len(left)
            if self._try(lambda experiment: self._take_all(left, experiment)):
                return True
            now = time.monotonic()
            begun, pause = (now, PAUSE) if len(left) < before else (begun, min(2 * pause, 1.0))
            if now - max(begun, self.answered) > patience:
                return False
            time.sleep(pause)
        return False

    def try_deliver(self, known: int) -> bool:
        """Deliver a part of what the store lacks: rows, or files where it has all rows.

        Args:
            known: events of the ledger that may be delivered by now.

        Returns:
            False, with `error` set, if that failed and is to be tried again.
        """
        return self._try(lambda experiment: self._deliver(experiment, known))

    def _try(self, use: Callable[[Experiment], None]) -> bool:
        try:
            use(self._connected())
        except Exception as error:  # whatever a store may raise, rows are kept and tried again
            reason = said_by_store(error, self._output.tracking_uri)
            self.error, self._troubled = reason, True
            self._failures += 1
            if self._failures == MOST_FAILURES:  # else it fails now and then, and goes on
                logger.warning("MLflow takes no rows, which are kept until it does: %s", reason)
            if self._failures % MOST_FAILURES == 0:  # it may be another store by now
                self._drop()
            return False
        self.error, self._failures = "", 0
        return True

    def _drop(self) -> None:
        self._answered, self._experiment = self.answered, None

    def _deliver(self, experiment: Experiment, known: int) -> None:
        if not self._steps:
            self._plan(known)
        self._take_all(self._steps, experiment)
        self._advance(*self._part)

    def _take_all(self, steps: deque[Step], experiment: Experiment) -> None:
        """Take steps, each of which is gone once it is taken."""
        while steps:
            steps[0](experiment)
            steps.popleft()
            self._failures, self._answered = 0, time.monotonic()

    def _plan(self, known: int) -> None:
        """Choose the next part, if there is one."""
        self._part = 0, 0
        if events := self._events_from(self._note.rows, known):
            self._steps, self._part = deque(self._loader.rows(events)), (len(events), 0)
        elif events := self._events_from(self._note.files, known):
            first = not self._note.files
            steps = self._loader.files(events, with_config=first)
            self._steps, self._part = deque(steps), (0, len(events))

    def _events_from(self, first: int, known: int) -> list[Event]:
        return self._ledger.events[first : min(first + CHUNK, known)]

    def _advance(self, rows: int, files: int) -> None:
        if rows or files:
            self._answered = time.monotonic()
            self._note.write(rows=self._note.rows + rows, files=self._note.files + files)

    def _connected(self) -> Experiment:
        experiment = self._experiment
        if experiment is None:
            output, artifacts = self._output, None
            if output.is_database:
                artifacts = (output.artifacts / self._folder.id).as_uri()
            experiment = Experiment(output.tracking_uri, self._identity, artifacts)
            self._experiment = experiment
        if not experiment.is_known:
            experiment.look_up()
            if self._note.anew:
                experiment.forget()
            if experiment.made != self._note.experiment or experiment.repeated:
                self._note.write(experiment=experiment.made, rows=0, files=0)
                self._steps.clear()
            self.asked = True
        experiment.delete_repeated()
        if self._note.anew:
            self._note.anew = False
            self._note.write()
        experiment.sweep_run()
        return experiment
