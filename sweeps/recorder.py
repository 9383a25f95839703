"""Between Tune and the ledger: what trials report goes on record, and where they stood is found."""

from __future__ import annotations

import errno
import io
import logging
import os
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.tune import Callback

from luceloop.core.errors import StorageError
from luceloop.core.files import says_full, write_atomically
from luceloop.core.storage import Folder, listed, remove_folder
from luceloop.sweeps.ledger import Ledger
from luceloop.sweeps.output import SweepFolder
from luceloop.sweeps.progress import Progress
from luceloop.workers.trial import CHECKPOINT, read_checkpoint

logger = logging.getLogger(__name__)

FOLDERS = "attempt-*/point-*/checkpoint_*"
"""Of checkpoints, in the order of their age."""
REMOVERS = 4
"""Threads that delete old checkpoints."""
GRID = 64
"""Images in a picture of an iteration."""


class Recorder(Callback):
    """Puts what trials report on record."""

    def __init__(
        self,
        folder: SweepFolder,
        ledger: Ledger,
        stopped: Mapping[int, str],
        progress: Progress,
    ) -> None:
        self._folder, self._ledger = folder, ledger
        self._stopped, self._progress = stopped, progress
        self._tune = folder.tune
        self._checkpoints: dict[int, deque[Folder]] = defaultdict(deque)
        """Folders of each point's newest ones."""
        self._remover = ThreadPoolExecutor(REMOVERS, "old-checkpoints")
        """Trials must not wait for storage that is slow to delete."""

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
        """Record a row, or why there is none."""
        index = result["index"]
        if "failed" in result:
            self._ledger.end_point(index, "failed", result["failed"], result["traceback"])
        else:
            step, arrays = result["iteration"], result["arrays"]
            _save(self._folder.preview(index, step), samples=arrays.get("preview"))
            _save_grid(self._folder.preview_image(index, step), arrays.get("preview"))
            _save(self._folder.initial_reward(index), reward=arrays.get("reward"))
            arrays.clear()  # Tune keeps the last report of every trial
            if not self._ledger.add_iteration(index, step, result["metrics"]):
                return
        self._progress.show(self._ledger.points[index])

    def on_checkpoint(
        self, iteration: int, trials: Any, trial: Any, checkpoint: Any, **info: Any
    ) -> None:
        """Keep a trial's two newest checkpoints.

        Tune could do that by `num_to_keep`, but then snapshots the whole experiment every time.
        """
        kept = self._checkpoints[trial.config["index"]]
        folder = self._tune.joinpath(*Path(checkpoint.path).parts[-3:])
        if folder not in kept:
            kept.append(folder)
        while len(kept) > 2:
            self._remover.submit(_remove, kept.popleft())

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait until old checkpoints are gone, unless the sweep was cut short."""
        self._remover.shutdown(cancel_futures=kind is not None)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Record that a point is done, or was stopped early."""
        index = trial.config["index"]
        reason = self._stopped.get(index, "")
        if self._ledger.end_point(index, "stopped" if reason else "done", reason):
            self._progress.show(self._ledger.points[index])

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Record a point whose process failed beyond its retries; resuming tries it again."""
        index = trial.config["index"]
        reason, text = _why_failed(trial)
        if self._ledger.end_point(index, "lost", reason, text):
            self._progress.show(self._ledger.points[index])

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Say that a point's process failed and is started again."""
        reason, _ = _why_failed(trial)
        logger.warning("point %s starts again: %s", trial.config["index"], reason)


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
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "the trial's process failed and left no reason"), text


def _save_grid(path: Path, preview: np.ndarray | None) -> None:
    """Write some of the first seed's samples as one picture, where they are images."""
    pictures = preview is not None and preview.ndim == 5 and preview.shape[2] in (1, 3)
    if preview is None or not pictures or preview.size == 0:
        return
    from torchvision.utils import save_image  # seconds, that only a sweep of images needs

    images = torch.from_numpy(preview[0, :GRID].copy())
    file = io.BytesIO()
    save_image(images, file, "png", nrow=8, normalize=True, value_range=(-1, 1), pad_value=1.0)
    write_atomically(file.getbuffer(), path, durable=False)


def _save(path: Path, **arrays: np.ndarray | None) -> None:
    """Write arrays that a trial reported, all or nothing; it leaves out what it did not compute."""
    if any(array is None or array.size == 0 for array in arrays.values()):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    np.savez_compressed(file, **cast(Any, arrays))
    write_atomically(file.getbuffer(), path, durable=False)


def _remove(folder: Folder) -> None:
    """Delete a checkpoint; one that stays does no harm, and goes when its point has ended."""
    try:
        remove_folder(folder)
    except Exception as error:  # every filesystem has its own
        logger.warning("cannot delete the old checkpoint %s: %s", folder, error)


class Checkpoints:
    """Tune's checkpoints of earlier attempts at a sweep, as they are when this is made."""

    def __init__(self, folder: SweepFolder) -> None:
        self._tune = folder.tune
        attempts = [found.name for found in listed(self._tune, "attempt-*")]
        last = max((int(name.removeprefix("attempt-")) for name in attempts), default=0)
        self.next_attempt = f"attempt-{last + 1:04d}"
        """Name of the next one."""
        self._found: dict[int, list[Folder]] = defaultdict(list)
        for file in listed(self._tune, f"{FOLDERS}/{CHECKPOINT}"):
            self._found[_index(file.parent)].append(file.parent)

    def newest(self, index: int) -> str | None:
        """A point's newest readable checkpoint, a folder; None to start the point anew."""
        for folder in reversed(self._found[index]):
            try:
                read_checkpoint(folder)
            except StorageError:
                raise
            except Exception as error:  # a torn file can fail in any way; the one before serves
                logger.warning("skipping unreadable checkpoint %s: %s", folder, error)
            else:
                return str(folder)
        return None

    def remove(self, points: Iterable[int]) -> None:
        """Delete the checkpoints of points that have ended, those of this attempt included."""
        ended = set(points)
        try:
            folders = listed(self._tune, FOLDERS)
        except StorageError as error:
            logger.warning("old checkpoints stay where they are: %s", error)
            return
        with ThreadPoolExecutor(REMOVERS, "old-checkpoints") as remover:
            list(remover.map(_remove, [folder for folder in folders if _index(folder) in ended]))


def for_ray(folder: Folder) -> tuple[PyFileSystem | None, str]:
    """A folder as Ray names it: a filesystem, unless it is the local one, and a path on it."""
    if isinstance(folder, Path):
        return None, str(folder)
    return PyFileSystem(FSSpecHandler(folder.fs)), folder.path


def _index(checkpoint: Folder) -> int:
    """The point that a checkpoint's folder belongs to."""
    return int(checkpoint.parent.name.removeprefix("point-"))
