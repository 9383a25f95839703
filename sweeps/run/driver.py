"""The driver of a sweep: points to Tune's trials, their reports to the ledger, it to MLflow.

The ledger is the truth. Tune schedules trials and restarts those that die; a new run of the same
sweep reads the ledger, skips what ended, and starts the rest from their newest checkpoint.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from luceloop.analysis.statistics.claims import Verdict
from luceloop.core.config.budget import BudgetConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.config.webhooks import hidden_in
from luceloop.core.errors import DiskFullError, SessionError, StorageError, one_line
from luceloop.core.io.files import says_full, write_atomically
from luceloop.core.io.holdings import Holdings
from luceloop.sweeps.costs.budget import Budget
from luceloop.sweeps.costs.recorded import Pricing
from luceloop.sweeps.notify.notice import Status
from luceloop.sweeps.notify.notifier import Ending, Notifier
from luceloop.sweeps.record.events import IterationDone
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.holding import held
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.record.mending import mend
from luceloop.sweeps.record.mirror import Mirror, mirrored
from luceloop.sweeps.record.provenance import PACKAGES, versions
from luceloop.sweeps.run.answers import answers, lasting_answers
from luceloop.sweeps.run.foreseen import Foresight, TimeTold
from luceloop.sweeps.run.progress import Progress, build_progress, duration
from luceloop.sweeps.run.reuse import Plan
from luceloop.sweeps.run.rounds import next_round
from luceloop.sweeps.run.session import ray_session
from luceloop.sweeps.run.settle import settle
from luceloop.sweeps.run.summary import in_words
from luceloop.sweeps.run.trials import Trials
from luceloop.sweeps.tracking.delivery import (
    Delivery,
    attach_environment,
    build_tracker,
    delivery_of,
)
from luceloop.sweeps.tracking.follower import Follower

STORE_PATIENCE = 30.0
"""Seconds a finished sweep waits for a tracking store that is down."""
ATTEMPTS = 3
"""Ray sessions in a row that may end without a new row on record before a sweep gives up."""
FULL_PATIENCE = 3.0
"""The same where the sweep ended because its disk is full, as the store may be on it too."""


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended."""

    folder: SweepFolder
    points: list[Point]
    """Those that have begun."""
    unfinished: int
    """Points that have not ended: the sweep was interrupted, or stopped at its budget."""
    delivery: Delivery
    stopped: str = ""
    """What limit of its budget it stopped at; empty if it did not."""

    @property
    def failed(self) -> list[Point]:
        """Points that came to nothing, by themselves or because their processes died."""
        return [point for point in self.points if point.status in ("failed", "lost")]

    @property
    def has_rows(self) -> bool:
        """Whether there is anything to draw."""
        return any(point.rows for point in self.points)


def run_sweep(
    folder: SweepFolder,
    output: Output,
    console: Console,
    *,
    accept: bool = False,
    limits: BudgetConfig | None = None,
) -> Outcome:
    """Run what is left of a sweep, from the start or after an interruption.

    Args:
        folder: the sweep's folder, its configuration in it.
        output: the output folder.
        console: where progress is shown.
        accept: whether to go on although files of the user's have changed since it began.
        limits: the budget of this run; that of the configuration if not given.

    Ctrl-C and SIGTERM end the run at once; nothing on record is lost. Ray is started and ended
    here, unless the caller has started it.

    Raises:
        ChangedFileError: naming a file that has changed, unless that is accepted.
        DiskFullError: if there is no room left in the output folder; nothing on record is lost.
    """
    with held(folder), mirrored(folder, partial(mend, folder, folder.config())) as mirror:
        folder.upgrade()
        files = settle(folder, folder.config(), accept=accept).files
        ledger = Ledger(folder.ledger)
        ledger.price = Pricing(folder.config()).plain
        try:
            budget = Budget(limits or folder.config().budget, folder.config(), ledger)
            with _told(folder, ledger) as endings:
                outcome = _run(folder, output, console, ledger, mirror, files, budget)
                endings.append(_ending(outcome))
                return outcome
        finally:
            ledger.close()


@contextmanager
def _told(folder: SweepFolder, ledger: Ledger) -> Iterator[list[Ending]]:
    """Tell the sweep's address of it; how it ended is put into the list that is yielded."""
    config, endings = folder.config(), list[Ending]()
    notifier = Notifier(folder, config, ledger, lambda: _claims_so_far(config, folder))
    notifier.start()
    try:
        yield endings
    except Exception as error:
        own = isinstance(error, DiskFullError | SessionError)
        said = str(error) if own else one_line(error)
        endings.append(Ending("error", said))
        raise
    except BaseException:  # Ctrl-C again
        endings.append(Ending("interrupted"))
        raise
    finally:
        notifier.close(endings[-1])


def _claims_so_far(config: SweepConfig, folder: SweepFolder) -> list[Verdict]:
    """Answers that stay so; where seeds are added by a rule, there are none before the end."""
    if config.seed_rule is None:
        return lasting_answers(config, folder)
    ledger = Ledger(folder.ledger, writable=False)
    if _count_unfinished(config, ledger, folder):
        return []
    return answers(config, ledger, folder)


def _ending(outcome: Outcome) -> Ending:
    status: Status = "failed" if outcome.failed else "done"
    if outcome.unfinished:
        status = "stopped" if outcome.stopped else "interrupted"
    return Ending(status, outcome.stopped, outcome.delivery.undelivered)


def _run(
    folder: SweepFolder,
    output: Output,
    console: Console,
    ledger: Ledger,
    mirror: Mirror | None,
    files: Holdings,
    budget: Budget,
) -> Outcome:
    config = folder.config()
    tracker = build_tracker(output, folder, ledger)
    follower = Follower(ledger, tracker, mirror)
    patience, stopped = STORE_PATIENCE, ""
    try:
        write_atomically(json.dumps(_environment(folder.address), indent=2), folder.environment)
        follower.start()
        stopped = _run_trials(config, folder, ledger, console, files, budget)
    except KeyboardInterrupt:
        console.print("interrupted; everything on record is kept", highlight=False)
    except Exception as error:  # Ray's and Tune's own wrap what the disk says
        if not says_full(str(error)):
            raise
        patience = FULL_PATIENCE
        raise DiskFullError(_full_disk(folder)) from error
    finally:
        follower.close(patience)
    if not tracker.undelivered:
        attach_environment(tracker, folder)
    points = list(ledger.points.values())
    unfinished = _count_unfinished(config, ledger, folder)
    draws = not unfinished or bool(stopped)
    delivery = delivery_of(tracker, len(ledger.events), figures=draws)
    return Outcome(folder, points, unfinished, delivery, stopped)


def _run_trials(
    config: SweepConfig,
    folder: SweepFolder,
    ledger: Ledger,
    console: Console,
    files: Holdings,
    budget: Budget,
) -> str:
    """Run the points that have not ended, if there are any, until the budget is reached.

    Returns:
        What limit of it was reached; empty if all points have ended.
    """
    if not config.search.learns:  # a search that learned from the loss has gone on without
        ledger.reopen_lost()
    total = config.point_count
    if not _count_unfinished(config, ledger, folder) or budget.is_reached():
        return _stopped(config, ledger, folder, budget)
    progress = build_progress(console, config, ledger, total)

    def attempt(first: bool) -> None:
        hint = f"everything on record is kept; go on with: luceloop resume {folder.id}"
        with ray_session(hint) as watch:
            trials = Trials(config, folder, ledger, files, budget)
            if first and not ledger.points:
                _print_plan(trials.plan(), console)
            shown = _foretold(trials.foresight, progress, console, ledger) if first else progress
            trials.run(shown, watch)

    try:
        _persist(attempt, config, ledger, progress)
    finally:
        progress.close()
    return _stopped(config, ledger, folder, budget)


def _persist(
    attempt: Callable[[bool], None], config: SweepConfig, ledger: Ledger, progress: Progress
) -> None:
    """Go on in a new Ray session where one has ended; not for ever if nothing comes of it.

    Raises:
        SessionError: if the session is not ours to start anew, or `ATTEMPTS` ended without a row.
    """
    left, before, first = ATTEMPTS, _count_rows(ledger), True
    while True:
        try:
            return attempt(first)
        except SessionError as error:
            left = ATTEMPTS if _count_rows(ledger) > before else left - 1
            before, first = _count_rows(ledger), False
            if not (error.owned and left):
                raise
            progress.tell(f"{error.reason}; the sweep goes on in a new session")
            if not config.search.learns:
                ledger.reopen_lost()


def _count_rows(ledger: Ledger) -> int:
    return sum(isinstance(event, IterationDone) for event in ledger.events)


def _stopped(config: SweepConfig, ledger: Ledger, folder: SweepFolder, budget: Budget) -> str:
    """Put on record that the sweep has stopped at its budget, if it has; what was reached."""
    if not budget.reached or not _count_unfinished(config, ledger, folder):
        return ""
    ledger.stop(budget.reached)
    return budget.reached


def _count_unfinished(config: SweepConfig, ledger: Ledger, folder: SweepFolder) -> int:
    """Points that have not ended, or that are to get further seeds where all others have."""
    left = config.point_count - sum(p.status is not None for p in ledger.points.values())
    found = None if left else next_round(config, ledger, folder)
    return left if found is None else len(found.batches)


def _print_plan(plan: Plan | None, console: Console) -> None:
    """Print what is taken from other sweeps; a row is an iteration of a point, of one seed."""
    if plan is None:
        return
    left = plan.rows - plan.reused
    took = f"; they took {plan.seconds:.1f} s to compute" if plan.reused else ""
    lines = [
        f"{plan.reused} of {plan.rows} rows are on record and taken{took}",
        f"{left} rows are to be run",
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _foretold(
    foresight: Foresight, progress: Progress, console: Console, ledger: Ledger
) -> Progress:
    """Print what the sweep will cost; a progress that says how long, if that is not known yet."""
    told = TimeTold(progress, console, foresight, ledger)
    if foresight.remark:
        console.print(foresight.remark, highlight=False, soft_wrap=True)
    if any(point.rows for point in ledger.points.values()):
        told.tell_left("by what is on record")
        return progress
    try:
        estimate = foresight.estimate(measured=False)
    except StorageError as error:  # trials may find it there again
        console.print(f"no estimate: {error}", highlight=False, soft_wrap=True)
        return told
    for line in estimate.lines(in_words, duration):
        console.print(line, highlight=False, soft_wrap=True)
    return told if estimate.seconds is None else progress


def _full_disk(folder: SweepFolder) -> str:
    reason, places = os.strerror(errno.ENOSPC), [folder.path]
    if folder.has_own_storage and isinstance(folder.storage, Path):
        places.append(folder.storage)
    return (
        f"{reason} (ENOSPC) under {' or '.join(map(str, places))}: "
        f"the sweep ended, everything on record is kept; "
        f"make room, then: luceloop resume {folder.id}"
    )


def _environment(address: str) -> dict[str, Any]:
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: found for name, found in versions().items() if name in PACKAGES},
        "command": hidden_in(sys.argv, address),
    }
