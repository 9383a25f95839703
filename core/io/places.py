"""Folders and files that all nodes of a cluster see: shared paths, or URLs of object stores.

A local `Path` stays one; everything else is a `UPath` of fsspec's, which has the same methods. An
object store has neither folders nor renaming: a file there is written in one request.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from upath import UPath

from luceloop.core.errors import ConfigError, StorageError, one_line, without_password
from luceloop.core.io.files import new_file
from luceloop.core.text import is_plain

Folder = Path | UPath
"""A local path where it is a `Path`, else a URL."""


def is_url(text: str) -> bool:
    """Whether `text` is a URL and not a path."""
    return "://" in text


def check_path(key: str, text: str) -> str:
    """`text`, if it can name a file or a folder.

    Raises:
        ConfigError: naming `key`, if it holds what no name of a file should.
    """
    if not text or not is_plain(text):
        allowed = "must be a path or a URL without line breaks and other control characters"
        raise ConfigError(key, text, allowed)
    return text


def open_folder(key: str, text: str) -> Folder:
    """The folder that `text` names, a path or an fsspec URL; nothing is created.

    Args:
        key: what it is called in an error.
        text: a path, of which a relative one starts here, or a URL without a password.

    Raises:
        ConfigError: if it is no folder that several processes can share, or its package is missing.
    """
    check_path(key, text)
    if re.match(r"[a-z][a-z0-9+]+:/[^/]", text):
        raise ConfigError(key, text, "must be a path, or a URL with two slashes after the colon")
    if not is_url(text):
        return Path(text).expanduser().absolute()
    found = _open_url(key, text)
    if isinstance(found, UPath) and found.protocol == "memory":
        raise ConfigError(key, text, "must be storage that all processes share")
    # Workers are told its name, which for some filesystems leaves out the host.
    if isinstance(found, UPath) and UPath(str(found)).storage_options != found.storage_options:
        raise ConfigError(key, text, "must be a path, or a URL like s3://, gs:// or az://")
    return _connected(key, found)


def _open_url(key: str, url: str) -> Folder:
    refuse_password(key, url)
    try:
        if "::" in url or not url.partition("://")[2].strip("/"):
            raise ValueError("it names no place")
        found = UPath(url.rstrip("/"))
    except ValueError as error:
        allowed = f"must be a path or an fsspec URL like s3://bucket/folder: {one_line(error)}"
        raise ConfigError(key, url, allowed) from None
    return Path(found.path) if found.protocol in ("file", "local") else found


def _connected(key: str, place: Folder) -> Folder:
    """The same, if this machine has what its filesystem needs."""
    try:
        _ = place.fs if isinstance(place, UPath) else None
    except Exception as error:  # every filesystem has its own
        raise ConfigError(key, str(place), f"cannot be opened: {one_line(error)}") from None
    return place


def refuse_password(key: str, url: str) -> None:
    """Let no URL pass that holds a password: it would be shown, and written down.

    Raises:
        ConfigError: naming `key`, without the password.
    """
    if re.search(r"://[^@\s]*:[^@\s]*@", url):
        shown = re.sub(r"://[^@\s]*@", "://", url)
        allowed = "must hold no password: credentials belong in the environment of the nodes"
        raise ConfigError(key, shown, allowed)


def make_folder(folder: Folder) -> None:
    """Create a folder, where folders are more than a part of their files' names."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)


def try_writing(key: str, folder: Folder) -> None:
    """Create a folder if need be, but no bucket; write a file and remove it.

    Raises:
        ConfigError: naming `key`, if that fails.
    """
    file = folder / f".luceloop-{uuid.uuid4().hex}"
    try:
        make_folder(folder)
        write_whole(b"", file)
        file.unlink()
    except Exception as error:  # every filesystem has its own
        cause = error.__cause__ if isinstance(error, StorageError) else error
        reason = "it is read-only"
        if isinstance(cause, Exception) and not isinstance(cause, NotImplementedError):
            reason = one_line(cause)
        raise ConfigError(key, str(folder), f"cannot be written: {reason}") from error


def open_whole(file: Folder) -> BinaryIO:
    """A file to read, of a URL all of it at once.

    Raises:
        FileNotFoundError: if there is none.
        StorageError: if a URL cannot be read.
    """
    if isinstance(file, Path):
        return file.open("rb")
    with _asking(file):
        return io.BytesIO(file.fs.cat_file(file.path))


def write_whole(content: bytes | memoryview, file: Folder) -> None:
    """Write a file that is there whole or not at all, as far as its filesystem can promise.

    Raises:
        StorageError: if a URL cannot be written.
    """
    if isinstance(file, Path):
        with new_file(file) as opened:
            opened.write(content)
    else:
        with _asking(file):
            file.fs.pipe_file(file.path, bytes(content))


def send_files(files: Mapping[Path, Folder]) -> None:
    """Copy files of this machine to other places of one filesystem, several at a time.

    Raises:
        StorageError: if a URL cannot be written.
    """
    urls: dict[str, str] = {}
    for here, there in files.items():
        if isinstance(there, Path):
            make_folder(there.parent)
            write_whole(here.read_bytes(), there)
        else:
            urls[str(here)] = there.path
    if urls:
        there = next(iter(files.values()))
        assert isinstance(there, UPath)
        with _asking(there):
            there.fs.put(list(urls), list(urls.values()))


def fetch_files(files: Mapping[Folder, Path]) -> None:
    """Copy files of one filesystem to this machine, several at a time.

    Raises:
        StorageError: if a URL cannot be read.
    """
    urls: dict[str, str] = {}
    for there, here in files.items():
        make_folder(here.parent)
        if isinstance(there, Path):
            write_whole(there.read_bytes(), here)
        else:
            urls[there.path] = str(here)
    if urls:
        there = next(iter(files))
        assert isinstance(there, UPath)
        with _asking(there):
            there.fs.get(list(urls), list(urls.values()))


def listed(folder: Folder, pattern: str) -> list[Folder]:
    """What in a folder fits a pattern of names now, sorted; nothing if there is no folder.

    Raises:
        StorageError: if a URL cannot be listed.
    """
    if isinstance(folder, Path):
        return sorted(folder.glob(pattern), key=str)
    with _asking(folder):
        folder.fs.invalidate_cache()  # others write there, too
        return sorted(folder.glob(pattern), key=str)


def files_in(folder: Folder) -> dict[str, Folder]:
    """All files beneath a folder now, by their place in it; none that is being written.

    Raises:
        StorageError: if a URL cannot be listed.
    """
    found: dict[str, Folder]
    if isinstance(folder, Path):
        paths = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        found = {file.relative_to(folder).as_posix(): file for file in paths}
    else:
        with _asking(folder):
            folder.fs.invalidate_cache()
            names = folder.fs.find(folder.path)
        skip = len(folder.path.rstrip("/")) + 1
        found = {name[skip:]: folder / name[skip:] for name in sorted(names)}
    return {place: file for place, file in found.items() if not file.name.startswith(".")}


def remove_file(file: Folder) -> None:
    """Delete a file.

    Raises:
        StorageError: if a URL cannot be deleted.
    """
    if isinstance(file, Path):
        file.unlink()
    else:
        with _asking(file):
            file.fs.rm_file(file.path)


def remove_folder(folder: Folder) -> None:
    """Delete a folder with all that it holds, if it is there.

    Raises:
        StorageError: if a URL cannot be deleted.
    """
    if isinstance(folder, Path):
        if folder.exists():
            shutil.rmtree(folder)
        return
    try:
        with _asking(folder):
            folder.fs.invalidate_cache()
            folder.fs.rm(folder.path, recursive=True)
    except FileNotFoundError:
        pass  # there are no folders but those with files


def local_file(key: str, name: str) -> Path:
    """A file that a configuration names, on this machine; of a URL a copy, fetched once.

    Copies are kept in the user's cache folder, by what the filesystem says of the file's version.

    Raises:
        ConfigError: naming `key`, if there is no such file, or it is no name of one.
        StorageError: if a URL cannot be read now.
    """
    source = _connected(key, _open_url(key, name)) if is_url(name) else Path(name)
    try:
        if isinstance(source, Path):
            found, exists = source, source.is_file()
        else:
            found, exists = _fetch(source), True
    except FileNotFoundError:
        exists = False
    if not exists:
        raise ConfigError(key, name, "no such file")
    return found


def _fetch(source: UPath) -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "luceloop"
    with _asking(source):
        source.fs.invalidate_cache()
        version = f"{source} {sorted(source.fs.info(source.path).items())}"
        copy = folder / f"{hashlib.sha256(version.encode()).hexdigest()[:24]}-{source.name}"
        if not copy.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as there, new_file(copy) as here:
                shutil.copyfileobj(there, here)
    return copy


@contextmanager
def _asking(place: UPath) -> Iterator[None]:
    """What a filesystem raises, as one kind of error; that a file is not there stays what it is."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # every filesystem has its own
        raise StorageError(f"{without_password(str(place))}: {one_line(error)}") from error
