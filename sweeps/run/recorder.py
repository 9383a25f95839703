"""Between Tune and the ledger: what trials report goes on record."""

from __future__ import annotations

import errno
import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from ray.tune import Callback

from luceloop.core.errors import ChangedFileError
from luceloop.core.io.files import says_full, write_atomically
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.run.checkpoints import NewestCheckpoints
from luceloop.sweeps.run.progress import Progress
from luceloop.sweeps.run.reuse import Reuse
from luceloop.sweeps.search.journal import StudyJournal
from luceloop.workers.executor import LIKELY
from luceloop.workers.messages import (
    REAL,
    FailureReport,
    IterationReport,
    unpack_reports,
    unpack_setup,
)

logger = logging.getLogger(__name__)


class Recorder(Callback):
    """Puts what trials report on record."""

    def __init__(
        self,
        folder: SweepFolder,
        ledger: Ledger,
        stopped: Mapping[int, str],
        progress: Progress,
        journal: StudyJournal,
        reuse: Reuse | None = None,
    ) -> None:
        self._reuse = reuse
        self._folder, self._ledger = folder, ledger
        self._stopped, self._progress, self._journal = stopped, progress, journal
        self._checkpoints = NewestCheckpoints(folder.tune)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for a restore that we never ask of it."""
        return {}

    def on_trial_result(
        self,
        iteration: int,
        trials: Any,
        trial: Any,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Record a row of every point, or why there is none, and which points have ended."""
        for report in unpack_reports(result):
            if isinstance(report, FailureReport):
                self._ledger.end_point(report.index, "failed", report.reason, report.traceback)
            elif not self._add(report):
                continue
            self._progress.show(self._ledger.points[report.index])
            if isinstance(report, IterationReport) and report.is_last:
                self._end(report.index)
            elif report.index in self._stopped:
                self._end(report.index)

    def _end(self, index: int) -> None:
        """Record that a point is done, or was stopped early."""
        reason = self._stopped.get(index, "")
        if self._ledger.end_point(index, "stopped" if reason else "done", reason):
            self._progress.show(self._ledger.points[index])
            self._journal.update(self._ledger, index)

    def _add(self, report: IterationReport) -> bool:
        """Put an iteration on record, its files first; False if it was there already."""
        index, step, arrays = report.index, report.iteration, report.arrays
        if report.reused and self._reuse is not None:
            arrays = self._reuse.complete(report)
        before = self._seeds_before(index)
        preview, reward = self._folder.preview(index, step), self._folder.initial_reward(index)
        _save(preview, samples=_appended(preview, "samples", before, arrays.get("preview")))
        _save(reward, reward=_appended(reward, "reward", before, arrays.get("reward")))
        real = {n.removeprefix(REAL): a for n, a in arrays.items() if n.startswith(REAL)}
        _save(self._folder.real_rewards(index), **real)
        report.arrays.clear()  # Tune keeps the last report of every trial
        return self._ledger.add_iteration(index, step, report.metrics, report.reused)

    def _seeds_before(self, index: int) -> int:
        """Seeds of a point that are whole while further ones run; 0 while its first ones do."""
        point = self._ledger.points[index]
        return len(next(iter(point.rows[0].values()))) if point.batch else 0

    def on_checkpoint(
        self, iteration: int, trials: Any, trial: Any, checkpoint: Any, **info: Any
    ) -> None:
        """Keep a trial's newest checkpoints."""
        self._checkpoints.add(checkpoint.path)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait until old checkpoints are gone, unless the sweep was cut short."""
        self._checkpoints.close(cancel=kind is not None)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Record points whose process failed beyond its retries; resuming tries them again."""
        reason, text = _why_failed(trial)
        for point in unpack_setup(trial.config).points:
            if self._ledger.end_point(point.index, "lost", reason, text):
                self._progress.show(self._ledger.points[point.index])

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Say that a trial's process failed and is started again."""
        reason, _ = _why_failed(trial)
        points = [str(point.index) for point in unpack_setup(trial.config).points]
        word = "point" if len(points) == 1 else "points"
        logger.warning("%s %s started again: %s", word, ", ".join(points), reason)


DIED = "its worker process has died"
"""What Ray says of a process that ended without a word."""


def _why_failed(trial: Any) -> tuple[str, str]:
    """The last line of what a trial's process left, and all of it.

    Raises:
        OSError: if its disk is full; then no other try and no other trial can do better.
    """
    text = ""
    if trial.error_file and Path(trial.error_file).exists():
        text = Path(trial.error_file).read_text()
    if says_full(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if DIED in text:
        return f"the trial's process died: {LIKELY}", text
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "the trial's process failed and left no reason"
    return last.removeprefix(f"{ChangedFileError.__module__}.{ChangedFileError.__name__}: "), text


def _appended(path: Path, name: str, before: int, rows: np.ndarray | None) -> np.ndarray | None:
    """The first rows of an array on record, then these; None where either is missing."""
    if not before or rows is None or not rows.size:
        return rows
    if not path.exists():
        return None
    with np.load(path) as found:
        earlier = found[name][:before]
    return np.concatenate([earlier, rows]) if len(earlier) == before else None


def _save(path: Path, **arrays: np.ndarray | None) -> None:
    """Write arrays that a trial reported, all or nothing; it leaves out what it did not compute."""
    if not arrays or any(array is None or array.size == 0 for array in arrays.values()):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    np.savez_compressed(file, **cast(Any, arrays))
    write_atomically(file.getbuffer(), path, durable=False)
