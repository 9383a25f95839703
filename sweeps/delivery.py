"""Giving MLflow what it lacks of a sweep: at the end of a run, or later by `luceloop sync`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from luceloop.core.config import Config
from luceloop.core.errors import ConfigError
from luceloop.sweeps.experiment import Experiment, SweepIdentity
from luceloop.sweeps.ledger import Ledger
from luceloop.sweeps.mirror import Mirror, mirrored
from luceloop.sweeps.naming import describe
from luceloop.sweeps.output import Output, SweepFolder
from luceloop.sweeps.tracking import Tracker

PATIENCE = 15.0
"""Seconds that `sync` tries while a tracking store takes nothing."""


@dataclass(frozen=True)
class Delivery:
    """What a tracking store has of a sweep."""

    events: int
    """On record."""
    undelivered: int
    """Of them, those that the store does not have."""
    error: str
    """Why something is missing, be it figures; empty if nothing is."""


@contextmanager
def alone(folder: SweepFolder) -> Iterator[None]:
    """Hold a sweep, so that no other process runs or delivers it.

    Raises:
        ConfigError: if another process holds it.
    """
    lock = FileLock(folder.path / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError("SWEEP", folder.id, "is being run by another process") from None
    try:
        yield
    finally:
        lock.release()


def sync(folder: SweepFolder, output: Output, finish: Callable[[], list[Path]]) -> Delivery:
    """Deliver what the store lacks of a sweep that no process runs; whatever it has stays as it is.

    Args:
        folder: the sweep's folder.
        output: the output folder.
        finish: draws the figures and the report of a sweep that has ended.
    """
    config = folder.config()
    with alone(folder), _copied_first(folder, config) as mirror:
        ledger = Ledger(folder.ledger, writable=False)
        identity = SweepIdentity(folder.id, config, describe(config))
        tracker = Tracker(output, folder, identity, mirror)
        tracker.start(ledger)
        tracker.close(PATIENCE)
        if not tracker.undelivered:
            complete(tracker, folder, finish if _has_ended(ledger, config) else None, again=False)
    return Delivery(len(ledger.events), tracker.undelivered, tracker.error)


def _copied_first(
    folder: SweepFolder, config: Config
) -> contextlib.AbstractContextManager[Mirror | None]:
    """Of a sweep that has ended nothing goes on elsewhere, and its storage may be gone."""
    ended = _has_ended(Ledger(folder.ledger, writable=False), config)
    return contextlib.nullcontext() if ended else mirrored(folder)


def _has_ended(ledger: Ledger, config: Config) -> bool:
    ended = [point for point in ledger.points.values() if point.status is not None]
    return len(ended) == config.point_count


def complete(
    tracker: Tracker,
    folder: SweepFolder,
    finish: Callable[[], list[Path]] | None,
    again: bool = True,
) -> None:
    """Attach what a sweep has beside its rows, and mark it as ended.

    Args:
        tracker: has been closed and has delivered all.
        folder: the sweep's folder.
        finish: draws figures and report; None for a sweep that has not ended.
        again: whether to draw them although the sweep is marked as ended.
    """

    def use(experiment: Experiment) -> None:
        run = experiment.sweep_run()
        if not again and finish is not None and experiment.is_ended(run):
            return
        if folder.environment.exists():
            experiment.log_file(run, folder.environment)
        if finish is not None:
            for path in finish():
                experiment.log_file(run, path, None if path == folder.report else "figures")
            experiment.end(run, "FINISHED")

    tracker.with_experiment(use)
