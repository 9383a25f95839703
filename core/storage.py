"""Folders and files that all nodes of a cluster see: shared paths, or fsspec URLs.

A local `Path` stays one; everything else is a `UPath`, which has the same methods. URLs of object
stores have neither locks nor renaming: a file there is written in one request, and a `Lease`
stands in for a lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from upath import UPath

from core.errors import ConfigError, one_line, without_password
from core.files import new_file

logger = logging.getLogger(__name__)

Folder = Path | UPath
"""A local path where it is a `Path`, else a URL."""

RENEW = 10.0
"""Seconds after which the holder of a lease says that it is alive."""
DEAD = 60.0
"""Seconds of silence after which a lease is free for others."""
POLL = 1.0
"""Seconds between looks at a lease that somebody holds."""


def is_url(text: str) -> bool:
    """Whether `text` is a URL and not a path."""
    return "://" in text


def open_folder(key: str, text: str) -> Folder:
    """The folder that `text` names, a path or an fsspec URL; nothing is created.

    Args:
        key: what it is called in an error.
        text: a path, of which a relative one starts here, or a URL without a password.

    Raises:
        ConfigError: if it is no folder that several processes can share, or its package is missing.
    """
    if not is_url(text):
        return Path(text).expanduser().absolute()
    refuse_password(key, text)
    try:
        found = UPath(text.rstrip("/"))
        filesystem = found.fs
    except (ValueError, ImportError, OSError) as error:
        allowed = f"must be a path or an fsspec URL like s3://bucket/folder: {one_line(error)}"
        raise ConfigError(key, text, allowed) from None
    if found.protocol in ("file", "local"):
        return Path(found.path)
    if found.protocol == "memory" or "::" in text or filesystem.protocol == "memory":
        raise ConfigError(key, text, "must be storage that all processes share")
    return found


def refuse_password(key: str, url: str) -> None:
    """Let no URL pass that holds a password: it would be shown, and written down.

    Raises:
        ConfigError: naming `key`, without the password.
    """
    if urlsplit(url).password is not None:
        allowed = "must hold no password: credentials belong in the environment of the nodes"
        raise ConfigError(key, without_password(url), allowed)


def try_writing(key: str, folder: Folder) -> None:
    """Create a folder if need be, of a URL no bucket and no parent; write a file and remove it.

    Raises:
        ConfigError: naming `key`, if that fails.
    """
    file = folder / f".luceloop-{uuid.uuid4().hex}"
    try:
        if isinstance(folder, Path):
            folder.mkdir(parents=True, exist_ok=True)
        else:
            with contextlib.suppress(FileExistsError):
                folder.fs.mkdir(folder.path, create_parents=False)
        write_whole(b"", file)
        file.unlink()
    except Exception as error:  # every filesystem has its own
        raise ConfigError(key, str(folder), f"cannot be written: {one_line(error)}") from error


def open_whole(file: Folder) -> BinaryIO:
    """A file to read, of a URL all of it at once.

    Raises:
        FileNotFoundError: if there is none.
    """
    if isinstance(file, Path):
        return file.open("rb")
    return io.BytesIO(file.fs.cat_file(file.path))


def write_whole(content: bytes | memoryview, file: Folder) -> None:
    """Write a file that is there whole or not at all, as far as its filesystem can promise."""
    if isinstance(file, Path):
        with new_file(file) as opened:
            opened.write(content)
    else:
        file.fs.pipe_file(file.path, bytes(content))


def listed(folder: Folder, pattern: str) -> list[Folder]:
    """What in a folder fits a pattern of names now, sorted; nothing if there is no folder."""
    if not isinstance(folder, Path):
        folder.fs.invalidate_cache()  # others write there, too
    return sorted(folder.glob(pattern), key=str)


def files_in(folder: Folder) -> list[Folder]:
    """All files beneath a folder now."""
    if isinstance(folder, Path):
        return [file for file in sorted(folder.rglob("*")) if file.is_file()]
    folder.fs.invalidate_cache()
    skip = len(folder.path.rstrip("/")) + 1
    return [folder / str(file)[skip:] for file in sorted(folder.fs.find(folder.path))]


def remove_folders(folders: Sequence[Folder]) -> None:
    """Delete folders of one filesystem with all that they hold; those that are gone are."""
    urls: list[UPath] = []
    for folder in folders:
        if not isinstance(folder, Path):
            urls.append(folder)
        elif folder.exists():
            shutil.rmtree(folder)
    if urls:
        urls[0].fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            urls[0].fs.rm([url.path for url in urls], recursive=True)


def local_file(key: str, name: str) -> Path:
    """A file that a configuration names, on this machine; of a URL a copy, fetched once.

    Copies are kept in the user's cache folder, by the file's version.

    Raises:
        ConfigError: naming `key`, if there is no such file, or it cannot be fetched.
    """
    if not is_url(name):
        if not Path(name).is_file():
            raise ConfigError(key, name, "no such file")
        return Path(name)
    parent = open_folder(key, name.rpartition("/")[0])
    source = parent / name.rpartition("/")[2]
    if isinstance(source, Path):
        return local_file(key, str(source))
    try:
        return _fetch(source)
    except FileNotFoundError:
        raise ConfigError(key, name, "no such file") from None
    except Exception as error:  # every filesystem has its own
        raise ConfigError(key, name, f"cannot be read: {one_line(error)}") from error


def _fetch(source: UPath) -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "luceloop"
    version = f"{source} {source.fs.ukey(source.path)}"
    copy = folder / f"{hashlib.sha256(version.encode()).hexdigest()[:24]}-{source.name}"
    if not copy.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as there, new_file(copy) as here:
            shutil.copyfileobj(there, here)
    return copy


class Lock(Protocol):
    """What only one process holds at a time."""

    def acquire(self, timeout: float = -1.0) -> contextlib.AbstractContextManager[object]:
        """Hold it; `filelock.Timeout` after `timeout` seconds, never if negative."""


def lock(file: Folder) -> Lock:
    """The lock beside a file or of a name: it is free once its holder has died."""
    named = file.with_name(f"{file.name}.lock")
    return FileLock(named) if isinstance(named, Path) else Lease(named)


class Lease:
    """A lock on storage that has none: a file that its holder writes anew every few seconds.

    It saves work and protects nothing: of two that wait for a holder who died, both may go on.
    """

    def __init__(self, file: UPath) -> None:
        self._file = file
        self._seen: tuple[bytes, float] = (b"", 0.0)
        """What another holder wrote, and when that was first seen, by our own clock."""

    @contextmanager
    def acquire(self, timeout: float = -1.0) -> Iterator[None]:
        """Hold the lease.

        Args:
            timeout: seconds to wait for another holder; without end if negative.

        Raises:
            Timeout: if another holder is alive for so long.
        """
        own, started = uuid.uuid4().hex, time.monotonic()
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
            self._delete()

    def _take(self, own: str) -> bool:
        held = self._read()
        if held is not None:
            if held != self._seen[0]:
                self._seen = (held, time.monotonic())
            if time.monotonic() - self._seen[1] < DEAD:
                return False
            self._delete()
        content = f"{own} 0".encode()
        with contextlib.suppress(FileExistsError):
            self._file.fs.pipe_file(self._file.path, content, mode="create")
        return self._read() == content  # not every filesystem knows that mode

    def _read(self) -> bytes | None:
        try:
            return bytes(self._file.fs.cat_file(self._file.path))
        except FileNotFoundError:
            return None

    def _delete(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._file.fs.rm_file(self._file.path)

    def _renew(self, own: str, ended: threading.Event) -> None:
        count = 0
        while not ended.wait(RENEW):
            count += 1
            try:
                self._file.fs.pipe_file(self._file.path, f"{own} {count}".encode())
            except Exception as error:  # others may work on the same thing then: no harm but that
                logger.warning("cannot renew %s: %s", self._file, one_line(error))
