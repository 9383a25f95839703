"""Locks on storage that all nodes see: real ones on paths, leases on object stores."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout
from upath import UPath

from luceloop.core.errors import one_line
from luceloop.core.io.places import Folder, open_whole

logger = logging.getLogger(__name__)

RENEW = 10.0
"""Seconds after which the holder of a lease says that it is alive."""
DEAD = 60.0
"""Seconds of silence after which a lease is free for others."""
POLL = 1.0
"""Seconds between looks at a lease that somebody holds."""


class Lock(Protocol):
    """What only one process holds at a time."""

    def acquire(self, timeout: float = -1.0) -> contextlib.AbstractContextManager[object]:
        """Hold it; `filelock.Timeout` after `timeout` seconds, never if negative."""


def lock(file: Folder, holder: str = "") -> Lock:
    """The lock beside a file or of a name: it is free once its holder has died.

    Args:
        file: what is locked.
        holder: who asks, where nobody alive but this process goes by that name: what is left of
            an earlier one need not be waited for. Any process if not given.
    """
    named = file.with_name(f"{file.name}.lock")
    return FileLock(named) if isinstance(named, Path) else Lease(named, holder)


class Lease:
    """A lock on storage that has none: a file that its holder writes anew every few seconds.

    Of two that wait for a holder who died, both may go on: what it guards must bear that.
    """

    def __init__(self, file: UPath, holder: str = "") -> None:
        self._file, self._holder = file, holder
        self._seen: tuple[bytes | None, float] = (None, 0.0)
        """What another holder wrote, and when that was first seen, by our own clock."""

    @contextmanager
    def acquire(self, timeout: float = -1.0) -> Iterator[None]:
        """Hold the lease.

        Args:
            timeout: seconds to wait for another holder; without end if negative.

        Raises:
            Timeout: if another holder is alive for so long.
        """
        own, started = self._holder or uuid.uuid4().hex, time.monotonic()
        while not self._take(own):
            if 0 <= timeout <= time.monotonic() - started:
                raise Timeout(str(self._file))
            time.sleep(POLL)
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(own, ended), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            self._release(own)

    def _take(self, own: str) -> bool:
        held = self._read()
        if held is not None:
            if held != self._seen[0]:
                self._seen = (held, time.monotonic())
            if not self._is_held_by(own) and time.monotonic() - self._seen[1] < DEAD:
                return False
            self._delete()
        content = f"{own} 0".encode()
        with contextlib.suppress(FileExistsError):
            self._file.fs.pipe_file(self._file.path, content, mode="create")
        return self._read() == content  # not every filesystem knows that mode

    def _is_held_by(self, own: str) -> bool:
        return (self._read() or b"").startswith(f"{own} ".encode())

    def _read(self) -> bytes | None:
        try:
            with open_whole(self._file) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _release(self, own: str) -> None:
        try:
            if self._is_held_by(own):
                self._delete()
        except Exception as error:  # what was done is done; others wait a little longer
            logger.warning("cannot release %s: %s", self._file, one_line(error))

    def _delete(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._file.fs.rm_file(self._file.path)

    def _renew(self, own: str, ended: threading.Event) -> None:
        count = 0
        while not ended.wait(RENEW):
            count += 1
            try:
                if not self._is_held_by(own):
                    logger.warning("%s was taken over after a silence of ours", self._file)
                    return
                self._file.fs.pipe_file(self._file.path, f"{own} {count}".encode())
            except Exception as error:  # others may work on the same thing then: no harm but that
                logger.warning("cannot renew %s: %s", self._file, one_line(error))
