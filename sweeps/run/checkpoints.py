"""Checkpoints of trials on the storage: the newest are kept, found again, and deleted."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyarrow.fs import FSSpecHandler, PyFileSystem

from luceloop.core.errors import StorageError
from luceloop.core.io.places import Folder, listed, remove_folder
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.workers.point_run import checkpoint_name, read_checkpoint

logger = logging.getLogger(__name__)

FILES = "attempt-*/point-*/checkpoint_*/loop-*.pt"
"""Of points in checkpoints, in the order of their age."""
REMOVERS = 4
"""Threads that delete old checkpoints."""
KEPT = 2
"""Newest checkpoints of a trial that stay: the last one may be torn."""


class NewestCheckpoints:
    """Keeps the newest checkpoints of every running trial, and deletes those before.

    Tune could do that by `num_to_keep`, but then snapshots the whole experiment every time.
    """

    def __init__(self, tune: Folder) -> None:
        """Name the folder of Tune's files."""
        self._tune = tune
        self._kept: dict[str, deque[Folder]] = defaultdict(deque)
        # Trials must not wait for storage that is slow to delete.
        self._remover = ThreadPoolExecutor(REMOVERS, "old-checkpoints")

    def add(self, path: str) -> None:
        """Take note of a trial's new checkpoint, a folder as Tune names it."""
        folder = self._tune.joinpath(*Path(path).parts[-3:])
        kept = self._kept[folder.parent.name]
        if folder not in kept:
            kept.append(folder)
        while len(kept) > KEPT:
            self._remover.submit(_remove, kept.popleft())

    def close(self, *, cancel: bool) -> None:
        """Wait until old checkpoints are gone, or leave what has not begun."""
        self._remover.shutdown(cancel_futures=cancel)


class Checkpoints:
    """Tune's checkpoints of earlier attempts at a sweep, as they are when this is made."""

    def __init__(self, folder: SweepFolder) -> None:
        self._tune = folder.tune
        attempts = [found.name for found in listed(self._tune, "attempt-*")]
        last = max((int(name.removeprefix("attempt-")) for name in attempts), default=0)
        self.next_attempt = f"attempt-{last + 1:04d}"
        """Name of the next one."""
        self._found: dict[str, list[Folder]] = defaultdict(list)
        for file in listed(self._tune, FILES):
            self._found[file.name].append(file.parent)

    def newest(self, index: int, batch: int = 0) -> str | None:
        """A point's newest readable checkpoint, a folder; None to start the point anew."""
        for folder in reversed(self._found[checkpoint_name(index, batch)]):
            try:
                read_checkpoint(folder, index, batch)
            except StorageError:
                raise
            except Exception as error:  # a torn file can fail in any way; the one before serves
                logger.warning("skipping unreadable checkpoint %s: %s", folder, error)
            else:
                return str(folder)
        return None

    def remove(self, points: Iterable[int]) -> None:
        """Delete the checkpoints of points that have ended, those of this attempt included."""
        ended, folders = set(points), defaultdict[Folder, set[int]](set)
        try:
            for file in listed(self._tune, FILES):
                folders[file.parent].add(_index(file))
        except StorageError as error:
            logger.warning("old checkpoints stay where they are: %s", error)
            return
        with ThreadPoolExecutor(REMOVERS, "old-checkpoints") as remover:
            list(remover.map(_remove, [f for f, points in folders.items() if points <= ended]))


def for_ray(folder: Folder) -> tuple[PyFileSystem | None, str]:
    """A folder as Ray names it: a filesystem, unless it is the local one, and a path on it."""
    if isinstance(folder, Path):
        return None, str(folder)
    return PyFileSystem(FSSpecHandler(folder.fs)), folder.path


def _index(file: Folder) -> int:
    """The point that a file of a checkpoint belongs to."""
    return int(file.name.removeprefix("loop-").removesuffix(".pt").partition("-")[0])


def _remove(folder: Folder) -> None:
    """Delete a checkpoint; one that stays does no harm, and goes when its point has ended."""
    try:
        remove_folder(folder)
    except Exception as error:  # every filesystem has its own
        logger.warning("cannot delete the old checkpoint %s: %s", folder, error)
