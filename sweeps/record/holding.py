"""Holding a sweep: one process at a time runs or delivers it on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from luceloop.core.errors import ConfigError
from luceloop.sweeps.record.folders import SweepFolder


@contextmanager
def held(folder: SweepFolder) -> Iterator[None]:
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
