"""Giving MLflow what it lacks of a sweep: at the end of a run, or later by `luceloop sync`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from luceloop.analysis.reading import labels
from luceloop.core.config.naming import describe
from luceloop.core.config.sweep import SweepConfig
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.holding import held
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.record.mirror import Mirror, mirrored
from luceloop.sweeps.tracking.experiment import Experiment, SweepIdentity
from luceloop.sweeps.tracking.follower import Follower
from luceloop.sweeps.tracking.load import Step, attaching
from luceloop.sweeps.tracking.tracker import Tracker

PATIENCE = 15.0
"""Seconds that `sync` tries while a tracking store takes nothing."""


@dataclass(frozen=True)
class Delivery:
    """What a tracking store has of a sweep."""

    events: int
    """On record."""
    undelivered: int
    """Of them, those that the store does not have."""
    error: str = ""
    """Why something is missing, be it figures; empty if nothing is."""
    figures: bool = True
    """Whether the sweep's figures are still to be attached: it is not marked as ended."""
    lacks_rows: bool = True
    """Whether rows are missing, where something is; else files are."""
    asked: bool = True
    """Whether the store was asked what it has; else that is what it had when it was asked last."""

    @property
    def lack(self) -> str:
        """What the store does of a sweep that it does not have whole: `lacks 3 events of`."""
        if not self.asked:
            return f"cannot be asked what it lacks of the {self.events} events of"
        if not self.undelivered:
            return "lacks figures and the report of"
        if self.lacks_rows:
            return f"lacks {self.undelivered} events of"
        return f"lacks files of {self.undelivered} events of"

    @property
    def is_whole(self) -> bool:
        """Whether the store has everything that was to be delivered."""
        return not self.undelivered and not self.error


def build_tracker(output: Output, folder: SweepFolder, ledger: Ledger) -> Tracker:
    """What delivers a sweep's ledger to the store of the output folder."""
    config = folder.config()
    identity = SweepIdentity(folder.id, config, describe(config))
    return Tracker(output, folder, identity, ledger)


def delivery_of(tracker: Tracker, events: int, *, figures: bool) -> Delivery:
    """What the store that a tracker delivers to has of a sweep.

    Args:
        tracker: which has ended.
        events: of the sweep's ledger.
        figures: whether figures are still to be attached.
    """
    return Delivery(
        events,
        tracker.undelivered,
        tracker.error,
        figures,
        lacks_rows=tracker.lacks_rows,
        asked=tracker.asked or tracker.undelivered == events,
    )


def sync(folder: SweepFolder, output: Output) -> Delivery:
    """Deliver what the store lacks of a sweep that no process runs; whatever it has stays as it is.

    Figures come afterwards: see `attach`.
    """
    config = folder.config()
    with held(folder), _copied_first(folder, config) as mirror:
        ledger = Ledger(folder.ledger, writable=False)
        tracker = build_tracker(output, folder, ledger)
        follower = Follower(ledger, tracker, mirror)
        follower.start()
        follower.close(PATIENCE)
        wanted = _has_ended(ledger, config)
        if not tracker.undelivered and not (wanted and _is_marked_as_ended(tracker)):
            attach_environment(tracker, folder)
        elif not tracker.undelivered:
            wanted = False
    return delivery_of(tracker, len(ledger.events), figures=wanted)


def _copied_first(
    folder: SweepFolder, config: SweepConfig
) -> contextlib.AbstractContextManager[Mirror | None]:
    """Of a sweep that has ended nothing goes on elsewhere, and its storage may be gone."""
    ended = _has_ended(Ledger(folder.ledger, writable=False), config)
    return contextlib.nullcontext() if ended else mirrored(folder)


def _has_ended(ledger: Ledger, config: SweepConfig) -> bool:
    ended = [point for point in ledger.points.values() if point.status is not None]
    return len(ended) == config.point_count or bool(ledger.stopped)


def attach_environment(tracker: Tracker, folder: SweepFolder) -> None:
    """Attach what the last run of a sweep ran on, and what its numbers come from."""
    steps: list[Step] = []
    if folder.environment.exists():
        steps += attaching(folder.environment)
    if folder.provenance_files.is_dir():  # without code of the user's there is none
        steps += attaching(folder.provenance_files, labels.PROVENANCE)
    if folder.provenance.exists():
        steps += attaching(folder.provenance, labels.PROVENANCE)
    tracker.take(steps)


def _is_marked_as_ended(tracker: Tracker) -> bool:
    marked = False

    def look(experiment: Experiment) -> None:
        nonlocal marked
        marked = experiment.is_ended(experiment.sweep_run())

    tracker.take([look])
    return marked


def attach(
    delivery: Delivery, output: Output, folder: SweepFolder, files: Sequence[Path]
) -> Delivery:
    """Attach the figures and the report of a sweep that has ended, and mark it so.

    Args:
        delivery: what the store has; nothing is attached where rows are missing.
        output: the output folder.
        folder: the sweep's folder.
        files: figures, and the report.
    """
    if not delivery.is_whole:
        return delivery
    tracker = build_tracker(output, folder, Ledger(folder.ledger, writable=False))

    steps: list[Step] = []
    for path in files:
        steps += attaching(path, None if path == folder.report else labels.FIGURES)
    steps.append(lambda experiment: experiment.end(experiment.sweep_run(), "FINISHED"))
    tracker.take(steps)
    return replace(delivery, error=tracker.error)
